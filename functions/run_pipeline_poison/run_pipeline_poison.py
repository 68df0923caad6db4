"""The one step of this function."""

from luxor_pipelines.operations.runs import RunReport, fail_run


def run(record: str, error: Exception) -> RunReport:
    """Record how the run ended."""
    return fail_run(record, error)
