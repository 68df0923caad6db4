"""Record as failed the queued runs that the host has given up."""

import azure.functions as func

from luxor_pipelines import hosting
from run_pipeline_poison.run_pipeline_poison import run


def main(message: func.QueueMessage, context: func.Context) -> None:
    """Record the failure."""
    hosting.on_poison(message, run, context)
