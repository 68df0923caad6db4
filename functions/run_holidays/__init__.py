"""Each Monday at 06:00 UTC: calendars change rarely."""

import azure.functions as func

from luxor_pipelines import hosting
from run_holidays.run_holidays import run


def main(mytimer: func.TimerRequest, context: func.Context) -> None:
    """Run the steps; the host tries again when one fails."""
    hosting.on_timer(mytimer, run, context)
