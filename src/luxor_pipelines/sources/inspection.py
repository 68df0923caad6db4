"""Inspection of a price file: its shape, what each declaration reads of it, and which one to make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from luxor_pipelines.errors import LuxorError, sample
from luxor_pipelines.sources.cells import parse_dates, parse_numbers
from luxor_pipelines.sources.confined import Confined
from luxor_pipelines.sources.formats import SEPARATORS, Declarations, is_field, propose
from luxor_pipelines.sources.limits import Limits
from luxor_pipelines.sources.price_files import FileRows, read_price_file
from luxor_pipelines.sources.raw import RawFile, open_raw

__all__ = ["Inspection", "Outcome", "inspect_price_file"]

_DATE_FORMATS = (
    *("iso", "iso-local", "dd/mm/yyyy", "mm/dd/yyyy", "%d.%m.%Y", "%Y%m%d", "%d-%m-%Y", "%Y/%m/%d"),
    *("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%d/%m/%y", "%m/%d/%y", "%d/%b/%Y"),
)
_SIGNS = ((".", ""), (",", "."), (".", ","), (",", ""), (".", " "), (",", " "), (".", "'"))
"""Decimal signs and what stands between thousands, in the order in which they are tried."""
_PRICE_NAMES = (
    *("adj close", "last_price", "px_last", "close", "price", "last", "nav", "quota", "fechamento", "último", "preço"),
    *("cota", "cierre", "precio", "clôture", "schluss", "kurs", "zamkniecie", "settle", "value"),
)
"""Fields that are prices, the likeliest first."""
_MOST, _HALF = 0.8, 0.5
"""The share of a column's cells that must be of one kind: dates or names; numbers, of which some may be bad."""


@dataclass(frozen=True)
class Outcome:
    """The rows read of a file under one declaration.

    Attributes
    ----------
    title
        A name of the declaration, for people.
    keys
        Its content: keys of `formats.Format`, with their values.
    rows
        The rows; None where the file is refused.
    refusal
        The reason for a refusal.
    """

    title: str
    keys: Mapping[str, Any]
    rows: FileRows | None = None
    refusal: str = ""

    @property
    def good(self) -> int:
        """The number of good rows."""
        return 0 if self.rows is None else len(self.rows.prices)

    @property
    def bad(self) -> int:
        """The number of bad rows."""
        return 0 if self.rows is None else self.rows.reasons.total()


@dataclass(frozen=True)
class Inspection:
    """A price file, looked at.

    Attributes
    ----------
    file
        Its name.
    looks
        Its features for people: pairs of a word and a text.
    head
        Its first records.
    outcomes
        The rows read under each declaration: first the one in force, then those that are proposed.
    proposal
        The line to put into ``_formats.json``; None where nothing is to be declared, or nothing fits.
    notes
        Points to look at before using the proposal.
    """

    file: str
    looks: dict[str, str]
    head: list[list[str]]
    outcomes: list[Outcome]
    proposal: dict[str, dict[str, Any]] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def best(self) -> Outcome:
        """The outcome with the most good rows for its bad ones; the declared one of equals."""
        return max(self.outcomes, key=lambda outcome: (outcome.good > 0, outcome.good - outcome.bad, outcome.good))


def inspect_price_file(
    data: bytes,
    name: str,
    declarations: Declarations | None = None,
    price_keys: Set[str] | None = None,
    limits: Limits | None = None,
) -> Inspection:
    """Look at a price file.

    Parameters
    ----------
    data, name
        The file's bytes, and its name below ``raw/prices``.
    declarations
        The declarations so far.
    price_keys
        Those of ``assets``, to recognise columns that are assets.
    limits
        The file's limits.
    """
    limits = limits or Limits()
    looks = {"size": f"{len(data):,} bytes"}
    head: list[list[str]] = []
    notes: list[str] = []
    with Confined(limits) as confined:

        def read(title: str, keys: Mapping[str, Any]) -> Outcome:
            try:
                how = Declarations(lines={"*": keys}).of(name)
                return Outcome(
                    title, keys, read_price_file(data, name, how, price_keys, limits=limits, confined=confined)
                )
            except LuxorError as error:
                return Outcome(title, keys, refusal=error.message)

        declared = (declarations or Declarations()).keys_of(name)
        outcomes = [read("as declared" if declared else "nothing declared", declared)]
        try:
            base = dict(declared) | _text_keys(data, name)
            with open_raw(
                data,
                name,
                separator=base.get("separator"),
                encoding=base.get("encoding", "utf-8"),
                sheet=base.get("sheet"),
                limits=limits,
                confined=confined,
            ) as raw:
                head = raw.head
                looks |= {key: repr(value) for key, value in base.items() if key in {"separator", "encoding", "sheet"}}
                candidates = list(_candidates(raw, name, base, price_keys, notes))
        except LuxorError as error:
            return Inspection(name, looks, head, outcomes, notes=(error.message,))
        outcomes += [read(title, keys) for title, keys in candidates if keys != declared]
    inspection = Inspection(name, looks, head, outcomes, notes=tuple(notes))
    best = inspection.best
    keys = dict(best.keys)
    if best.rows is not None and best.good and keys.get("asset") == "{stem}":
        stem = best.rows.prices.names[0]
        near = sorted(key for key in price_keys or () if key.startswith(f"{stem} "))
        if stem not in (price_keys or ()) and len(near) == 1 and best is not outcomes[0]:
            keys["asset"] = f"{{stem}}{near[0].removeprefix(stem)}"
        elif stem not in (price_keys or ()):
            notes.append(
                f"The asset has the file's name, {stem!r}. If its price key in assets is another, such as "
                f"{sample(near or [f'{stem} us equity'])}, declare that."
            )
    proposal = {name.rpartition("/")[2]: keys} if best.good and best is not outcomes[0] else None
    return Inspection(name, looks, head, outcomes, proposal, tuple(notes))


def _text_keys(data: bytes, name: str) -> dict[str, Any]:
    """Return the encoding and the separator of a text file, where they are not those that are taken undeclared."""
    if not name.lower().endswith((".csv", ".txt", ".tsv")):
        return {}
    start = data[: 2**16]
    keys: dict[str, Any] = {}
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        keys["encoding"] = "utf-16"
    else:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            keys["encoding"] = "cp1252"
    lines = [
        line for line in start.decode(keys.get("encoding", "utf-8"), errors="replace").splitlines() if line.strip()
    ]
    default = "\t" if name.lower().endswith(".tsv") else ","
    counts = {sign: sorted(line.count(sign) for line in lines[:50]) for sign in SEPARATORS}
    middle = {sign: count[len(count) // 2] if count else 0 for sign, count in counts.items()}
    # A decimal comma is in each line too, but not in the header.
    header = {sign: max((line.count(sign) for line in lines[:20]), default=0) for sign in SEPARATORS}
    best = max((";", "\t", "|", ","), key=lambda sign: (min(middle[sign], header[sign]) > 0, sign != ",", middle[sign]))
    if best != default and middle[best]:
        keys["separator"] = best
    return keys


def _candidates(
    raw: RawFile, name: str, base: Mapping[str, Any], price_keys: Set[str] | None, notes: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    text = {key: base[key] for key in ("separator", "encoding", "sheet") if key in base}
    if text:
        yield "with its separator and encoding", text
    line = propose(raw.head, name)
    if line is not None:
        keys = next(iter(json.loads(line).values()))
        yield f"as {keys['format']}", keys | text
    guessed = _guess(raw, price_keys, notes)
    if guessed:
        yield "by what its cells hold", guessed | text


def _guess(raw: RawFile, price_keys: Set[str] | None, notes: list[str]) -> dict[str, Any]:
    """Return the columns and formats that fit the cells of the first rows; empty where no column holds dates."""
    for header, names in enumerate(islice(raw.head, 30), 1):
        below = [row for row in raw.head[header:] if any(cell.strip() for cell in row)][:50]
        if raw.head[header - 1 :] == raw.head[-1:] and len(raw.head) == 1:
            return {}  # a Parquet file, whose cells have types
        columns = [pa.array([row[i] if i < len(row) else "" for row in below], pa.string()) for i in range(len(names))]
        filled = [i for i, title in enumerate(names) if title.strip()]
        if len(filled) < 2 or not below:
            continue
        dates = {i: formats for i in filled if (formats := _date_formats(columns[i], is_sheet=raw.is_sheet))}
        if not dates:
            continue
        date, formats = next(iter(dates.items()))
        if {"dd/mm/yyyy", "mm/dd/yyyy"} <= set(formats):
            notes.append(
                "Its first dates are days and months either way round: dd/mm/yyyy is proposed, see further down."
            )
        keys: dict[str, Any] = {} if formats[0] == "iso" else {"date_format": formats[0]}
        if header > 1:
            keys["header"] = header
        candidates = [i for i in filled if i not in dates]
        (decimal, thousands), numeric = max(
            ((signs, [i for i in candidates if _share(_numbers(columns[i], signs)) >= _HALF]) for signs in _SIGNS),
            key=lambda item: (len(item[1]), sum(_numbers(columns[i], item[0]).sum() for i in item[1])),
        )
        if not numeric:
            continue
        keys |= {"decimal": decimal} if decimal != "." else {}
        keys |= {"thousands": thousands} if thousands != ("." if decimal == "," else "") else {}
        return keys | _columns(names, date, numeric, [i for i in candidates if i not in numeric], columns, price_keys)
    return {}


def _columns(
    names: Sequence[str],
    date: int,
    numeric: Sequence[int],
    texts: Sequence[int],
    columns: Sequence[pa.Array],
    price_keys: Set[str] | None,
) -> dict[str, Any]:
    titles = [name.strip() for name in names]
    fields = [i for i in numeric if is_field(titles[i])]
    price = min(fields or numeric, key=lambda i: _rank(titles[i]))
    assets = [i for i in texts if np.mean([bool(cell.strip()) for cell in columns[i].to_pylist()]) >= _MOST]
    if price_keys and any(title.lower() in price_keys for title in titles):
        fields = []
    if assets and (fields or len(numeric) == 1):
        if {titles[date], titles[assets[0]], titles[price]} == {"Date", "Asset", "Last_Price"}:
            return {}
        return {"columns": {"date": titles[date], "asset": titles[assets[0]], "price": titles[price]}}
    if fields:
        return {"columns": {"date": titles[date], "price": titles[price]}, "asset": "{stem}"}
    wide: dict[str, Any] = {} if titles[date] == "Date" and date == 0 else {"columns": {"date": titles[date]}}
    return wide | ({"skip": [titles[i] for i in texts]} if texts else {})


def _rank(title: str) -> int:
    lower = title.lower()
    return _PRICE_NAMES.index(lower) if lower in _PRICE_NAMES else len(_PRICE_NAMES)


def _date_formats(column: pa.Array, *, is_sheet: bool) -> list[str]:
    """Return the formats that most cells of a column are of."""
    shares = {}
    for date_format in _DATE_FORMATS:
        dates = parse_dates(column, date_format, is_sheet=is_sheet)
        filled = ~dates.missing
        shares[date_format] = _share(~np.isnat(dates.days)[filled]) if filled.any() else 0.0
    best = max(shares.values())
    return [date_format for date_format, share in shares.items() if share == best] if best >= _MOST else []


def _numbers(column: pa.Array, signs: tuple[str, str]) -> NDArray[np.bool_]:
    """Return which of the cells that are not missing are numbers."""
    numbers = parse_numbers(column, *signs)
    return ~np.isnan(numbers.numbers[~numbers.missing])


def _share(cells: NDArray[np.bool_]) -> float:
    return float(cells.mean()) if len(cells) else 0.0
