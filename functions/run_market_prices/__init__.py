"""Each business day at 18:00 UTC, half an hour before the returns."""

import azure.functions as func

from luxor_pipelines import hosting
from run_market_prices.run_market_prices import run


def main(mytimer: func.TimerRequest, context: func.Context) -> None:
    """Run the steps; the host tries again when one fails."""
    hosting.on_timer(mytimer, run, context)
