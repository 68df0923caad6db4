"""Price files to rows: which columns hold what, what is wrong with a row, and all files of a folder.

A *long* file has a column of dates, one of assets and one of prices; a file of one asset has the asset declared; a
*wide* file has a column per asset.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Set
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.errors import AccessError, CorruptFileError, DataError, LuxorError, SchemaError, sample
from luxor_pipelines.lake.concurrency import ahead
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import BlobInfo, Unusable
from luxor_pipelines.lazy import pd
from luxor_pipelines.market.columns import text_column
from luxor_pipelines.names import normal_name
from luxor_pipelines.sources.cells import (
    NOT_AVAILABLE,
    Dates,
    Numbers,
    cell_text,
    parse_dates,
    parse_names,
    parse_numbers,
)
from luxor_pipelines.sources.confined import Confined
from luxor_pipelines.sources.formats import (
    NAMED_FORMATS,
    Declarations,
    Format,
    NamedFormat,
    is_field,
    propose,
    stem,
)
from luxor_pipelines.sources.limits import Limits
from luxor_pipelines.sources.raw import Batch, RawFile, check_width, open_raw

__all__ = [
    "FOLDER",
    "FORMATS_FILE",
    "LONG",
    "REASONS",
    "FileRows",
    "PriceFiles",
    "Prices",
    "merge_files",
    "price_file_infos",
    "read_price_file",
    "read_price_files",
]

logger = logging.getLogger(__name__)

FOLDER = "raw/prices"
FORMATS_FILE = f"{FOLDER}/_formats.json"
LONG = ("Date", "Asset", "Last_Price")

NAME_MAX = 200
"""Characters of an asset's name, all of them printable, the first none that starts a formula."""
NAMES_MAX = 1_000_000
"""Distinct assets of a file."""
CELL_MAX = 1_000
"""Characters of a cell that are kept for the quarantine."""
AHEAD, AHEAD_MAX = 4, 16_000_000
"""The number of files that are fetched before their turn, and the most bytes of such a file."""
KEPT_MAX = 50_000_000
"""Bytes of all bad cells of a file that are kept."""

REASONS = (
    "wrong number of cells",
    "no date",
    "bad date",
    "no asset",
    "asset is not a name",
    "price is not a number",
    "price is not finite",
    "price is not positive",
    "unknown asset",
    "conflicting prices",
)
"""Why a row is quarantined: the first that applies."""

_CODES = {reason: np.int8(position) for position, reason in enumerate(REASONS, 1)}
_REASON_NAMES = np.array(REASONS, dtype=object)
_Texts = Callable[[NDArray[np.int64]], dict[str, Any]]
"""A function that returns the cells ``Date``, ``Asset`` and ``Last_Price`` at some positions as text."""

_BY_PRODUCTS = ("thumbs.db", "desktop.ini", "~$")
"""The beginnings, in lower case, of the names of files that programs leave in folders."""


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prices:
    """Rows ``Date``, ``Asset``, ``Last_Price``, 16 bytes each.

    Attributes
    ----------
    names
        The assets, in their normal form, each once.
    days
        int32, days since 1970-01-01.
    assets
        int32, positions in ``names``.
    prices
        float64.
    """

    names: NDArray[np.object_]
    days: NDArray[np.int32]
    assets: NDArray[np.int32]
    prices: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.days)

    def keys(self) -> NDArray[np.int64]:
        """Date and asset as one number, by which rows are sorted by date."""
        keys = self.days.astype(np.int64)
        keys *= max(1, len(self.names))
        keys += self.assets
        return keys

    def positions(self, days: NDArray[np.int32], assets: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the row of each of these keys, -1 for none; rows must be sorted as `merge_files` sorts them."""
        own_keys, keys = self.keys(), days.astype(np.int64) * max(1, len(self.names)) + assets
        at = np.minimum(np.searchsorted(own_keys, keys), len(own_keys) - 1)
        return np.where(own_keys[at] == keys, at, -1)

    def take(self, rows: Any) -> Prices:
        """Return some of the rows."""
        return Prices(self.names, self.days[rows], self.assets[rows], self.prices[rows])

    def frame(self) -> pd.DataFrame:
        """Return the rows as a frame: ``Date`` (datetime64[us]), ``Asset``, ``Last_Price``."""
        return pd.DataFrame(
            {
                "Date": self.days.astype("M8[D]").astype("M8[us]"),
                "Asset": text_column(self.names, self.assets),
                "Last_Price": self.prices,
            }
        )


@dataclass(frozen=True)
class FileRows:
    """The rows of one file.

    Attributes
    ----------
    prices
        The good rows; no key twice.
    bad
        The bad rows, as many as are kept: ``Row, Date, Asset, Last_Price, Reason``. All but ``Row`` are the text of
        the file; for conflicting prices, the text of the parsed values.
    reasons
        How many rows are bad, by reason.
    missing
        How many prices are not available; their rows are neither good nor bad.
    warnings
        Sentences about the file.
    """

    prices: Prices
    bad: pd.DataFrame
    reasons: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def good(self) -> pd.DataFrame:
        """The good rows as a frame."""
        return self.prices.frame()


class Shape(NamedTuple):
    """The roles of a file's columns.

    ``dates`` and ``prices`` are positions of columns, one date for each price column. ``asset`` is the position of the
    column of assets; where there is none, ``names`` has the asset of each price column. ``last_above`` is the number
    of the last row above the data.
    """

    header: int
    last_above: int
    dates: tuple[int, ...]
    prices: tuple[int, ...]
    asset: int | None = None
    names: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()

    @property
    def is_wide(self) -> bool:
        """Whether several columns hold prices, or the one has its asset for a name."""
        return self.asset is None


def read_price_file(
    data: bytes,
    file: str,
    how: Format | None = None,
    price_keys: Set[str] | None = None,
    *,
    only_assets: bool = False,
    limits: Limits | None = None,
    confined: Confined | None = None,
) -> FileRows:
    """Read a price file and sort its rows into good and bad ones.

    Parameters
    ----------
    data, file
        The file's bytes, and its path, whose extension says what it is.
    how
        How its cells are to be read; default as a long file of ISO dates, or one with a column per asset.
    price_keys
        Those of ``assets``; a file with a column per asset, none of which is one of them, is refused.
    only_assets
        Whether rows of other assets are bad.
    limits, confined
        See `raw.open_raw`.

    Raises
    ------
    CorruptFileError, DataError
        It cannot be read as what its extension says, has columns of no known shape, or is beyond a limit.
    """
    how = how or Format()
    limits = limits or Limits()
    with open_raw(
        data,
        file,
        separator=how.separator,
        encoding=how.encoding,
        decimal=how.decimal,
        sheet=how.sheet,
        limits=limits,
        confined=confined,
    ) as raw:
        try:
            shape = find_shape(raw, how, price_keys)
        except DataError as error:
            if how.format is None:
                raise
            raise DataError(
                f"{error.message} It is declared to be of the format {how.format}.", hint=error.hint
            ) from error
        return _Reading(raw, how, shape, price_keys if only_assets else None, limits).rows()


# --- the shape of a file ------------------------------------------------------------------------


def find_shape(raw: RawFile, how: Format, price_keys: Set[str] | None = None) -> Shape:
    """Find which columns of a file hold what, by what is declared and what its header says.

    Raises
    ------
    DataError
        Columns of no known shape, or of a wide file that are no assets; it proposes what to declare.
    """
    named = NAMED_FORMATS[how.format] if how.format else NamedFormat("")
    titles = {**named.columns, **{kind: (name,) for kind, name in how.columns.items()}}
    if not any(any(cells) for cells in raw.head):
        raise CorruptFileError(
            f"{raw.file} cannot be read: its first line is not a header, it is blank.",
            hint="Replace the file by a good copy, or remove it.",
        )
    header = how.header or _find_header(raw, named, titles)
    if header > len(raw.head):
        raise _not_understood(raw, [], f"it has no row {header}")
    names = _header_names(raw, header)
    check_width(len(names), raw.file)
    if named.tickers:
        return _under_tickers(raw, named, header, names, titles)
    if named.is_matrix:
        return _matrix(raw, how, header, names, titles)
    if "price" in titles or how.asset is not None:
        return _declared(raw, how, header, names, titles)
    if "Asset" in names or "Last_Price" in names:
        if any(names.count(name) != 1 for name in LONG):
            raise _not_understood(raw, names, f"a long file has the columns {', '.join(LONG)}, each once")
        date, asset, price = (names.index(name) for name in LONG)
        surplus = tuple(name for name in names if name not in {*LONG, ""})
        return Shape(header, header, (date,), (price,), asset, surplus=surplus)
    return _wide(raw, how, header, names, titles, price_keys)


def _find_header(raw: RawFile, named: NamedFormat, titles: dict[str, tuple[str, ...]]) -> int:
    """Return the first row that has the names of a named format; else the first that is not blank."""
    firsts = [[cell.split("\n")[0].strip() for cell in cells] for cells in raw.head]
    if named.columns:
        for row, cells in enumerate(firsts, 1):
            if all(any(name in cells for name in alternatives) for alternatives in titles.values()):
                return row
    return next((row for row, cells in enumerate(firsts, 1) if any(cells)), 1)


def _header_names(raw: RawFile, header: int) -> list[str]:
    names = raw.head[header - 1] if raw.head else []
    return [name.strip() for name in names] if raw.is_sheet else list(names)


def _position(raw: RawFile, names: list[str], alternatives: tuple[str, ...]) -> int:
    """Return the position of the column that has the first of these names that occurs."""
    stripped = [name.strip() for name in names]
    for name in alternatives:
        if stripped.count(name.strip()) == 1:
            return stripped.index(name.strip())
        if name.strip() in stripped:
            raise _not_understood(raw, names, f"the column {name!r} occurs {stripped.count(name.strip())} times")
    raise _not_understood(raw, names, f"it has no column {' or '.join(map(repr, alternatives))}")


def _declared(raw: RawFile, how: Format, header: int, names: list[str], titles: dict[str, tuple[str, ...]]) -> Shape:
    """Return the shape of a file of one asset, or of a long file with other names of columns."""
    titles = {"date": ("Date",), "price": ("Last_Price",), **titles}
    date, price = (_position(raw, names, titles[kind]) for kind in ("date", "price"))
    if how.asset is not None:
        return Shape(header, header, (date,), (price,), names=(how.asset.replace("{stem}", stem(raw.file)),))
    if "asset" not in titles:
        raise _not_understood(raw, names, "it is declared to have a column of prices, but not of which asset")
    return Shape(header, header, (date,), (price,), _position(raw, names, titles["asset"]))


def _wide(
    raw: RawFile,
    how: Format,
    header: int,
    names: list[str],
    titles: dict[str, tuple[str, ...]],
    price_keys: Set[str] | None,
) -> Shape:
    date = _position(raw, names, titles["date"]) if "date" in titles else 0
    odd = [name for name in names if name.strip().lower() in {"asset", "last_price"}]
    if "date" not in titles and (names[0] != "Date" or odd):
        fault = f"it has neither the columns {', '.join(LONG)} nor 'Date' and a column per asset"
        raise _not_understood(raw, names, fault)
    skipped = {date, *(_position(raw, names, (name,)) for name in how.skip)}
    # A column without a name, in a sheet, holds notes beside the table.
    prices = [i for i, name in enumerate(names) if i not in skipped and (name or not raw.is_sheet)]
    assets = [names[i] for i in prices]
    fields = [name for name in assets if is_field(name)]
    if not prices or (fields and len(fields) == len([name for name in assets if name])):
        raise _not_understood(raw, names, "the names of its columns are those of fields, not of assets")
    if price_keys and not any(normal_name(name) in price_keys for name in assets):
        raise _not_understood(raw, names, "none of its columns is the price key of an asset")
    surplus = tuple(name for name in fields if price_keys is None or normal_name(name) not in price_keys)
    return Shape(header, header, (date,) * len(prices), tuple(prices), names=tuple(assets), surplus=surplus)


def _under_tickers(
    raw: RawFile,
    named: NamedFormat,
    header: int,
    names: list[str],
    titles: dict[str, tuple[str, ...]],
) -> Shape:
    """Return the shape of a file with a row of tickers beside the header; a ticker holds up to the next one."""
    row = header + named.tickers
    if not 1 <= row <= len(raw.head):
        raise _not_understood(raw, names, "it has no row of tickers beside that of fields")
    fields = [name.strip() for name in names]
    price_name = next((name for name in titles["price"] if name in fields), None)
    if price_name is None or not any(name in fields for name in titles["date"]):
        raise _not_understood(raw, names, f"it has no columns {titles['date'][0]!r} and {titles['price'][0]!r}")
    tickers = [cell.strip() for cell in raw.head[row - 1]] + [""] * len(fields)
    dates, prices, assets = [], [], []
    date, ticker = -1, ""
    for position, name in enumerate(fields):
        date = position if name in titles["date"] else date
        ticker = tickers[position] or ticker
        if name == price_name and date >= 0:
            dates.append(date)
            prices.append(position)
            assets.append(ticker)
    return Shape(header, max(row, header), tuple(dates), tuple(prices), names=tuple(assets))


def _matrix(raw: RawFile, how: Format, header: int, names: list[str], titles: dict[str, tuple[str, ...]]) -> Shape:
    """Return the shape of a file whose header cells have several lines: first the field, last the asset."""
    lines = [[line.strip() for line in name.splitlines() if line.strip()] or [""] for name in names]
    firsts = [line[0] for line in lines]
    date = _position(raw, firsts, titles["date"])
    price_name = next((name for name in titles["price"] if name in firsts), None)
    if price_name is None:
        raise _not_understood(raw, names, f"it has no column {titles['price'][0]!r}")
    prices = [i for i, name in enumerate(firsts) if name == price_name]
    if how.asset is not None:
        if len(prices) > 1:
            raise _not_understood(raw, names, f"one asset is declared, and {len(prices)} columns have prices")
        assets = [how.asset.replace("{stem}", stem(raw.file))]
    elif any(len(lines[i]) == 1 for i in prices):
        raise _not_understood(raw, names, "it does not say which asset its prices are of, and none is declared")
    else:
        assets = [lines[i][-1] for i in prices]
    return Shape(header, header, (date,) * len(prices), tuple(prices), names=tuple(assets))


def _not_understood(raw: RawFile, names: list[str], fault: str) -> DataError:
    line = propose(raw.head, raw.file)
    proposal = f" This line may declare it: {line}" if line else ""
    # The hint is the same for every file, so that a run that is refused many says it once.
    return DataError(
        f"{raw.file} cannot be read: {fault}; this one has {sample(names, 5) or 'none'}.{proposal}",
        hint=f"Declare in {FORMATS_FILE} what its columns are, see docs/price-files.md; `luxor inspect` shows what "
        "would be read. Names are matched exactly; if they stick together, declare the separator.",
    )


# --- its rows -----------------------------------------------------------------------------------


class _Reading:
    """One pass through a file, which collects its good rows in compact form and its bad rows as text."""

    def __init__(self, raw: RawFile, how: Format, shape: Shape, price_keys: Set[str] | None, limits: Limits) -> None:
        self._raw = raw
        self._how = how
        self._shape = shape
        self._price_keys = price_keys
        self._limits = limits
        self._not_available = {*NOT_AVAILABLE, *(word.strip().lower() for word in how.null)}
        self._names: dict[str, int] = {}
        self._faults: list[int] = []
        """The fault of each name: a position in `REASONS`, counted from 1; 0 for none."""
        self._days = _Growing(np.int32)
        self._assets = _Growing(np.int32)
        self._prices = _Growing(np.float64)
        self._rows = _Growing(np.int32)
        self._reasons: Counter[str] = Counter()
        self._bad: list[pd.DataFrame] = []
        self._bad_count = self._bad_bytes = 0
        self._missing = self._cut = self._count = 0
        self._column_owners = self._owners([normal_name(name) for name in shape.names])
        self._groups: dict[int, list[int]] = {}
        """The positions of the price columns that belong to each column of dates."""
        for i, position in enumerate(shape.dates):
            self._groups.setdefault(position, []).append(i)

    def rows(self) -> FileRows:
        """Read the file."""
        shape = self._shape
        columns = sorted({*shape.dates, *shape.prices, *(() if shape.asset is None else (shape.asset,))})
        place = {column: i for i, column in enumerate(columns)}
        repeating = set(columns) - set(shape.prices)
        for batch in self._raw.batches(columns, shape.header, repeating=repeating):
            if shape.last_above > shape.header:
                above = int(np.searchsorted(batch.rows, shape.last_above, side="right"))
                batch = Batch([column.slice(above) for column in batch.columns], batch.rows[above:])
            if shape.asset is None:
                self._read_columns(batch, place)
            else:
                self._read_long(batch, place)
        self._keep_ragged()
        prices = self._without_conflicts()
        parts = [part for part in self._bad if len(part)]
        columns_of_bad = ["Row", *LONG, "Reason"]
        bad = pd.DataFrame(columns=columns_of_bad)
        if parts:
            bad = pd.concat(parts).sort_values("Row", kind="stable", ignore_index=True)
        return FileRows(prices, bad, self._reasons, self._missing, self._warnings(len(bad)))

    def _warnings(self, bad_count: int) -> tuple[str, ...]:
        file, shape = self._raw.file, self._shape
        warnings = []
        if shape.surplus and shape.asset is not None:
            warnings.append(f"{file}: columns {sample(shape.surplus, 5)} are ignored.")
        elif shape.surplus:
            warnings.append(
                f"{file}: columns {sample(shape.surplus, 5)} are read as assets, and have names of fields; "
                f"if they are none, declare them as skip in {FORMATS_FILE}."
            )
        if self._cut:
            warnings.append(f"{file}: the time of day was cut off {self._cut:,} dates.")
        total = self._reasons.total()
        if bad_count < total:
            warnings.append(f"{file}: of {total:,} bad rows, the first {bad_count:,} are kept.")
        return tuple(warnings)

    def _read_long(self, batch: Batch, place: dict[int, int]) -> None:
        shape = self._shape
        assert shape.asset is not None
        date, asset, price = (batch.columns[place[i]] for i in (shape.dates[0], shape.asset, shape.prices[0]))
        dates = self._parsed_dates(date, shape.dates[0])
        names = self._parsed(shape.asset, lambda: parse_names(asset))
        owners = self._owners(names.names)[names.codes]
        numbers = self._parsed_numbers(price, shape.prices[0])
        self._sort_out(batch.rows, dates, owners, numbers, partial(_texts_of_rows, date, asset, price))

    def _read_columns(self, batch: Batch, place: dict[int, int]) -> None:
        """Read a batch of a file without a column of assets: all price columns of one date column at once."""
        shape = self._shape
        owners = self._column_owners
        for position, group in self._groups.items():
            date = batch.columns[place[position]]
            dates = self._parsed_dates(date, position)
            cells = [batch.columns[place[shape.prices[i]]] for i in group]
            numbers = self._parsed_columns(cells, [shape.prices[i] for i in group])
            filled = np.flatnonzero(~numbers.missing)  # a blank cell is no row, whatever its date
            column, row = np.divmod(filled, max(1, len(batch.rows)))
            names = np.array(shape.names, dtype=object)[group]
            self._sort_out(
                batch.rows[row],
                dates.take(row),
                owners[group][column],
                Numbers(numbers.numbers[filled], numbers.missing[filled]),
                partial(_texts_of_cells, date, names, cells, row, column),
            )

    def _parsed_columns(self, cells: list[pa.Array], positions: list[int]) -> Numbers:
        kind = cells[0].type
        if not pa.types.is_dictionary(kind) and all(cell.type == kind for cell in cells):
            return self._parsed_numbers(pa.concat_arrays(cells), positions[0])
        parsed = [self._parsed_numbers(cell, i) for cell, i in zip(cells, positions, strict=True)]
        return Numbers(*(np.concatenate(parts) for parts in zip(*parsed, strict=True)))

    def _sort_out(
        self, rows: NDArray[np.int64], dates: Dates, owners: NDArray[np.int64], numbers: Numbers, texts: _Texts
    ) -> None:
        """Keep good prices as numbers, and bad ones as text."""
        price = numbers.numbers
        name_faults = np.array([*self._faults, 0], dtype=np.int8)[owners]
        unknown = name_faults == _CODES["unknown asset"]
        conditions = {
            "no date": dates.missing,
            "bad date": np.isnat(dates.days),
            "no asset": name_faults == _CODES["no asset"],
            "asset is not a name": name_faults == _CODES["asset is not a name"],
            "price is not a number": np.isnan(price),
            "price is not finite": np.isinf(price),
            "price is not positive": price <= 0,
            "unknown asset": unknown,
        }
        reason = np.select(list(conditions.values()), [_CODES[name] for name in conditions], np.int8(0))
        reason[numbers.missing] = -1
        self._missing += int((numbers.missing & ~dates.missing).sum())
        bad = np.flatnonzero(reason > 0)
        if len(bad):
            self._keep(bad, reason[bad], rows[bad], texts)
        good = np.flatnonzero(reason == 0)
        self._count += len(good)
        if self._count > self._limits.rows:
            raise self._limits.refused(self._raw.file, f"has more than {self._limits.rows:,} prices", "rows")
        self._cut += int(dates.cut[good].sum())
        self._days.extend(dates.days[good].astype(np.int64))
        self._assets.extend(owners[good])
        self._prices.extend(price[good])
        self._rows.extend(rows[good])

    def _keep(self, bad: Any, reason: Any, rows: Any, texts: Any) -> None:
        counts = np.bincount(reason, minlength=len(REASONS) + 1)[1:]
        self._reasons.update({name: int(count) for name, count in zip(REASONS, counts, strict=True) if count})
        room = self._limits.bad_rows - self._bad_count if self._bad_bytes < KEPT_MAX else 0
        if room <= 0:
            return
        frame = pd.DataFrame({"Row": rows[:room], **texts(bad[:room]), "Reason": _REASON_NAMES[reason[:room] - 1]})
        self._bad_count += len(frame)
        self._bad_bytes += sum(int(frame[name].str.len().sum()) for name in LONG)
        self._bad.append(frame)

    def _keep_ragged(self) -> None:
        shape = self._shape
        cells = {row: self._raw.cells(text) for row, text in self._raw.ragged.items() if row > shape.last_above}
        rows = {row: row_cells for row, row_cells in cells.items() if any(cell.strip() for cell in row_cells)}
        if not rows:
            return
        self._reasons[REASONS[0]] += len(rows)
        positions = {
            "Date": shape.dates[0],
            "Asset": shape.asset,
            "Last_Price": None if shape.is_wide else shape.prices[0],
        }
        self._bad.append(
            pd.DataFrame(
                {
                    "Row": list(rows),
                    **{name: [_cell(row_cells, i) for row_cells in rows.values()] for name, i in positions.items()},
                    "Reason": REASONS[0],
                }
            )
        )

    def _owners(self, names: list[str]) -> NDArray[np.int64]:
        """Return the positions of these names among all of the file's."""
        for name in names:
            if name not in self._names:
                self._names[name] = len(self._names)
                self._faults.append(self._fault(name))
        if len(self._names) > NAMES_MAX:
            raise DataError(
                f"{self._raw.file} has more than {NAMES_MAX:,} assets.", hint="Check which column has the assets."
            )
        return np.array([self._names[name] for name in names], dtype=np.int64)

    def _fault(self, name: str) -> int:
        if not name:
            return int(_CODES["no asset"])
        if len(name) > NAME_MAX or not name.isprintable() or _is_formula(name):
            return int(_CODES["asset is not a name"])
        if self._price_keys is not None and name not in self._price_keys:
            return int(_CODES["unknown asset"])
        return 0

    def _parsed_dates(self, column: pa.Array, position: int) -> Dates:
        how, raw = self._how, self._raw
        dates: Dates = self._parsed(position, lambda: parse_dates(column, how.date_format, is_sheet=raw.is_sheet))
        return dates

    def _parsed_numbers(self, column: pa.Array, position: int) -> Numbers:
        how = self._how
        numbers: Numbers = self._parsed(
            position, lambda: parse_numbers(column, how.decimal, how.between_thousands, self._not_available)
        )
        return numbers

    def _parsed(self, position: int, parse: Any) -> Any:
        try:
            return parse()
        except SchemaError as error:
            name = self._raw.head[self._shape.header - 1][position]
            raise DataError(
                f"{self._raw.file} cannot be read: column {name!r}: {error.message}.",
                hint="Write it as plain dates, names and numbers.",
            ) from error

    def _without_conflicts(self) -> Prices:
        """Return the good rows, one of each key; those of one key with different prices are bad."""
        prices = Prices(
            np.array(list(self._names), dtype=object), self._days.values, self._assets.values, self._prices.values
        )
        rows = self._rows.values
        keys = prices.keys()
        if _ascend(keys):
            return prices
        order, starts = _runs(keys)
        if len(starts) == len(prices):
            return prices
        ordered = prices.prices[order]
        differ = np.minimum.reduceat(ordered, starts) != np.maximum.reduceat(ordered, starts)
        lengths = np.diff(np.append(starts, len(order)))
        conflicting = np.sort(order[np.repeat(differ, lengths)])
        if len(conflicting):
            reason = np.full(len(conflicting), _CODES["conflicting prices"])
            texts = partial(_texts_of_prices, prices.take(conflicting))
            self._keep(np.arange(len(conflicting)), reason, rows[conflicting], texts)
        return prices.take(np.sort(order[starts[~differ]]))


def _is_formula(name: str) -> bool:
    """Return whether a spreadsheet that somebody opens an export with would take a name for a formula.

    Full-width signs count too: a sheet, or the program that makes it one, may turn them into plain ones.
    """
    plain = name if name.isascii() else unicodedata.normalize("NFKC", name)
    return plain.lstrip().startswith(("=", "+", "-", "@"))


class _Growing:
    """A column of numbers to which more are added; it moves, and is not copied, as it grows."""

    def __init__(self, kind: Any) -> None:
        self._values = np.empty(2**12, kind)
        self._count = 0

    def extend(self, values: NDArray[Any]) -> None:
        """Add numbers at the end."""
        count = self._count + len(values)
        if count > len(self._values):
            self._values.resize(max(count, len(self._values) * 5 // 4), refcheck=False)
        self._values[self._count : count] = values
        self._count = count

    @property
    def values(self) -> NDArray[Any]:
        """All numbers so far."""
        return self._values[: self._count]


def _ascend(keys: NDArray[np.int64]) -> bool:
    """Return whether each key is greater than the one before."""
    return bool((keys[1:] > keys[:-1]).all())


def _runs(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the stable order of the keys, and where in it each run of equal ones starts."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return order, np.flatnonzero(first)


def _texts_of_rows(date: pa.Array, asset: pa.Array, price: pa.Array, at: NDArray[np.int64]) -> dict[str, Any]:
    return {"Date": _text_at(date, at), "Asset": _text_at(asset, at), "Last_Price": _text_at(price, at)}


def _texts_of_cells(
    date: pa.Array,
    names: NDArray[np.object_],
    cells: list[pa.Array],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    at: NDArray[np.int64],
) -> dict[str, Any]:
    prices = np.empty(len(at), dtype=object)
    for position in np.unique(column[at]):
        is_here = column[at] == position
        prices[is_here] = _text_at(cells[position], row[at][is_here])
    return {"Date": _text_at(date, row[at]), "Asset": names[column[at]], "Last_Price": prices}


def _texts_of_prices(prices: Prices, at: NDArray[np.int64]) -> dict[str, Any]:
    part = prices.take(at)
    return {
        "Date": part.days.astype("M8[D]").astype(str).astype(object),
        "Asset": part.names[part.assets],
        "Last_Price": np.array([f"{price:.15g}" for price in part.prices], dtype=object),
    }


def _text_at(column: pa.Array, at: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the cells at some positions as text, cut where they are overlong."""
    if pa.types.is_dictionary(column.type):  # cut before they are written out, each as often as it occurs
        words = pc.utf8_slice_codeunits(cell_text(column.dictionary), 0, CELL_MAX)
        texts = words.take(column.indices.take(pa.array(at))).fill_null("")
    else:
        texts = pc.utf8_slice_codeunits(cell_text(column.take(pa.array(at))), 0, CELL_MAX)
    return np.array(texts.to_pylist(), dtype=object)


def _cell(cells: list[str], position: int | None) -> str:
    return cells[position] if position is not None and position < len(cells) else ""


# --- all files of a folder ----------------------------------------------------------------------


@dataclass(frozen=True)
class PriceFiles:
    """The rows of the files of `FOLDER`.

    Attributes
    ----------
    read
        The files that could be read, by name below the folder, in the order in which they are applied.
    refused
        The others, each with the error that says why.
    warnings
        Sentences about the folder.
    """

    read: dict[str, FileRows]
    refused: dict[str, LuxorError]
    warnings: tuple[str, ...] = ()


def price_file_infos(lake: Lake, unusable: list[Unusable] | None = None) -> list[BlobInfo]:
    """Return the price files below `FOLDER`, in the order in which they are applied, that of their names.

    Files and folders whose names start with ``_`` or ``.`` are skipped, as are files that programs leave in folders.
    ``unusable`` receives the entries that are no files of the lake; see `Storage.list`.
    """
    infos = lake.storage.list(FOLDER, unusable=unusable)
    below = len(FOLDER) + 1
    return [info for info in infos if not any(_is_left_alone(part) for part in info.path[below:].split("/"))]


def _is_left_alone(part: str) -> bool:
    return part.startswith(("_", ".")) or part.lower().startswith(_BY_PRODUCTS)


def read_price_files(
    lake: Lake,
    default: Format | None = None,
    price_keys: Set[str] | None = None,
    *,
    only_assets: bool = False,
    limits: Limits | None = None,
) -> PriceFiles:
    """Read all files in `FOLDER`.

    Parameters
    ----------
    default
        The format of files for which ``_formats.json`` has no line.
    price_keys, only_assets, limits
        See `read_price_file`.

    Raises
    ------
    DataError
        ``_formats.json`` is not as it should be.
    """
    limits = limits or Limits()
    unusable: list[Unusable] = []
    infos = price_file_infos(lake, unusable)
    declared = Declarations(default)
    if lake.storage.stat(FORMATS_FILE):
        declared = Declarations.read(lake.read(FORMATS_FILE), FORMATS_FILE, default)
    read: dict[str, FileRows] = {}
    refused: dict[str, LuxorError] = {}
    total = 0
    with Confined(limits) as confined, closing(_contents(lake, infos)) as contents:
        for info, content in zip(infos, contents, strict=True):
            path, name = info.path, info.path.removeprefix(f"{FOLDER}/")
            try:
                if total > limits.total:
                    raise limits.refused(path, f"comes after more than {limits.total:,} prices of other files", "total")
                if info.size > limits.bytes:
                    raise limits.refused(path, f"has {info.size:,} bytes; {limits.bytes:,} are read at most", "bytes")
                rows = read_price_file(
                    content(),
                    path,
                    declared.of(name),
                    price_keys,
                    only_assets=only_assets,
                    limits=limits,
                    confined=confined,
                )
            except (CorruptFileError, DataError, AccessError) as error:
                logger.warning("%s", error.message)  # the run's error has the advice, once for all files
                refused[name] = error
            else:
                read[name] = rows
                total += len(rows.prices)
    warnings = [f"{entry.path} is passed over: {entry.reason}." for entry in unusable]
    warnings += [f"{FORMATS_FILE}: no file matches {pattern!r}." for pattern in declared.unused()]
    return PriceFiles(read, refused, tuple(warnings))


def _contents(lake: Lake, infos: list[BlobInfo]) -> Generator[Callable[[], bytes], None, None]:
    """Yield, for each file in turn, a function that reads it; small remote files are fetched a few ahead."""

    def fetch(info: BlobInfo) -> bytes | None:
        return lake.read(info.path) if info.size <= AHEAD_MAX else None

    def content(info: BlobInfo, fetched: Callable[[], bytes | None]) -> bytes:
        data = fetched()
        return lake.read(info.path) if data is None else data

    if not lake.storage.concurrent:
        yield from (partial(content, info, lambda: None) for info in infos)
        return
    with closing(ahead(fetch, infos, AHEAD)) as results:
        yield from (partial(content, info, fetched) for info, fetched in zip(infos, results, strict=True))


def merge_files(files: Iterable[Prices]) -> Prices:
    """Return all files' rows, by date; of several rows with one key, the last file's."""
    parts = list(files)
    if len(parts) == 1 and _ascend(parts[0].keys()):
        return parts[0]
    codes, names = pd.factorize(np.concatenate([np.empty(0, dtype=object), *(part.names for part in parts)]))
    owners = iter(np.split(codes.astype(np.int32), np.cumsum([len(part.names) for part in parts])))
    merged = Prices(
        names,
        np.concatenate([np.empty(0, np.int32), *(part.days for part in parts)]),
        np.concatenate([np.empty(0, np.int32), *(next(owners)[part.assets] for part in parts)]),
        np.concatenate([np.empty(0), *(part.prices for part in parts)]),
    )
    keys = merged.keys()
    if _ascend(keys):
        return merged
    order, starts = _runs(keys)
    return merged.take(order if len(starts) == len(order) else order[np.append(starts[1:], len(order)) - 1])
