"""The one step of this function."""

from luxor_pipelines.operations.records import RunReport
from luxor_pipelines.operations.runs import run_queued


def run(record: str) -> RunReport:
    """Do the run whose record the message names."""
    return run_queued(record)
