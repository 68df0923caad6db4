"""Cells as found to dates, numbers and names: whole columns at a time, by declared formats.

A parser returns its values and where the cells were blank. A cell that is neither blank nor of the
declared format is missing in the values (NaT, NaN), so "nothing there" and "something else there"
can be told apart.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError

__all__ = ["DATE_FORMATS", "DECIMALS", "as_text", "cell_text", "parse_dates", "parse_names", "parse_numbers"]

DATE_FORMATS: dict[str, str] = {
    "iso": r"^(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?:[T ]00:00(?::00(?:\.0+)?)?)?$",
    "dd/mm/yyyy": r"^(?P<d>\d{1,2})/(?P<m>\d{1,2})/(?P<y>\d{4})$",
    "mm/dd/yyyy": r"^(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})$",
}
"""What a date looks like in each format. A time of day passes only when it is midnight."""

DECIMALS: dict[str, str] = {
    ".": r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$",
    ",": r"^[+-]?(?:(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d*)?|,\d+)(?:[eE][+-]?\d+)?$",
}
"""What a number looks like with each decimal sign; only the comma knows dots between thousands."""

YEARS = (1900, 2199)
"""The first and the last year that a date can be of."""

_NULL_WORDS = ["nan", "none", "nat", "<na>"]
"""How the lake's old text files write a missing cell: no names for an asset."""


def parse_dates(column: pa.Array, date_format: str = "iso") -> tuple[NDArray[np.datetime64], NDArray[np.bool_]]:
    """Dates (datetime64[D]) of a text, date or timestamp column, and where it is blank.

    Raises
    ------
    SchemaError
        A type that has no dates to give: timestamps with a time zone, lists, …
    """
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        raise SchemaError(f"its dates carry a time zone ({kind.tz})")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        moments = column.to_numpy(zero_copy_only=False)
        days = moments.astype("M8[D]")
        days[days.astype(moments.dtype) != moments] = np.datetime64("NaT")
        return _plausible(days), column.is_null().to_numpy(zero_copy_only=False)
    encoded = cell_text(column).dictionary_encode()  # a file has few dates, however many rows
    parts = pc.extract_regex(encoded.dictionary, DATE_FORMATS[date_format])
    year, month, day = (
        pc.struct_field(parts, part).cast(pa.int64()).fill_null(0).to_numpy() for part in ("y", "m", "d")
    )
    months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    days = months.astype("M8[D]") + (day - 1)
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("M8[M]") == months)
    days[~exists] = np.datetime64("NaT")
    codes = encoded.indices.to_numpy()
    return _plausible(days)[codes], _blank(encoded.dictionary)[codes]


def _plausible(days: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    first, last = np.datetime64(f"{YEARS[0]}-01-01"), np.datetime64(f"{YEARS[1]}-12-31")
    return np.where((days >= first) & (days <= last), days, np.datetime64("NaT", "D"))


def parse_numbers(column: pa.Array, decimal: str = ".") -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers (float64; NaN when unreadable) of a text or numeric column, and where it is blank.

    Raises
    ------
    SchemaError
        A type that has no numbers to give, such as lists.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = column.cast(pa.float64(), safe=False)
        blank = numbers.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    else:
        found = cell_text(column)
        blank = _blank(found)
        readable = pc.match_substring_regex(found, DECIMALS[decimal])
        if decimal == ",":
            found = pc.replace_substring(pc.replace_substring(found, ".", ""), ",", ".")
        numbers = pc.if_else(readable, found, pa.scalar(None, pa.string())).cast(pa.float64())
    return numbers.to_numpy(zero_copy_only=False).astype(np.float64, copy=False), blank


def parse_names(column: pa.Array) -> pa.Array:
    """Names as the lake keeps them, trimmed and in lower case; "" where there is none.

    Raises
    ------
    SchemaError
        Cells that have no text form, such as lists.
    """
    names = pc.utf8_lower(cell_text(column))
    return pc.if_else(pc.is_in(names, pa.array(_NULL_WORDS)), "", names)


def cell_text(column: pa.Array) -> pa.Array:
    """Every cell as text without outer white space; "" where there is none.

    Raises
    ------
    SchemaError
        Cells that have no text form, such as lists.
    """
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return pc.utf8_trim_whitespace(column.cast(pa.string()).fill_null(""))
    except pa.ArrowException as error:
        raise SchemaError(f"its cells are of the type {column.type}") from error


def _blank(found: pa.Array) -> NDArray[np.bool_]:
    blank: NDArray[np.bool_] = pc.equal(found, "").to_numpy(zero_copy_only=False)
    return blank


def as_text(value: Any, date_format: str = "iso", decimal: str = ".") -> str:
    """Write a spreadsheet's own number or date in the formats declared for the text beside it."""
    if isinstance(value, datetime) and value == datetime.combine(value.date(), datetime.min.time()):
        value = value.date()
    if isinstance(value, date) and not isinstance(value, datetime):
        pattern = {"iso": "{0:%Y-%m-%d}", "dd/mm/yyyy": "{0:%d/%m/%Y}", "mm/dd/yyyy": "{0:%m/%d/%Y}"}
        return pattern[date_format].format(value)
    if isinstance(value, float):
        return repr(value).replace(".", decimal)
    return str(value)
