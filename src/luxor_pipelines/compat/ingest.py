"""`save_table` and `incremental_load` as the old library's scripts import them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from luxor_pipelines import ingest
from luxor_pipelines.errors import UsageError
from luxor_pipelines.ingest import LoadResult, incremental_load
from luxor_pipelines.lake.table.layout import DIRECTORY

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NOT_THERE", "LoadResult", "incremental_load", "save_table"]

logger = logging.getLogger(__name__)

NOT_THERE: Final = {
    "TableDataLoader": "a pipeline: `luxor run`, or a module in pipelines/ (CONTRIBUTING.md)",
    "BlobChangeWatcher": "lq.update(), which names the tables that have changed, or the versions of lq.versions()",
    "DataLoader": "a pipeline that reads files dropped in raw/ (docs/migration.md)",
}
"""Names of the old module that are not here, each with what to use instead."""


def save_table(
    table_name: str,
    df: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    index: bool = False,
    index_name: str = "index",
    normalize_columns: bool = True,
    directory: str = DIRECTORY,
    override: bool = False,
    format: str = "parquet",  # noqa: A002 - the familiar name
    lq: Any = None,
) -> LoadResult:
    """Save a whole table; without ``override`` a table that exists is kept, with a warning in the log.

    Parameters
    ----------
    override
        Replace a table that exists.
    format
        ``parquet``; the others of the old library are refused.
    lq
        The lake to write to, or a query of it; default that of the environment.

    Raises
    ------
    UsageError
        Another format.
    SchemaError
        See `luxor_pipelines.save_table`.
    """
    if format != "parquet" or isinstance(df, Mapping):
        raise UsageError(
            f"Tables are not saved as {format!r}.",
            hint="Write a workbook with df.to_excel into a shared folder; pickles run code where they are read.",
        )
    result = ingest.save_table(
        table_name, df, index=index, index_name=index_name, normalize_columns=normalize_columns, directory=directory,
        mode="replace" if override else "skip", lq=lq,
    )  # fmt: skip
    if not override and not result.changed:
        logger.warning("%s exists and is kept as it is: save_table was called without override=True", table_name)
    return result


def __getattr__(name: str) -> Any:
    if name in NOT_THERE:
        # An ImportError, since "from … import …" turns any other into one without the message.
        raise ImportError(f"{name} of the old library is not here. Use {NOT_THERE[name]}.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
