"""The one step of this function."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import luxor_pipelines


def run(name: str, ref_date: date | None, params: Mapping[str, Any]) -> luxor_pipelines.RunReport:
    """Run the pipeline that the request names."""
    return luxor_pipelines.run(name, ref_date=ref_date, **params)
