"""`LakeQuery`: a lake's tables for reading, and the clock; what `LuxorQuery` builds on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from luxor_pipelines.catalog import open_lake
from luxor_pipelines.errors import SchemaError, Secret, sample
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.footer import corrupt
from luxor_pipelines.lake.parquet.predicates import Where, conditions
from luxor_pipelines.lake.table.table import DIRECTORY
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.query.sql import SqlResult, run_sql
from luxor_pipelines.settings import Settings

__all__ = ["LakeQuery"]


class LakeQuery:
    """The tables of a lake, read through a cache, and what time it is. See `LuxorQuery`."""

    def __init__(
        self,
        blob_directory: str = DIRECTORY,
        adls_connection_string: str | None = None,
        container_name: str | None = None,
        *,
        lake: Lake | str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        if isinstance(lake, Lake):
            self.lake = lake
            return
        # A traceback may show variables; these print as a mask.
        lake = Secret(lake) if isinstance(lake, str) else lake
        adls_connection_string = None if adls_connection_string is None else Secret(adls_connection_string)
        self.lake = open_lake(
            lake,
            blob_directory,
            connection_string=adls_connection_string,
            container=container_name,
            settings=settings,
            clock=clock,
        )

    @property
    def blob_directory(self) -> str:
        """The folder of the tables."""
        return self.lake.directory

    @property
    def settings(self) -> Settings:
        """The lake's settings."""
        return self.lake.settings

    def __repr__(self) -> str:
        if not hasattr(self, "lake"):  # in a traceback with locals, when opening the lake failed
            return f"{type(self).__name__}(…)"
        return f"{type(self).__name__}({self.lake.url!r}, blob_directory={self.blob_directory!r})"

    # --- the clock --------------------------------------------------------------------------

    def now(self) -> datetime:
        """The current time, UTC."""
        return self.lake.now()

    def today(self) -> date:
        """The current date where the firm is (``LUXOR_TIME_ZONE``, by default São Paulo)."""
        return self.lake.today()

    # --- tables -----------------------------------------------------------------------------

    def table_exists(self, table_name: str, blob_directory: str | None = None) -> bool:
        """Whether the lake has the table now. An error is raised, never answered with False."""
        return self.lake.table(table_name, blob_directory).find() is not None

    def list_tables(self) -> list[str]:
        """The names of the tables, sorted."""
        return self.lake.tables()

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
        data = self.lake.cache.scan(
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

    def scan(
        self, table_name: str, columns: str | Sequence[str] | None = None, where: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """A table as Arrow columns: what `get_table` reads, before it becomes a frame.

        Polars (``pl.from_arrow``) and DuckDB take it without a copy, ``.to_batches()`` gives it piece by piece. The
        parameters and errors are those of `get_table`; ``Last_Updated`` is among the columns.
        """
        names = [columns] if isinstance(columns, str) else columns
        conditions = self._conditions(table_name, where or {}, None)
        return self.lake.cache.scan(table_name, self.blob_directory, names, conditions)

    def sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> SqlResult:
        """Run a ``SELECT`` over the tables of the lake; see `luxor_pipelines.query.sql`.

        Columns and conditions go down into the scan of each table. Nothing is written, and no file but the
        tables can be reached. Needs the extra ``sql``.

        Parameters
        ----------
        query
            DuckDB's SQL, with ``?`` or ``$name`` for parameters.
        params
            Their values: a list or, by name, a mapping.

        Returns
        -------
        SqlResult
            The rows: ``.df()`` a pandas frame, ``.arrow()`` an Arrow table, ``.pl()`` a Polars frame.

        Raises
        ------
        UsageError
            Not one ``SELECT``, or DuckDB finds fault with it.
        TableNotFoundError, ConfigurationError
        """
        return run_sql(self.lake, query, params)

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem that the lake lies on, to read files with; `paths` has a table's."""
        return self.lake.storage.filesystem

    def paths(self, table_name: str) -> list[str]:
        """The files of a table on `filesystem`, as they are now: one, or one a month or year.

        A partitioned table's files lack no column, but their months are in their folders' names.

        Raises
        ------
        TableNotFoundError
        """
        return self.lake.paths(table_name, self.blob_directory)

    def update(self, update_attempts_limit: int = 8) -> list[str]:
        """Look for tables changed in the lake since they were read, and name them.

        They are read again when next asked for. ``update_attempts_limit`` is kept for familiarity:
        retries are the storage client's (``LUXOR_RETRIES``), and a failure is raised.
        """
        del update_attempts_limit
        return self.lake.cache.update()

    def forget(self, table_name: str, blob_directory: str | None = None) -> None:
        """Read the table afresh when it is next asked for; `incremental_load` says so after a load."""
        self.lake.forget(table_name, blob_directory)

    def versions(self) -> dict[str, str]:
        """The version of each table that has been read through this object."""
        return self.lake.cache.versions()

    def _conditions(
        self, table_name: str, where: Mapping[str, Any], overrides: Mapping[str, Any] | None
    ) -> list[Where]:
        if not where:
            return []
        typed = self.lake.cache.codec(table_name, self.blob_directory, overrides).schema
        return conditions(typed, table_name, where)
