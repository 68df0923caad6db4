"""Each business day at 17:00 UTC, an hour or more after the European Central Bank publishes."""

import azure.functions as func

from luxor_pipelines import hosting
from run_fx_rates.run_fx_rates import run


def main(mytimer: func.TimerRequest, context: func.Context) -> None:
    """Run the steps; the host tries again when one fails."""
    hosting.on_timer(mytimer, run, context)
