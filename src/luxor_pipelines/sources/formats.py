"""Formats of price files: what `_formats.json` declares, and the formats that have a name."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from luxor_pipelines.errors import DataError, UsageError, sample
from luxor_pipelines.names import normal_name
from luxor_pipelines.sources.cells import DATE_FORMATS, date_pattern
from luxor_pipelines.sources.raw import HEAD_ROWS

__all__ = [
    "FIELD_NAMES",
    "NAMED_FORMATS",
    "Declarations",
    "Format",
    "NamedFormat",
    "is_field",
    "propose",
    "stem",
]

ENCODINGS = (
    "utf-8",
    "utf-16",
    "ascii",
    "latin-1",
    "cp1252",
    "cp1250",
    "cp850",
    "iso-8859-2",
    "iso-8859-15",
    "mac-roman",
)
SEPARATORS = (",", ";", "\t", "|")
THOUSANDS = (".", ",", " ", "'", "")
_CODECS = {codecs.lookup(name).name: name for name in ENCODINGS}
_FILE_MAX = 1_000_000
_PATTERNS_MAX = 1_000
_WORDS_MAX = 1_000


@dataclass(frozen=True)
class NamedFormat:
    """The facts about one vendor's files.

    Attributes
    ----------
    title
        Whose files, for people.
    settings
        Keys of `Format` and their values.
    columns
        The names that the vendor gives to the columns ``date``, ``asset`` and ``price``, in the order of preference.
    tickers
        The place of the row of assets, beside the header's row of fields: −1 above it, 1 below it, 0 nowhere.
    is_matrix
        Whether the header's cells have several lines, the field in the first, the asset in the last.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tickers: int = 0
    is_matrix: bool = False


NAMED_FORMATS: dict[str, NamedFormat] = {
    "yahoo": NamedFormat(
        "Yahoo Finance, and yfinance of one ticker",
        {"date_format": "iso-local"},
        {"date": ("Date",), "price": ("Adj Close", "Adj Close**")},
    ),
    "yfinance": NamedFormat(
        "yfinance with its two rows of names",
        {"date_format": "iso-local"},
        {"date": ("Price",), "price": ("Adj Close", "Close")},
        tickers=1,
    ),
    "investing-en": NamedFormat(
        "Investing.com in English",
        {"date_format": "mm/dd/yyyy", "thousands": ","},
        {"date": ("Date",), "price": ("Price",)},
    ),
    "investing-pt": NamedFormat(
        "Investing.com in Portuguese",
        {"date_format": "%d.%m.%Y", "decimal": ",", "thousands": "."},
        {"date": ("Data",), "price": ("Último", "Ultimo")},
    ),
    "stooq": NamedFormat(
        "Stooq, one ticker",
        {},
        {"date": ("Date", "Data"), "price": ("Close", "Zamkniecie")},
    ),
    "stooq-bulk": NamedFormat(
        "Stooq's archives (.txt)",
        {"date_format": "%Y%m%d"},
        {"date": ("<DATE>",), "asset": ("<TICKER>",), "price": ("<CLOSE>",)},
    ),
    "bloomberg-bdh": NamedFormat(
        "Bloomberg's BDH in a sheet: a row of tickers over a row of fields",
        {},
        {"date": ("Dates", "Date", "DATE"), "price": ("PX_LAST", "Last Price")},
        tickers=-1,
    ),
    "economatica": NamedFormat(
        "Economatica",
        {"date_format": "dd/mm/yyyy", "decimal": ",", "thousands": "."},
        {"date": ("Data",), "price": ("Fechamento",)},
        is_matrix=True,
    ),
}

FIELD_NAMES = frozenset(
    normal_name(name)
    for name in """
Open,High,Low,Close,Last,Price,Adj Close,Adj. Close,Adjusted Close,Adj Close**,Close*,Volume,Vol,Vol.,
Change,Change %,Chg%,% Change,Change%,Turnover,Trades,VWAP,Average,Avg,Bid,Ask,Mid,Settle,Settlement,
Open Interest,OpenInt,Prev Close,Previous Close,Value,NAV,Yield,
Dividends,Dividend,Dividend Amount,Stock Splits,Split,Split Ratio,Split Coefficient,Capital Gains,
Abertura,Máxima,Máximo,Mínima,Mínimo,Fechamento,Fech. Aj.,Fechamento Ajustado,Último,Ultimo,Preço,Médio,Média,
Var%,Var.,Var.%,Variação,Variação %,Negócios,Q Negs,Q Títs,Quantidade,Volume$,Volume R$,Proventos,Dividendos,
Desdobramento,Cota,Quota,Apertura,Cierre,Cierre ajustado,Precio,Precio de cierre,Volumen,% var.,Dividendo,
Ouverture,Clôture,Plus haut,Plus bas,Dernier,Cours,Eröffnung,Hoch,Tief,Schluss,Schlusskurs,Kurs,Zuletzt,
Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen,
PX_LAST,PX_OPEN,PX_HIGH,PX_LOW,PX_VOLUME,PX_BID,PX_ASK,PX_MID,TOT_RETURN_INDEX_GROSS_DVDS,
<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>,Last_Price
""".replace("\n", "").split(",")
)
"""The names that vendors give to the columns of one asset's file, in their languages; none is an asset."""


def is_field(name: str) -> bool:
    """Return whether a column's name is that of a field, such as Close, and not that of an asset."""
    return normal_name(name) in FIELD_NAMES


@dataclass(frozen=True)
class Format:
    """The way to read a file's cells. It is declared, never guessed.

    Attributes
    ----------
    format
        One of `NAMED_FORMATS`, whose settings hold where no other is given.
    columns
        The names of the columns ``date``, ``asset`` and ``price``; with a date only, each other column is an asset.
    asset
        The asset that all the prices are of; ``{stem}`` in it stands for the file's name in lower case.
    header
        The row of the columns' names, counted from 1.
    sheet
        The sheet of a workbook; needed when several are visible.
    date_format
        ``iso`` (2026-10-31), ``dd/mm/yyyy``, ``mm/dd/yyyy``, or one of %d, %m, %b, %Y and %y: ``%d.%m.%Y``.
    decimal
        ``.`` or ``,``.
    thousands
        The sign between thousands; default a dot beside a decimal comma, else none.
    separator
        The character between a text file's cells; default a tab in .tsv, else a comma.
    encoding
        The encoding of a text file.
    null
        Words that mean that there is no price, beside `cells.NOT_AVAILABLE`.
    skip
        Columns that are no assets, in a file with a column per asset.
    """

    date_format: str = "iso"
    decimal: str = "."
    separator: str | None = None
    sheet: str | None = None
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    asset: str | None = None
    header: int | None = None
    thousands: str | None = None
    encoding: str = "utf-8"
    null: Sequence[str] = ()
    skip: Sequence[str] = ()

    def __post_init__(self) -> None:
        _one_of("format", self.format, [*NAMED_FORMATS, None])
        try:
            date_pattern(self.date_format)
        except (ValueError, TypeError) as error:
            raise _not_known("date_format", self.date_format, [*DATE_FORMATS, "%d.%m.%Y and the like"]) from error
        _one_of("decimal", self.decimal, [".", ","])
        _one_of("thousands", self.thousands, [*THOUSANDS, None])
        _one_of("separator", self.separator, [*SEPARATORS, None])
        try:
            encoding = _CODECS[codecs.lookup(self.encoding).name]
        except (LookupError, TypeError, ValueError) as error:
            raise _not_known("encoding", self.encoding, ENCODINGS) from error
        object.__setattr__(self, "encoding", encoding)
        texts: dict[str, Any] = {"sheet": self.sheet, "asset": self.asset}
        for name, value in texts.items():
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise UsageError(f"{name} {value!r} is not a name.", hint=f"Give the {name}'s name as text.")
        header: Any = self.header
        if header is not None and (
            not isinstance(header, int) or isinstance(header, bool) or not 1 <= header <= HEAD_ROWS
        ):
            raise UsageError(
                f"header {header!r} is not a row from 1 to {HEAD_ROWS}.", hint="Give the row of the columns' names."
            )
        lists: dict[str, Any] = {"null": self.null, "skip": self.skip}
        for name, words in lists.items():
            if isinstance(words, str) or not all(isinstance(word, str) for word in words) or len(words) > _WORDS_MAX:
                raise UsageError(f"{name} {sample(list(words))} is not a list of words.", hint=f'Write {name}: ["…"].')
        self._check_columns()

    def _check_columns(self) -> None:
        columns: Any = self.columns
        if not isinstance(columns, Mapping) or not all(isinstance(name, str) and name for name in columns.values()):
            raise UsageError(f"columns {columns!r} does not name columns.", hint='Write columns: {"date": "…", …}.')
        unknown = sorted(set(columns) - {"date", "asset", "price"})
        if unknown:
            raise UsageError(f"columns has {sample(unknown)}.", hint="Its keys are date, asset and price.")
        if self.asset is not None and "asset" in columns:
            raise UsageError("asset and columns.asset contradict each other.", hint="Give one of them.")
        if self.asset is not None and "{" in self.asset.replace("{stem}", ""):
            raise UsageError(f"asset {self.asset!r} has braces.", hint="Only {stem} stands for something.")
        if self.skip and "price" in columns:
            raise UsageError("skip and columns.price contradict each other.", hint="Skip columns of a wide file only.")
        if self.thousands and self.thousands == self.decimal:
            raise UsageError(f"decimal and thousands are both {self.decimal!r}.", hint="Correct one of them.")

    @property
    def between_thousands(self) -> str:
        """The sign that may stand between thousands; "" for none."""
        return ("." if self.decimal == "," else "") if self.thousands is None else self.thousands


def _one_of(name: str, value: object, values: Sequence[object]) -> None:
    if value not in values:
        raise _not_known(name, value, [item for item in values if item is not None])


def _not_known(name: str, value: object, values: Sequence[object]) -> UsageError:
    choices = ", ".join(
        str(item) if isinstance(item, str) and item.replace("-", "").isalnum() else repr(item) for item in values
    )
    return UsageError(f"{name} {value!r} is not known.", hint=f"Use one of {choices}.")


class Declarations:
    """The lines of ``_formats.json``: a pattern of file names, and the keys of `Format` for the files it matches.

    Parameters
    ----------
    lines
        Pattern to keys and values.
    default
        The format where nothing is declared.
    file
        The name of the file, for messages.
    """

    def __init__(
        self, default: Format | None = None, lines: Mapping[str, Mapping[str, Any]] | None = None, file: str = ""
    ) -> None:
        self._default = default or Format()
        self._lines = dict(lines or {})
        self._file = file
        self._used: set[str] = set()

    @classmethod
    def read(cls, data: bytes, file: str, default: Format | None = None) -> Declarations:
        """Read the declarations in a file.

        Raises
        ------
        DataError
            Not JSON of that form, a name that occurs twice, or a key or a value that is not known.
        """
        if len(data) > _FILE_MAX:
            raise DataError(f"{file} has {len(data):,} bytes.", hint=f"{_FILE_MAX:,} are enough for many patterns.")
        hint = 'Write it like {"custodian_*.csv": {"date_format": "dd/mm/yyyy", "decimal": ",", "separator": ";"}}.'
        repeated: list[str] = []

        def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            names = Counter(name for name, _ in pairs)
            repeated.extend(name for name, count in names.items() if count > 1)
            return dict(pairs)

        try:
            lines = json.loads(data.decode("utf-8-sig"), object_pairs_hook=noted)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} is not JSON in UTF-8: {error}.", hint=hint) from error
        if repeated:  # of which a reader of JSON takes the last, and says nothing
            raise DataError(
                f"{file} has {sample(repeated)} twice in one place.", hint="Write it once, with all its keys."
            )
        if not isinstance(lines, dict) or len(lines) > _PATTERNS_MAX:
            raise DataError(f"{file} is not a JSON object of name patterns.", hint=hint)
        allowed = {item.name for item in fields(Format)}
        for pattern, keys in lines.items():
            unknown = sorted(set(keys) - allowed) if isinstance(keys, dict) else [keys]
            if unknown:
                raise DataError(
                    f"{file}, {pattern!r}: {sample(unknown)} is not one of {', '.join(sorted(allowed))}.", hint=hint
                )
            try:
                Format(**keys)
            except (UsageError, TypeError) as error:
                raise DataError(f"{file}, {pattern!r}: {error}", hint=hint) from error
        return cls(default, lines, file)

    def of(self, name: str) -> Format:
        """Return the format of the file ``name``, below ``raw/prices``.

        A pattern (``*``, ``?``, ``[…]``) matches the whole name or its last part, case-sensitively; of several that
        match, later ones win, key by key.

        Raises
        ------
        DataError
            Lines that contradict each other.
        """
        matching = [pattern for pattern in self._lines if _matches(name, pattern)]
        self._used.update(matching)
        keys = self.keys_of(name)
        named = NAMED_FORMATS[keys["format"]].settings if keys.get("format") else {}
        try:
            return replace(self._default, **{**named, **keys})
        except UsageError as error:
            lines = " and ".join(map(repr, matching))
            raise DataError(f"{self._file}, {lines}, for {name}: {error.message}", hint=error.hint) from error

    def keys_of(self, name: str) -> dict[str, Any]:
        """Return the declaration of the file ``name``, as it was written."""
        keys: dict[str, Any] = {}
        for pattern, declared in self._lines.items():
            if _matches(name, pattern):
                keys |= declared
        return keys

    def unused(self) -> list[str]:
        """Return the patterns that have matched no name so far."""
        return [pattern for pattern in self._lines if pattern not in self._used]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition("/")[2], pattern)


def stem(file: str) -> str:
    """Return the file's name in lower case, without folders and extensions: ``aapl`` of ``2026/AAPL.csv.gz``."""
    name = file.rpartition("/")[2].lower()
    for extension in (".gz", ".zip"):
        name = name.removesuffix(extension)
    return normal_name(name.rpartition(".")[0] or name)


def propose(head: Sequence[Sequence[str]], file: str) -> str | None:
    """Return the line of ``_formats.json`` that fits a file, by the names in its first rows; None for unknown names."""
    for cells in head:
        stripped = [cell.strip() for cell in cells]
        for name, vendor in NAMED_FORMATS.items():
            if _has(stripped, vendor, "date") and _has(stripped, vendor, "price"):
                keys: dict[str, Any] = {"format": name}
                if not vendor.tickers and "asset" not in vendor.columns and not (vendor.is_matrix and _lines(cells)):
                    keys["asset"] = "{stem}"
                return json.dumps({file.rpartition("/")[2]: keys}, ensure_ascii=False)
    return None


def _has(cells: Sequence[str], vendor: NamedFormat, column: str) -> bool:
    firsts = [cell.split("\n")[0].strip() for cell in cells] if vendor.is_matrix else cells
    return any(name in firsts for name in vendor.columns[column])


def _lines(cells: Sequence[str]) -> bool:
    return any("\n" in cell.strip() for cell in cells)
