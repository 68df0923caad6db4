"""SQL over the lake's tables, by DuckDB: read-only, without a way to any file but the tables that a query names.

DuckDB gets each table as a Polars source, which it tells the columns and the conditions that it needs; those
become a scan of the table. It runs in memory, with external access off and its configuration locked, for one
query that has been found to be a ``SELECT``. Needs the extra ``sql``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from luxor_pipelines.errors import (
    ConfigurationError,
    InvalidNameError,
    LuxorError,
    TableNotFoundError,
    UsageError,
    shown,
)
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.table.layout import table_name
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import is_text_type

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SqlResult", "run_sql"]

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "temp_directory": "",
    "lock_configuration": True,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)


class SqlResult:
    """The rows of a query: as a frame, an Arrow table or a Polars frame.

    Shows as its frame. Anything that reads the Arrow C stream interface, such as Polars, takes it as it is.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def df(self) -> pd.DataFrame:
        """Return a pandas frame, with the column types that `get_table` gives."""
        return arrow_to_frame(self._table)

    def arrow(self) -> pa.Table:
        """Return an Arrow table, without a copy."""
        return self._table

    def pl(self) -> pl.DataFrame:
        """Return a Polars frame."""
        import polars as pl

        frame = pl.from_arrow(self._table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return repr(self.df())

    def _repr_html_(self) -> str:
        return str(self.df()._repr_html_())  # type: ignore[operator]


def run_sql(lake: Lake, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> SqlResult:
    """Run one ``SELECT`` over the tables of a lake.

    Parameters
    ----------
    query
        DuckDB's SQL, with ``?``, ``$1`` or ``$name`` for parameters. A table is named as `list_tables` names it.
    params
        Their values: a list or, by name, a mapping.

    Raises
    ------
    UsageError
        Not one ``SELECT``, or DuckDB finds fault with it, a reference to a file or a function that reads one included.
    TableNotFoundError
        The lake has no table of a name in it.
    ConfigurationError
        The extra ``sql`` is not installed.
    """
    try:
        import duckdb
        import polars as pl  # noqa: F401 - what DuckDB hands its conditions to
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"SQL needs {error.name}, which is not installed.", hint="Install it: pip install 'luxor-pipelines[sql]'"
        ) from error
    if not isinstance(query, str):
        raise UsageError(f"query={shown(query)} is no text.", hint=_HINT)
    values: object = params
    if isinstance(values, str) or not isinstance(values, Sequence | Mapping | None):
        raise UsageError(f"params={shown(params)} is neither a list nor a mapping.", hint="Give the values in a list.")
    failures: list[LuxorError] = []
    with _database(os.getpid()).cursor() as connection:
        names = _tables_of(connection, query)
        try:
            for name in names:
                source = _source(lake, name, failures)
                if source is not None:
                    connection.register(name, source)
            answer = connection.sql(query, params=params).to_arrow_table()
        except duckdb.Error as error:
            if failures:  # of a scan, which DuckDB reports as its own
                raise failures[0] from None
            if isinstance(error, duckdb.CatalogException) and "Table with name" in str(error):
                raise TableNotFoundError(
                    f"{_first_line(error)} ({lake.url}/{lake.directory}).", hint="`luxor tables` lists what there is."
                ) from error
            raise UsageError(f"DuckDB refuses the query: {_first_line(error)}", hint=_HINT) from error
    return SqlResult(pa.table([_plain(column) for column in answer.columns], names=_distinct(answer.column_names)))


@lru_cache(maxsize=1)
def _database(process: int) -> Any:  # noqa: ARG001 - threads do not survive a fork
    """Return an empty database in memory; each query gets its own connection to it, with its own views.

    It is opened once, since that takes as long as a query of a month.
    """
    import duckdb

    return duckdb.connect(":memory:", config=_CONFIG)


_HINT = "Only one SELECT over the lake's tables is run; no file, network, extension or setting can be reached."


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in a type of the lake's tables: dates as instants, decimals and wide integers as numbers."""
    if pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us"))
    if not pa.types.is_decimal(column.type):
        return column
    if column.type.scale == 0:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:  # too large for any
            pass
    return column.cast(pa.float64())


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names of columns, those that occur again with a number."""
    distinct: dict[str, None] = {}
    for name in names:
        number, unique = 0, name
        while unique in distinct:
            number += 1
            unique = f"{name}_{number}"
        distinct[unique] = None
    return list(distinct)


def _tables_of(connection: Any, query: str) -> list[str]:
    """Return the names after FROM and JOIN in a query, which must be one ``SELECT``."""
    ((answer,),) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    parsed = json.loads(answer)
    if parsed["error"]:
        raise UsageError(f"DuckDB refuses the query: {parsed['error_message'].partition(chr(10))[0]}", hint=_HINT)
    if len(parsed["statements"]) != 1:
        raise UsageError(f"{len(parsed['statements'])} statements are given.", hint="Give one SELECT.")
    names: dict[str, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and not node.get("schema_name"):
                names[node["table_name"]] = None
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(parsed["statements"])
    return list(names)


def _source(lake: Lake, name: str, failures: list[LuxorError]) -> pl.LazyFrame | None:
    """Return a table of the lake as a Polars source; None without such a table, as for the name of a subquery."""
    import polars as pl
    from polars.io.plugins import register_io_source

    try:
        stored = table_name(name)
        schema = lake.cache.codec(stored).schema
    except (InvalidNameError, TableNotFoundError):
        return None

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _batch: int | None
    ) -> Iterator[pl.DataFrame]:
        try:
            where = [] if predicate is None else _conditions(predicate, schema)
            tested = [] if predicate is None else predicate.meta.root_names()
            needed = None if columns is None else tuple(dict.fromkeys([*columns, *tested]))
            data = lake.cache.scan(stored, needed, tuple(where))
        except LuxorError as error:
            failures.append(error)
            raise
        frame = pl.from_arrow(data)
        assert isinstance(frame, pl.DataFrame)
        if predicate is not None:
            frame = frame.filter(predicate)
        if columns is not None:
            frame = frame.select(columns)
        yield frame if rows is None else frame.head(rows)

    empty = pl.from_arrow(schema.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return register_io_source(read, schema=empty.schema)


# --- conditions ------------------------------------------------------------------------------


def _conditions(predicate: pl.Expr, schema: pa.Schema) -> list[Where]:
    """Return the parts of the predicate that a scan can test, as conditions that all its rows meet.

    Polars has no other way into an expression than its JSON. A part that is not recognised there is left to
    Polars, which filters what is read by the whole predicate.
    """
    try:
        tree = json.loads(predicate.meta.serialize(format="json"))
    except Exception:  # noqa: BLE001 - Polars' own, of an expression that has no JSON
        return []
    spans: dict[str, list[Any]] = {}
    values: list[Where] = []
    for part in _parts(tree):
        test = _comparison(part) or _membership(part)
        if test is None or test[0] not in schema.names:
            continue
        column, how, value = test
        kind = schema.field(column).type
        if how == "in" or (how == "Eq" and is_text_type(kind)):
            members = value if how == "in" else [value]
            if all(_fits(member, kind) for member in members) and not pa.types.is_timestamp(kind):
                values.append(Where(column, values=tuple(members)))
        elif _fits(value, kind) and not is_text_type(kind):
            span = spans.setdefault(column, [None, None])
            if how in ("Eq", "Gt", "GtEq"):
                span[0] = value if span[0] is None else max(span[0], value)
            if how in ("Eq", "Lt", "LtEq"):
                span[1] = value if span[1] is None else min(span[1], value)
    return [*(Where(column, spans=((low, high),)) for column, (low, high) in spans.items()), *values]


def _parts(tree: Any) -> Iterator[Any]:
    """Return the expressions that AND joins."""
    node = tree.get("BinaryExpr") if isinstance(tree, dict) else None
    if node is not None and node["op"] in ("And", "LogicalAnd"):
        yield from _parts(node["left"])
        yield from _parts(node["right"])
    else:
        yield tree


def _comparison(node: Any) -> tuple[str, str, Any] | None:
    """Return column, operator and value of ``column <op> literal``."""
    node = node.get("BinaryExpr") if isinstance(node, dict) else None
    if node is None or node["op"] not in ("Eq", "Gt", "GtEq", "Lt", "LtEq"):
        return None
    column, value = _column(node["left"]), _literal(node["right"])
    return None if column is None or value is None else (column, node["op"], value)


def _membership(node: Any) -> tuple[str, str, Any] | None:
    """Return column, ``in`` and values of ``column IN (…)``, which comes with a test for null around it."""
    if isinstance(node, dict) and "Ternary" in node:
        node = node["Ternary"]["falsy"]
    function = node.get("Function") if isinstance(node, dict) else None
    if function is None or "IsIn" not in str(function.get("function")):
        return None
    column, members = _column(function["input"][0]), function["input"][1].get("Literal", {}).get("Series")
    if column is None or not isinstance(members, list):
        return None
    import polars as pl

    values = pl.read_ipc_stream(io.BytesIO(bytes(members))).to_series()
    return column, "in", (values.explode() if values.dtype == pl.List else values).to_list()


def _column(node: Any) -> str | None:
    name = node.get("Column") if isinstance(node, dict) else None
    return name if isinstance(name, str) else None


def _literal(node: Any) -> Any:
    scalar = node.get("Literal", {}).get("Scalar") if isinstance(node, dict) else None
    if not isinstance(scalar, dict) or len(scalar) != 1:
        return None
    ((kind, value),) = scalar.items()
    if kind == "Datetime" and value[1:] == ["Microseconds", None]:
        return _EPOCH + timedelta(microseconds=value[0])
    return value if kind.startswith(("Int", "UInt", "Float", "String")) else None


def _fits(value: Any, kind: pa.DataType) -> bool:
    """Return whether a literal is of a column's type, so that it compares with its cells as it does in SQL."""
    if pa.types.is_timestamp(kind):
        return isinstance(value, datetime) and kind.tz is None
    if is_text_type(kind):
        return isinstance(value, str)
    if pa.types.is_floating(kind):
        return isinstance(value, int | float)
    return pa.types.is_integer(kind) and isinstance(value, int)
