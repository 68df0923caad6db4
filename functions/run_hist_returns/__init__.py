"""Each business day at 18:30 UTC, 15:30 in São Paulo."""

import azure.functions as func

from luxor_pipelines import hosting
from run_hist_returns.run_hist_returns import run


def main(mytimer: func.TimerRequest, context: func.Context) -> None:
    """Run the steps; the host tries again when one fails."""
    hosting.on_timer(mytimer, run, context)
