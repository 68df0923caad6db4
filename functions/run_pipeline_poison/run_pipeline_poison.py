"""The one step of this function."""

from luxor_pipelines.operations.records import RunReport
from luxor_pipelines.operations.runs import fail_run


def run(record: str, error: Exception) -> RunReport:
    """Record how the run ended."""
    return fail_run(record, error)
