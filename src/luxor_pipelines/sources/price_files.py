"""Price files to rows: declared formats, long and wide shapes, and what is wrong with a row.

The steps between the bytes of one file and `FileRows`, each a pure function.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from luxor_pipelines.errors import DataError, SchemaError, UsageError, sample
from luxor_pipelines.sources.cells import (
    DATE_FORMATS,
    DECIMALS,
    as_text,
    cell_text,
    parse_dates,
    parse_names,
    parse_numbers,
)
from luxor_pipelines.sources.raw import RawTable, gunzip, read_csv, read_parquet, read_xlsx, too_large

__all__ = ["FILE_MAX", "REASONS", "FileRows", "Format", "declared_formats", "format_of", "read_price_file", "read_rows"]

FILE_MAX = 1_000_000_000
"""Bytes of one file, as it comes and once unpacked."""

NAME_MAX = 200
"""Characters of an asset's name, all of them printable, the first none that starts a formula."""

CELL_MAX = 10_000
"""Characters of a cell that are kept in quarantine."""

REASONS = (
    "wrong number of cells",
    "no date",
    "bad date",
    "no asset",
    "asset is not a name",
    "no price",
    "price is not a number",
    "price is not finite",
    "price is not positive",
    "unknown asset",
    "conflicting prices",
)
"""Why a row is quarantined: the first that applies."""

LONG = ("Date", "Asset", "Last_Price")
QUARANTINE = ("Row", *LONG, "Reason")


@dataclass(frozen=True)
class Format:
    """How a file's text is to be read. Declared, never guessed.

    Attributes
    ----------
    date_format
        ``iso`` (2026-10-31), ``dd/mm/yyyy`` or ``mm/dd/yyyy``.
    decimal
        ``.``, or ``,``: then dots between thousands are let pass, ``1.234,56``.
    separator
        The character between a csv file's cells.
    sheet
        The sheet of an Excel workbook; needed when there are several.
    """

    date_format: str = "iso"
    decimal: str = "."
    separator: str = ","
    sheet: str | None = None

    def __post_init__(self) -> None:
        if self.date_format not in DATE_FORMATS:
            raise UsageError(
                f"date_format {self.date_format!r} is not known.",
                hint=f"Use one of {', '.join(DATE_FORMATS)}.",
            )
        if self.decimal not in DECIMALS:
            raise UsageError(f"decimal {self.decimal!r} is not known.", hint="Use '.' or ','.")
        if self.separator not in _SEPARATORS:
            raise UsageError(
                f"separator {self.separator!r} is not known.",
                hint=f"Use one of {', '.join(map(repr, _SEPARATORS))}.",
            )
        if self.sheet is not None and not isinstance(self.sheet, str):
            raise UsageError(f"sheet {self.sheet!r} is not a name.", hint="Give the sheet's name as text.")


_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class FileRows:
    """What one file holds.

    Attributes
    ----------
    good
        Rows ``Date`` (datetime64[us]), ``Asset``, ``Last_Price``; no key twice.
    bad
        Rows ``Row, Date, Asset, Last_Price, Reason``, all but ``Row`` as text as found.
    warnings
        Sentences about the file.
    """

    good: pd.DataFrame
    bad: pd.DataFrame
    warnings: tuple[str, ...] = ()


def declared_formats(data: bytes, file: str) -> dict[str, dict[str, str]]:
    """Read the declarations in ``_formats.json``: name pattern to the formats of the files it matches.

    Raises
    ------
    DataError
        Not JSON of that form, or a key or a value that is not known.
    """
    hint = 'Write it like {"custodian_*.csv": {"date_format": "dd/mm/yyyy", "decimal": ",", "separator": ";"}}.'
    try:
        declared = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON in UTF-8: {error}.", hint=hint) from error
    if not isinstance(declared, dict):
        raise DataError(f"{file} is not a JSON object of name patterns.", hint=hint)
    allowed = {field.name for field in fields(Format)}
    for pattern, formats in declared.items():
        unknown = sorted(set(formats) - allowed) if isinstance(formats, dict) else [formats]
        if unknown:
            raise DataError(
                f"{file}, {pattern!r}: {sample(unknown)} is not one of {', '.join(sorted(allowed))}.",
                hint=hint,
            )
        try:
            Format(**formats)
        except (UsageError, TypeError) as error:
            raise DataError(f"{file}, {pattern!r}: {error}", hint=hint) from error
    return declared


def format_of(name: str, default: Format, declared: Mapping[str, Mapping[str, str]]) -> Format:
    """The format of the file ``name`` (below ``raw/prices``): ``default``, changed by what is declared.

    A pattern (``*``, ``?``, ``[…]``) matches the whole name or its last part, case-sensitively; of
    several that match, later ones win.
    """
    changes: dict[str, Any] = {}
    for pattern, formats in declared.items():
        if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition("/")[2], pattern):
            changes |= formats
    return replace(default, **changes)


def read_price_file(data: bytes, file: str, how: Format) -> RawTable:
    """Read a price file by the extension of its name: .csv, .csv.gz, .parquet, .xlsx.

    Raises
    ------
    CorruptFileError, DataError
        It cannot be read as what its extension says, or has another extension.
    """
    name = file.lower()
    if len(data) > FILE_MAX:
        raise too_large(file, FILE_MAX)
    if name.endswith(".csv"):
        return read_csv(data, file, how.separator)
    if name.endswith(".csv.gz"):
        return read_csv(gunzip(data, file, FILE_MAX), file, how.separator)
    if name.endswith(".parquet"):
        return read_parquet(data, file, FILE_MAX)
    if name.endswith(".xlsx"):
        return read_xlsx(data, file, FILE_MAX, lambda value: as_text(value, how.date_format, how.decimal), how.sheet)
    raise DataError(
        f"{file} has an extension that is not read.",
        hint="Use .csv, .csv.gz, .parquet or .xlsx; a name or folder that starts with _ is left alone.",
    )


def read_rows(raw: RawTable, file: str, how: Format, known: Set[str] | None = None) -> FileRows:
    """Sort a file's rows into good and bad ones.

    A long file has the columns ``Date``, ``Asset`` and ``Last_Price``; others are ignored, with a
    warning. A wide file has neither of the latter two: ``Date`` first, then a column per asset, where
    a blank cell is no row. Rows of one key with one price are one row.

    Parameters
    ----------
    known
        The assets that may occur; default all.

    Raises
    ------
    DataError
        Columns of neither shape, or of a type that has no dates, names or prices to give.
    """
    surplus: list[str] = []
    if "Asset" in raw.names or "Last_Price" in raw.names:
        twice = [name for name in LONG if raw.names.count(name) != 1]
        if twice:
            raise _shape(raw, file, f"a long file has the columns {', '.join(LONG)}, each once")
        cells = _long(raw, file, how)
        surplus = [name for name in raw.names if name not in {*LONG, ""}]
    else:
        odd = [name for name in raw.names if name.strip().lower() in {"asset", "last_price"}]
        if raw.names[:1] != ["Date"] or odd:
            raise _shape(raw, file, f"it has neither the columns {', '.join(LONG)} nor 'Date' and a column per asset")
        cells = _wide(raw, file, how)
    reason = _reasons(cells, known)
    good = np.flatnonzero(reason == 0)
    good = good[~pd.Series(cells.key[good]).duplicated().to_numpy()]
    notes = (f"{file}: columns {sample(surplus, 5)} are ignored.",) if surplus else ()
    return FileRows(
        pd.DataFrame(
            {
                "Date": cells.days[good].astype("datetime64[us]"),
                "Asset": cells.names[cells.asset[good]],
                "Last_Price": cells.price[good],
            }
        ),
        _bad_rows(raw, cells, reason),
        notes,
    )


def _shape(raw: RawTable, file: str, what: str) -> DataError:
    return DataError(
        f"{file} cannot be read: {what}; this one has {sample(raw.names, 5) or 'none'}.",
        hint="Names are matched exactly. If they stick together, declare the separator in _formats.json.",
    )


@dataclass(frozen=True)
class _Cells:
    """One entry per price cell: of a long file its rows, of a wide one its cells that are not blank."""

    row: NDArray[np.int64]  # position in the raw table
    column: NDArray[np.int64]  # of the price
    days: NDArray[np.datetime64]
    no_date: NDArray[np.bool_]
    asset: NDArray[np.int64]  # position in names
    names: NDArray[np.object_]
    price: NDArray[np.float64]
    no_price: NDArray[np.bool_]

    @cached_property
    def key(self) -> NDArray[np.int64]:
        """Date and asset as one number."""
        return self.days.astype(np.int64) * len(self.names) + self.asset


def _long(raw: RawTable, file: str, how: Format) -> _Cells:
    date, asset, price = (raw.names.index(name) for name in LONG)
    days, no_date = _parsed(raw, date, file, parse_dates, how.date_format)
    names = _parsed(raw, asset, file, parse_names).dictionary_encode()
    prices, no_price = _parsed(raw, price, file, parse_numbers, how.decimal)
    count = len(raw.rows)
    return _Cells(
        np.arange(count),
        np.full(count, price),
        days,
        no_date,
        names.indices.to_numpy().astype(np.int64),
        np.array(names.dictionary.to_pylist(), dtype=object),
        prices,
        no_price,
    )


def _wide(raw: RawTable, file: str, how: Format) -> _Cells:
    days, no_date = _parsed(raw, 0, file, parse_dates, how.date_format)
    names = parse_names(pa.array(raw.names[1:], pa.string())).dictionary_encode()
    parsed = [_parsed(raw, i, file, parse_numbers, how.decimal) for i in range(1, len(raw.names))]
    filled = [np.flatnonzero(~blank) for _, blank in parsed]
    row = np.concatenate([np.arange(0), *filled])
    column = np.repeat(np.arange(1, len(raw.names)), [len(rows) for rows in filled])
    return _Cells(
        row,
        column,
        days[row],
        no_date[row],
        names.indices.to_numpy().astype(np.int64)[column - 1],
        np.array(names.dictionary.to_pylist(), dtype=object),
        np.concatenate([np.zeros(0), *(price[rows] for (price, _), rows in zip(parsed, filled, strict=True))]),
        np.zeros(len(row), dtype=bool),
    )


def _parsed(raw: RawTable, column: int, file: str, parse: Callable[..., Any], *how: str) -> Any:
    try:
        return parse(raw.columns[column], *how)
    except SchemaError as error:
        raise DataError(
            f"{file} cannot be read: column {raw.names[column]!r}: {error.message}.",
            hint="Write it as plain dates, names and numbers.",
        ) from error


def _is_formula(name: str) -> bool:
    """Whether a spreadsheet that somebody opens an export with would take a name for a formula.

    Full-width signs count too: a sheet, or the program that makes it one, may turn them into plain ones.
    """
    return unicodedata.normalize("NFKC", name).lstrip().startswith(("=", "+", "-", "@"))


def _reasons(cells: _Cells, known: Set[str] | None) -> NDArray[np.int64]:
    """For each cell 0, or the 1-based position in `REASONS` of the first that applies."""
    unnamed = np.array([name == "" for name in cells.names], dtype=bool)
    odd = np.array(
        [len(name) > NAME_MAX or not name.isprintable() or _is_formula(name) for name in cells.names], dtype=bool
    )
    unknown = np.array([known is not None and name not in known for name in cells.names], dtype=bool)
    faults = {
        "no date": cells.no_date,
        "bad date": np.isnat(cells.days),
        "no asset": unnamed[cells.asset],
        "asset is not a name": odd[cells.asset],
        "no price": cells.no_price,
        "price is not a number": np.isnan(cells.price),
        "price is not finite": np.isinf(cells.price),
        "price is not positive": cells.price <= 0,
        "unknown asset": unknown[cells.asset],
    }
    reason = np.select(list(faults.values()), [REASONS.index(fault) + 1 for fault in faults], 0)
    good = np.flatnonzero(reason == 0)
    again = good[pd.Series(cells.key[good]).duplicated(keep=False).to_numpy()]
    prices = pd.Series(cells.price[again]).groupby(cells.key[again]).transform("nunique").to_numpy()
    reason[again[prices > 1]] = REASONS.index("conflicting prices") + 1
    return reason


def _bad_rows(raw: RawTable, cells: _Cells, reason: NDArray[np.int64]) -> pd.DataFrame:
    """The rows to quarantine, in the file's order."""
    at = np.flatnonzero(reason)
    row, column = cells.row[at], cells.column[at]
    wide = "Asset" not in raw.names
    prices = np.empty(len(at), dtype=object)
    for each in np.unique(column):
        here = column == each
        prices[here] = _found(raw, each, row[here])
    bad = pd.DataFrame(
        {
            "Row": raw.rows[row],
            "Date": _found(raw, raw.names.index("Date"), row),
            "Asset": np.array(raw.names, dtype=object)[column] if wide else _found(raw, raw.names.index("Asset"), row),
            "Last_Price": prices,
            "Reason": np.array(REASONS, dtype=object)[reason[at] - 1],
        }
    )
    for name in LONG:
        bad[name] = bad[name].str.slice(0, CELL_MAX)
    if not raw.ragged:
        return bad.sort_values("Row", kind="stable", ignore_index=True)
    position = {name: raw.names.index(name) for name in LONG if name in raw.names}
    ragged = pd.DataFrame(
        {"Row": list(raw.ragged)}
        | {name: [_cell(found, position.get(name)) for found in raw.ragged.values()] for name in LONG}
        | {"Reason": REASONS[0]}
    )
    parts = [part for part in (bad, ragged) if len(part)]
    return pd.concat(parts, ignore_index=True).sort_values("Row", kind="stable", ignore_index=True)


def _found(raw: RawTable, column: int, row: NDArray[np.int64]) -> NDArray[np.object_]:
    """The cells of one column at the positions ``row``, as text."""
    return np.array(cell_text(raw.columns[column].take(pa.array(row))).to_pylist(), dtype=object)


def _cell(found: list[str], position: int | None) -> str:
    return found[position] if position is not None and position < len(found) else ""
