"""The writers' one door: `incremental_load` and `save_table`; and `add_column` and `drop_column`.

Loads validate everything before anything is written, commit one partition at a time on condition
of the version it was read from, write nothing where nothing changed, and can be repeated in any
order with the same outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, overload

from luxor_pipelines.catalog import PRICE_TABLES, TABLES, known_key, open_lake
from luxor_pipelines.errors import UsageError
from luxor_pipelines.lake.concurrency import attempts
from luxor_pipelines.lake.lake import Lake, lake_of
from luxor_pipelines.lake.table import alter
from luxor_pipelines.lake.table.alter import Altered
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.table.load import LayoutChangedError, Load, LoadResult, TableExistsError, exists_error
from luxor_pipelines.lake.types.frames import check_frame, column_names, last_date
from luxor_pipelines.names import as_names
from luxor_pipelines.telemetry import span

if TYPE_CHECKING:
    from luxor_pipelines.lake.types.frames import Frame
    from luxor_pipelines.lake.types.schema import ColumnType, TableSchema
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["Altered", "LoadResult", "add_column", "drop_column", "incremental_load", "save_table"]

logger = logging.getLogger(__name__)


def incremental_load(
    lq: Lake | LuxorQuery,
    table_name: str,
    df: Frame,
    *,
    increment_column: str | None = "Date",
    index: bool = False,
    index_name: str = "index",
    normalize_columns: bool = True,
    directory: str = DIRECTORY,
    unique_columns: Sequence[str] | None = None,
    schema: TableSchema | None = None,
) -> LoadResult:
    """Load ``df`` into a table so that doing it again, late or in another order changes nothing.

    Without ``unique_columns`` *slices* are replaced: stored rows whose ``increment_column`` value
    occurs in ``df`` give way to ``df``'s rows, every other row stays, whether earlier or later.
    With them rows are *upserted by key*: a stored row of the same key is replaced, a new key is
    inserted, nothing is deleted. In a table partitioned by month or year the key includes the
    date. Rows that stay the same keep their ``Last_Updated`` and are not written again.

    Parameters
    ----------
    lq
        The lake to write to, or a query of it. Its cache forgets the table, so that a next read sees the load.
    df
        The rows, as a pandas DataFrame or an Arrow table; never modified. Without rows nothing is done. Columns that
        were added to the table (see `add_column`) may be missing: rows that are stored keep what they have in them.
    increment_column
        The column that defines slices; None with ``unique_columns`` for a table without dates.
    index, index_name
        Whether the frame's index is stored, and as which column.
    normalize_columns
        Give text its normal form (trimmed, lower case), except in the columns whose case is kept.
    directory
        The folder of the lake the table lies in.
    unique_columns
        The key to upsert by.
    schema
        The declared schema of a table that a pipeline produces: types, key, and the layout it is
        created with. Without it an existing table keeps its columns and a new one takes ``df``'s.

    Raises
    ------
    SchemaError
        A column that is unknown, missing or of another type, a cell that cannot be cast, a null
        or duplicated key; nothing has been written. Or a key or slice whose stored rows are spelled in several ways,
        where the partitions before the one named are committed.
    ForeignTableError
        The table is another program's: a folder of files, or a Delta or Iceberg table. Nothing has been written.
    LoadConflictError
        Other writers kept changing the table; the partitions not yet committed are untouched.
    """
    unique = [] if unique_columns is None else as_names(unique_columns, "unique_columns")
    if increment_column is None and not unique:
        raise UsageError(
            f"Loading {table_name} without increment_column and unique_columns says nothing about which rows to "
            "replace.",
            hint="Name the column that defines slices, or the key; to replace a whole table use save_table.",
        )
    lake = lake_of(lq)
    check_frame(df, table_name)
    _check_names(index_name, *unique, *(() if increment_column is None else (increment_column,)))
    unique = list(dict.fromkeys(unique))

    def load_once(done: dict[str, LoadResult]) -> LoadResult:
        load = _load(lake, table_name, directory, schema, near=last_date(df, increment_column), done=done)
        if not len(df):
            return load.result()
        load.table.check_ours(load.snapshot)
        partition_column = load.partition_column if load.layout != "file" else None
        key = tuple(unique) or load.key
        if unique and partition_column is not None and partition_column not in unique:
            key = (partition_column, *unique)
        if not unique and load.key and increment_column in column_names(df) and increment_column not in load.key:
            raise UsageError(
                f"The key of table {load.table.name} ({', '.join(load.key)}) does not hold {increment_column!r}: of "
                "two slices each could bring a row of one key.",
                hint=f"Upsert by the key: unique_columns={list(load.key)}.",
            )
        batch = load.batch(
            df,
            index=index,
            index_name=index_name,
            normalize=normalize_columns,
            key=key,
            required=[] if increment_column is None else [increment_column],
        )
        if partition_column is not None and increment_column != partition_column and not unique:
            raise UsageError(
                f"Table {load.table.name} is partitioned by {partition_column}, so its slices are too.",
                hint=f"Leave increment_column at {partition_column!r}.",
            )
        try:
            with _writing(load):
                load.merge(batch, "upsert" if unique else "slices", key, partition_column or increment_column)
        finally:
            lake.forget(load.table.name, load.table.directory)
        return load.result()

    return _until_settled(lake, load_once)


@overload
def save_table(
    lq: Lake | LuxorQuery,
    table_name: str,
    df: Frame,
    /,
    *,
    index: bool = False,
    index_name: str = "index",
    normalize_columns: bool = True,
    directory: str = DIRECTORY,
    override: bool = False,
    mode: Literal["error", "replace", "skip"] | None = None,
    format: Literal["parquet"] = "parquet",
    schema: TableSchema | None = None,
) -> LoadResult: ...


@overload
def save_table(
    table_name: str,
    df: Frame,
    *,
    lq: Lake | LuxorQuery | None = None,
    index: bool = False,
    index_name: str = "index",
    normalize_columns: bool = True,
    directory: str = DIRECTORY,
    override: bool = False,
    mode: Literal["error", "replace", "skip"] | None = None,
    format: Literal["parquet"] = "parquet",
    schema: TableSchema | None = None,
) -> LoadResult: ...


def save_table(
    *args: Any,
    lq: Lake | LuxorQuery | None = None,
    table_name: str | None = None,
    df: Frame | None = None,
    index: bool = False,
    index_name: str = "index",
    normalize_columns: bool = True,
    directory: str = DIRECTORY,
    override: bool = False,
    mode: Literal["error", "replace", "skip"] | None = None,
    format: Literal["parquet"] = "parquet",  # noqa: A002 - the familiar name
    schema: TableSchema | None = None,
) -> LoadResult:
    """Save ``df`` as a whole table: ``save_table(lq, table_name, df)`` or ``save_table(table_name, df, lq=lq)``.

    Parameters
    ----------
    lq
        The lake to write to, or a query of it; default the one the environment names.
    table_name, df
        The table's name, and its rows, as in `incremental_load`.
    mode
        What to do with a table that exists: ``"error"`` (default), ``"replace"`` its content, or
        ``"skip"`` the save. ``override=True`` is the familiar way to say ``"replace"``. A legacy
        text table stays one.
    index, index_name, normalize_columns, directory, schema
        As in `incremental_load`.

    Raises
    ------
    UsageError
        The table exists and the mode is ``"error"``; another format than Parquet is asked for; or a
        partitioned table would be left without rows.
    SchemaError, ForeignTableError, LoadConflictError
        As `incremental_load` does.
    """
    lq, name, rows = _target(args, lq, table_name, df)
    _check_names(index_name)
    mode = mode or ("replace" if override else "error")
    if mode not in ("error", "replace", "skip"):
        raise UsageError(f"mode {mode!r} is not known.", hint="Use 'error', 'replace' or 'skip'.")
    if format != "parquet":
        raise UsageError(
            f"Tables are Parquet; {format!r} is not written to the lake.", hint="Export with df.to_excel or df.to_csv."
        )
    lake = open_lake() if lq is None else lake_of(lq)

    def save_once(done: dict[str, LoadResult]) -> LoadResult:
        load = _load(lake, name, directory, schema, whole=True, only_new=mode != "replace", done=done)
        if load.snapshot is not None and mode == "skip":
            return load.result()
        load.table.check_ours(load.snapshot)
        if load.snapshot is not None and mode == "error":
            raise exists_error(load.table)
        batch = load.batch(rows, index=index, index_name=index_name, normalize=normalize_columns, key=load.key)
        try:
            with _writing(load):
                load.replace(batch)
        except TableExistsError:
            if mode == "error":
                raise
        finally:
            lake.forget(load.table.name, load.table.directory)
        return load.result()

    return _until_settled(lake, save_once)


def add_column(
    table_name: str,
    column: str,
    type: ColumnType,  # noqa: A002 - the word that everybody looks for
    *,
    lq: Lake | LuxorQuery | None = None,
    directory: str = DIRECTORY,
    dry_run: bool = False,
) -> Altered:
    """Add a column to a table, without values; one that the table has already stays as it is.

    Readers and loads may be at work meanwhile, and a call that was cut short is completed by another. From then on a
    load may bring the column or leave it out: rows that are stored keep what they have in it, new ones have nothing.

    Parameters
    ----------
    column, type
        The column's name, and ``"text"``, ``"number"``, ``"whole"``, ``"date"`` or ``"flag"``.
    lq
        The lake, or a query of it; default the one the environment names.
    directory
        The folder of the lake the table lies in.
    dry_run
        Only say what would be done.

    Returns
    -------
    Altered
        The files that were written; none where all had the column.

    Raises
    ------
    UsageError
        No such type, no column's name, or the table has such a column of another type or spelling.
    SchemaError
        The table tells the types of columns by their names, and this name tells another type.
    TableNotFoundError, ForeignTableError, CorruptFileError
    LoadConflictError
        Other writers kept coming first; what was done stays, and another call completes it.
    """
    lake = open_lake() if lq is None else lake_of(lq)
    table = lake.table(table_name, directory)
    try:
        return alter.add_column(table, column, type, attempts=lake.settings.load_attempts, dry_run=dry_run)
    finally:
        lake.forget(table.name, table.directory)


def drop_column(
    table_name: str,
    column: str,
    *,
    lq: Lake | LuxorQuery | None = None,
    directory: str = DIRECTORY,
    schema: TableSchema | None = None,
    dry_run: bool = False,
) -> Altered:
    """Drop a column of a table, with its values.

    Readers and loads may be at work meanwhile, and a call that was cut short is completed by another.

    Parameters
    ----------
    lq, directory
        As in `add_column`.
    schema
        The declared schema of a table that a pipeline produces: its columns are not dropped. Those of the catalogue's
        tables never are.
    dry_run
        Only say what would be done, and how many values would go.

    Returns
    -------
    Altered
        The number of values that went, and the files that were written.

    Raises
    ------
    UsageError
        A column of the key, of the partitions or of the declared schema, or the only one.
    SchemaError
        The table has no such column.
    TableNotFoundError, ForeignTableError, CorruptFileError
    LoadConflictError
        Other writers kept coming first; what was done stays, and another call completes it.
    """
    lake = open_lake() if lq is None else lake_of(lq)
    table = lake.table(table_name, directory)
    protected = {declared.name for declared in schema.columns} if schema is not None else set()
    if table.name in TABLES:
        protected |= {declared.name for declared in TABLES[table.name].columns}
        protected |= {"Asset", "Last_Price"} if any(prices.name == table.name for prices in PRICE_TABLES) else set()
    else:
        protected |= {*known_key(table.name, table.codec().schema.names)}
    try:
        return alter.drop_column(
            table, column, protected=protected, attempts=lake.settings.load_attempts, dry_run=dry_run
        )
    finally:
        lake.forget(table.name, table.directory)


def _until_settled(lake: Lake, load_once: Callable[[dict[str, LoadResult]], LoadResult]) -> LoadResult:
    """Return the result of a load, begun anew where others create, convert, alter or move its table meanwhile.

    What the attempts do is kept by partition, since one leaves unchanged what the ones before have written.
    """
    done: dict[str, LoadResult] = {}
    for attempt in attempts(lake.settings.load_attempts):
        try:
            return load_once(done)
        except LayoutChangedError:
            if attempt == lake.settings.load_attempts:
                raise
    raise AssertionError("unreachable")


def _check_names(*names: object) -> None:
    """Refuse names of columns that are no text, such as a list of them where one is meant.

    Raises
    ------
    UsageError
    """
    for name in names:
        if not isinstance(name, str):
            raise UsageError(
                f"{name!r} is no column's name.",
                hint="Give one name as text; only unique_columns takes a list of them.",
            )


def _target(
    args: Sequence[Any], lq: Lake | LuxorQuery | None, table_name: str | None, df: Frame | None
) -> tuple[Lake | LuxorQuery | None, str, Frame]:
    """Return the lake, the table's name and its rows, however `save_table` was given them."""
    positional = list(args)
    if lq is None and positional and len(positional) + (table_name is not None) + (df is not None) == 3:
        lq = positional.pop(0)
    named = table_name is not None or bool(positional)
    if table_name is None and positional:
        table_name = positional.pop(0)
    if df is None and positional:
        df = positional.pop(0)
    first_is_lake = isinstance(getattr(table_name, "lake", table_name), Lake)
    if positional or not named or df is None or first_is_lake:
        raise UsageError(
            "save_table takes a lake, a table's name and its rows, a DataFrame or an Arrow table.",
            hint="Call save_table(lq, table_name, df) or save_table(table_name, df, lq=lq).",
        )
    return lq, table_name, df  # type: ignore[return-value] # whatever was given as the name is checked as one


@contextmanager
def _writing(load: Load) -> Iterator[None]:
    """Yield a span of the load, which ends with what the load changed."""
    if load.shadow:
        logger.warning("%s", load.shadow)
    with span("write", table=load.table.name) as ending:
        yield
        result = load.result()
        ending |= {"rows": result.inserted + result.updated + result.unchanged, "changed": result.changed}


def _load(
    lake: Lake,
    name: str,
    directory: str,
    schema: TableSchema | None,
    *,
    whole: bool = False,
    only_new: bool = False,
    near: datetime | None = None,
    done: dict[str, LoadResult],
) -> Load:
    return Load(
        lake.table(name, directory),
        schema,
        attempts=lake.settings.load_attempts,
        now=lake.now,
        whole=whole,
        only_new=only_new,
        near=near,
        one_file=lake.settings.layout == "file",
        done=done,
    )
