"""The one step of this function."""

from datetime import date

import luxor_pipelines


def run(name: str, ref_date: date | None) -> luxor_pipelines.RunReport:
    """Run the pipeline that the request names."""
    return luxor_pipelines.run(name, ref_date=ref_date)
