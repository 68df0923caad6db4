"""Cells to dates, numbers and names: whole columns at a time, by declared formats.

A parser returns, for each cell, its value and whether it is missing: blank, or a word that means "not available". A
cell that is neither missing nor of the declared format has no value (NaT, NaN), so that a blank cell and an unreadable
one can be told apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.errors import SchemaError
from luxor_pipelines.names import normal_names

__all__ = [
    "DATE_FORMATS",
    "NOT_AVAILABLE",
    "Dates",
    "Names",
    "Numbers",
    "cell_text",
    "date_pattern",
    "parse_dates",
    "parse_names",
    "parse_numbers",
]

DATE_FORMATS: dict[str, str] = {
    "iso": r"(?P<Y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?:[T ]00:00(?::00(?:\.0+)?)?)?",
    "iso-local": r"(?P<Y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?:[T ]00:00:00(?:[+-]\d{2}:\d{2})?)?",
    "dd/mm/yyyy": r"(?P<d>\d{1,2})/(?P<m>\d{1,2})/(?P<Y>\d{4})",
    "mm/dd/yyyy": r"(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<Y>\d{4})",
}
"""The formats that have a name. A time of day passes only when it is midnight, in iso-local that of any zone."""

_DIRECTIVES = {
    "%d": r"(?P<d>\d{1,2})",
    "%m": r"(?P<m>\d{1,2})",
    "%b": r"(?P<b>\pL{3})\.?",
    "%Y": r"(?P<Y>\d{4})",
    "%y": r"(?P<y>\d{2})",
}
_FIXED_WIDTH = {"%d": r"(?P<d>\d{2})", "%m": r"(?P<m>\d{2})"}
_SHEET_DATE = r"(?P<Y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?: (?P<time>[\d:.]+))?"
"""The format in which `confined_reader` writes a date of a workbook."""
_SERIAL = r"(?P<n>\d{5})(?:[.,](?P<time>\d+))?"
_SERIALS = (18_264, 73_051)
"""1950 to 2100 as days of a spreadsheet; a year such as 2026 is below."""

_MONTHS = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
    "fev",
    "abr",
    "mai",
    "ago",
    "set",
    "out",
    "dez",
]
_MONTH_NUMBERS = np.array([*range(1, 13), 2, 4, 5, 8, 9, 10, 12, 0])

YEARS = (1900, 2199)
"""The first and the last year that a date can be of."""

NOT_AVAILABLE = ("", "-", "--", "–", "n/a", "#n/a", "#n/a n/a", "#n/a field not applicable", "n/d", "#n/d", "null")
"""The words of vendors and spreadsheets for a missing price, in lower case."""


class Dates(NamedTuple):
    """Days (datetime64[D]), the mask of missing ones, and the mask of those whose time of day was cut off."""

    days: NDArray[np.datetime64]
    missing: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> Dates:
        """Return the dates of some rows."""
        return Dates(self.days[rows], self.missing[rows], self.cut[rows])


class Numbers(NamedTuple):
    """Numbers (float64), and the mask of missing ones."""

    numbers: NDArray[np.float64]
    missing: NDArray[np.bool_]


class Names(NamedTuple):
    """The position of each cell's name among ``names``, which may hold a name twice; a cell without one has ""."""

    codes: NDArray[np.int64]
    names: list[str]


# --- dates --------------------------------------------------------------------------------------


@cache
def date_pattern(date_format: str) -> str:
    """Return the regular expression of a date format: one of `DATE_FORMATS`, or one of %d %m %b %Y %y.

    Raises
    ------
    ValueError
        Neither of these.
    """
    if date_format in DATE_FORMATS:
        return f"^{DATE_FORMATS[date_format]}$"
    parts = re.findall(r"%.|[^%]", date_format)
    years, months, days = (
        parts.count("%Y") + parts.count("%y"),
        parts.count("%m") + parts.count("%b"),
        parts.count("%d"),
    )
    unknown = [part for part in parts if part.startswith("%") and part not in _DIRECTIVES]
    if unknown or (years, months, days) != (1, 1, 1) or "".join(parts) != date_format:
        raise ValueError(date_format)
    separated = not re.search("%.%", date_format)
    directives = _DIRECTIVES if separated else _DIRECTIVES | _FIXED_WIDTH
    return f"^{''.join(directives.get(part) or re.escape(part) for part in parts)}$"


def parse_dates(column: pa.Array, date_format: str = "iso", *, is_sheet: bool = False) -> Dates:
    """Return dates of a column of text, dates or timestamps.

    Parameters
    ----------
    date_format
        See `date_pattern`.
    is_sheet
        Whether the text comes from a spreadsheet, whose own dates, with or without a time of day, and serial numbers
        are read beside text in the declared format.

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
        days[days.astype(moments.dtype) != moments] = np.datetime64("NaT", "D")
        return Dates(_plausible(days), _nulls(column), np.zeros(len(days), dtype=bool))
    words, codes = _words(column)  # a file has few dates, however many rows
    days = _days(pc.extract_regex(words, date_pattern(date_format)))
    cut = np.zeros(len(days), dtype=bool)
    if is_sheet:
        own = pc.extract_regex(words, f"^{_SHEET_DATE}$")
        serial = pc.extract_regex(words, f"^{_SERIAL}$")
        number = _group(serial, "n")
        in_range = (number >= _SERIALS[0]) & (number < _SERIALS[1])
        from_serial = np.where(
            in_range, np.datetime64("1899-12-30", "D") + number.astype("m8[D]"), np.datetime64("NaT", "D")
        )
        for candidates, parts in ((_days(own), own), (from_serial, serial)):
            filled = np.isnat(days) & ~np.isnat(candidates)
            days = np.where(filled, candidates, days)
            time = pc.fill_null(pc.struct_field(parts, "time"), "")
            cut |= filled & pc.match_substring_regex(time, "[1-9]").to_numpy(zero_copy_only=False)
    missing = pc.equal(words, "").to_numpy(zero_copy_only=False)
    return Dates(_plausible(days)[codes], missing[codes], cut[codes])


def _days(parts: pa.Array) -> NDArray[np.datetime64]:
    """Return the dates that the groups of a `date_pattern` give; NaT where they are missing, or no day."""
    groups = {field.name for field in parts.type}
    year = _group(parts, "Y") if "Y" in groups else _group(parts, "y")
    if "y" in groups:
        year = year + np.where(year < 69, 2000, 1900)
    if "b" in groups:
        month = pc.index_in(pc.utf8_lower(pc.struct_field(parts, "b")), pa.array(_MONTHS))
        month = _MONTH_NUMBERS[pc.fill_null(month, len(_MONTH_NUMBERS) - 1).to_numpy()]
    else:
        month = _group(parts, "m")
    day = _group(parts, "d")
    months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    days = months.astype("M8[D]") + (day - 1)
    exists = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("M8[M]") == months)
    return np.where(exists, days, np.datetime64("NaT", "D"))


def _group(parts: pa.Array, name: str) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = pc.struct_field(parts, name).cast(pa.int64()).fill_null(0).to_numpy()
    return numbers


def _plausible(days: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    first, last = np.datetime64(f"{YEARS[0]}-01-01"), np.datetime64(f"{YEARS[1]}-12-31")
    return np.where((days >= first) & (days <= last), days, np.datetime64("NaT", "D"))


# --- numbers ------------------------------------------------------------------------------------


@cache
def _number_pattern(decimal: str, thousands: str) -> str:
    whole = rf"(?:\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|\d+)" if thousands else r"\d+"
    sign = re.escape(decimal)
    return rf"^[+-]?(?:{whole}(?:{sign}\d*)?|{sign}\d+)(?:[eE][+-]?\d+)?$"


def parse_numbers(
    column: pa.Array, decimal: str = ".", thousands: str = "", not_available: Collection[str] = NOT_AVAILABLE
) -> Numbers:
    """Return numbers of a column of text or numbers.

    Parameters
    ----------
    decimal, thousands
        The signs in text; "" for no sign between thousands.
    not_available
        The words, in lower case, for a missing number.

    Raises
    ------
    SchemaError
        A type that has no numbers to give, such as lists.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = column.cast(pa.float64(), safe=False)
        return Numbers(_floats(values), values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    if pa.types.is_dictionary(kind):
        words, codes = _words(column)
        numbers, missing = parse_numbers(words, decimal, thousands, not_available)
        return Numbers(numbers[codes], missing[codes])
    text = cell_text(column)
    readable = pc.match_substring_regex(text, _number_pattern(decimal, thousands))
    missing = np.zeros(len(text), dtype=bool)
    if not pc.all(readable, min_count=0).as_py():
        odd = np.flatnonzero(~readable.to_numpy(zero_copy_only=False))
        words = pc.utf8_lower(text.take(pa.array(odd)))
        missing[odd] = pc.is_in(words, pa.array(sorted(not_available), pa.string())).to_numpy(zero_copy_only=False)
        text = pc.if_else(readable, text, pa.scalar(None, pa.string()))
    if thousands:
        text = pc.replace_substring(text, thousands, "")
    if decimal != ".":
        text = pc.replace_substring(text, decimal, ".")
    return Numbers(_floats(text.cast(pa.float64())), missing)


def _floats(values: pa.Array) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return numbers


# --- names and text -----------------------------------------------------------------------------


def parse_names(column: pa.Array) -> Names:
    """Return names in their normal form.

    Raises
    ------
    SchemaError
        Cells that have no text form, such as lists.
    """
    words, codes = _words(column)
    return Names(codes, normal_names(words).to_pylist())


def _words(column: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the distinct cells as trimmed text, "" last, and the position of each cell's text among them."""
    encoded = column if pa.types.is_dictionary(column.type) else cell_text(column).dictionary_encode()
    words = pa.concat_arrays([cell_text(encoded.dictionary), pa.array([""])])
    return words, pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)


def cell_text(column: pa.Array) -> pa.Array:
    """Return every cell as text without outer white space; "" where there is none.

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


def _nulls(column: pa.Array) -> NDArray[np.bool_]:
    nulls: NDArray[Any] = column.is_null().to_numpy(zero_copy_only=False)
    return nulls
