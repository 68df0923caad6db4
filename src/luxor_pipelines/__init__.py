"""The pipelines of an investment firm's data lake, and the door to it.

from luxor_pipelines import LuxorQuery

lq = LuxorQuery()                                    # the lake the environment names
lq.get_hist_returns("2026-10-31", wide=True)         # stored returns, a column per period
lq.get_prices(["eurusd curncy"], period="12m", currency="brl")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luxor_pipelines import errors
    from luxor_pipelines.catalog import open_lake
    from luxor_pipelines.ingest import Altered, LoadResult, add_column, drop_column, incremental_load, save_table
    from luxor_pipelines.operations.backfill import backfill, catch_up
    from luxor_pipelines.operations.discovery import find_pipelines
    from luxor_pipelines.operations.records import RunReport, last_runs
    from luxor_pipelines.operations.runs import run
    from luxor_pipelines.query.luxor_query import LuxorQuery
    from luxor_pipelines.reports import plots

__version__ = "0.1.0"

__all__ = [
    "Altered",
    "LoadResult",
    "LuxorQuery",
    "RunReport",
    "__version__",
    "add_column",
    "backfill",
    "catch_up",
    "drop_column",
    "errors",
    "find_pipelines",
    "incremental_load",
    "last_runs",
    "open_lake",
    "plots",
    "run",
    "save_table",
]

# Loaded when first used: the command line must not wait for pandas to print its help.
_HOMES = {
    "Altered": "ingest",
    "LoadResult": "ingest",
    "LuxorQuery": "query.luxor_query",
    "RunReport": "operations.records",
    "add_column": "ingest",
    "backfill": "operations.backfill",
    "catch_up": "operations.backfill",
    "drop_column": "ingest",
    "find_pipelines": "operations.discovery",
    "incremental_load": "ingest",
    "last_runs": "operations.records",
    "open_lake": "catalog",
    "run": "operations.runs",
    "save_table": "ingest",
}
_MODULES = {"errors": "errors", "plots": "reports.plots"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"luxor_pipelines.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"luxor_pipelines.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
