"""Do the runs that were queued over HTTP, one after the other."""

import azure.functions as func

from luxor_pipelines import hosting
from run_pipeline_queue.run_pipeline_queue import run


def main(message: func.QueueMessage, again: func.Out[str], context: func.Context) -> None:
    """Do the run; the host tries again when it fails."""
    hosting.on_queue(message, again, run, context)
