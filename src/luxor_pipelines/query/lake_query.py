"""`LakeQuery`: a lake's tables for reading, and the clock; what `LuxorQuery` builds on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from luxor_pipelines.errors import SchemaError, Secret, sample
from luxor_pipelines.lake.parquet.footer import corrupt
from luxor_pipelines.lake.parquet.predicates import Where, conditions
from luxor_pipelines.lake.storage.base import Storage, connect
from luxor_pipelines.lake.table.cache import TableCache
from luxor_pipelines.lake.table.table import DIRECTORY, Table, list_tables
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.settings import Settings

__all__ = ["SAO_PAULO", "LakeQuery"]

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
"""Where the firm is: what "today" means."""


class LakeQuery:
    """The tables of a lake, read through a cache, and what time it is. See `LuxorQuery`."""

    def __init__(
        self,
        blob_directory: str = DIRECTORY,
        adls_connection_string: str | None = None,
        container_name: str | None = None,
        *,
        lake: str | None = None,
        settings: Settings | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        # Not to be seen in a traceback that shows variables.
        lake = Secret(lake) if isinstance(lake, str) else lake
        adls_connection_string = None if adls_connection_string is None else Secret(adls_connection_string)
        self.settings = settings or Settings.from_env()
        self.storage: Storage = connect(
            lake, connection_string=adls_connection_string, container=container_name, settings=self.settings
        )
        self.blob_directory = blob_directory
        self._clock = clock or (lambda: datetime.now(UTC))
        self._cache = TableCache(self.storage, self.settings.cache_bytes)

    def __repr__(self) -> str:
        if not hasattr(self, "storage"):  # in a traceback with locals, when opening the lake failed
            return f"{type(self).__name__}(…)"
        return f"{type(self).__name__}({self.storage.url!r}, blob_directory={self.blob_directory!r})"

    # --- the clock --------------------------------------------------------------------------

    def now(self) -> datetime:
        """The current time, UTC."""
        return self._clock().astimezone(UTC)

    def today(self) -> date:
        """The current date in São Paulo."""
        return self.now().astimezone(SAO_PAULO).date()

    # --- tables -----------------------------------------------------------------------------

    def table_exists(self, table_name: str, blob_directory: str | None = None) -> bool:
        """Whether the lake has the table now. An error is raised, never answered with False."""
        return Table(self.storage, table_name, blob_directory or self.blob_directory).find() is not None

    def list_tables(self) -> list[str]:
        """The names of the tables, sorted."""
        return list_tables(self.storage, self.blob_directory)

    def get_table(
        self,
        table_name: str,
        index: bool = False,
        index_name: str = "index",
        dtypes_override: Mapping[str, Any] | None = None,
        force_reload: bool = False,
        drop_last_updated_columns: bool = True,
        auto_convert_mapped_types: bool = True,
        *,
        columns: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """A table as a frame with typed columns.

        Parameters
        ----------
        index, index_name
            Whether to make the column ``index_name`` the index.
        dtypes_override
            Types for columns of a legacy text table beyond those known by name:
            ``{"float": […], "date": […], "bool": […], "str_nan_format": […]}``.
        force_reload
            Look at the lake again even if the table has been read.
        drop_last_updated_columns
            Leave ``Last_Updated`` out.
        auto_convert_mapped_types
            False returns a legacy text table's columns as the text they are.
        columns
            Only these columns (or this one), in this order; no others are read.
        where
            Only rows that meet all conditions: column → a value, a list (or Series …) of values, or a tuple
            ``(first, last)``, both included, None for an open end. Dates may be ISO text; one without a
            time is the whole day. Text also finds what is stored trimmed and in lower case.

        Raises
        ------
        TableNotFoundError
        SchemaError
            A column that is not there, or a cell that is not of its column's type.
        CorruptFileError
        """
        if force_reload:
            self.forget(table_name)
        data = self._cache.scan(
            table_name,
            self.blob_directory,
            [columns] if isinstance(columns, str) else columns,
            self._conditions(table_name, where or {}, dtypes_override),
            overrides=dtypes_override,
            drop=(LAST_UPDATED,) if drop_last_updated_columns else (),
            raw=not auto_convert_mapped_types,
        )
        with corrupt(f"{self.blob_directory}/{table_name}"):  # old versions of pandas look at the text
            frame = arrow_to_frame(data)
        if index:
            if index_name not in frame.columns:
                raise SchemaError(
                    f"Table {table_name} has no column {index_name!r} to be the index; it has "
                    f"{sample(frame.columns, 20)}.",
                    hint="Name one of its columns in index_name.",
                )
            frame = frame.set_index(index_name)
        return frame

    def update(self, update_attempts_limit: int = 8) -> list[str]:
        """Look for tables changed in the lake since they were read, and name them.

        They are read again when next asked for. ``update_attempts_limit`` is kept for familiarity:
        retries are the storage client's (``LUXOR_RETRIES``), and a failure is raised.
        """
        del update_attempts_limit
        return self._cache.update()

    def forget(self, table_name: str, blob_directory: str | None = None) -> None:
        """Read the table afresh when it is next asked for; `incremental_load` says so after a load."""
        self._cache.forget(table_name, blob_directory or self.blob_directory)

    def versions(self) -> dict[str, str]:
        """The version of each table that has been read through this object."""
        return self._cache.versions()

    def _conditions(
        self, table_name: str, where: Mapping[str, Any], overrides: Mapping[str, Any] | None
    ) -> list[Where]:
        if not where:
            return []
        return conditions(self._cache.schema(table_name, self.blob_directory), table_name, where, overrides)
