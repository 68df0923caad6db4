"""Oddities of price series: moves like an unadjusted split, single days far off, old names used again, stuck prices.

Nothing here is an error: a share may double. Each oddity is told with its series, its two dates and its two prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.catalog import STUCK_TABLES
from luxor_pipelines.errors import sample
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.types.schema import with_codes
from luxor_pipelines.quality.gate import Finding

__all__ = ["FAULTS", "Fault", "Oddity", "SeriesCheck", "check_batch"]

Fault: TypeAlias = Literal["split", "spike", "resumed", "stuck"]

FAULTS: dict[Fault, str] = {
    "split": "prices move by about a split's ratio",
    "spike": "prices of a single day are five times the others, or a fifth",
    "resumed": "series resume after more than a year",
    "stuck": "series have one price for 20 sessions or more",
}
"""Each kind of oddity in words, to be read after the count."""

SPLIT_RATIOS = (2, 3, 4, 5, 10, 20, 50, 100)
_NEAR_RATIO = 0.05
_AFTER = 5
_BACK_ROWS, _NEAR_PRICE = 3, 0.10
"""A move is no split where three of the next five prices are within 10 % of the one before it, or where it returns."""
_SPIKE = 5.0
_PAUSE = 366
_SESSIONS = 20
_DAY = np.timedelta64(1, "D")
_RECENT = 60
"""Days before a table's last one in which there are 20 sessions of a series that is alive."""


class Oddity(NamedTuple):
    """Two rows of a series that do not go together."""

    series: str
    before: np.datetime64
    price_before: float
    date: np.datetime64
    price: float

    def __str__(self) -> str:
        return f"{self.series} {self.before} {self.price_before:.6g} → {self.date} {self.price:.6g}"


@dataclass
class SeriesCheck:
    """Checks the rows of a price table, given piece by piece in ascending order of dates.

    Only the last rows of each series are kept, so that the memory it takes does not grow with the history.

    Parameters
    ----------
    stuck
        Whether equal prices are looked for: those of a fund or a mark may well stay.
    """

    stuck: bool = False
    _names: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _code: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _day: NDArray[np.datetime64] = field(default_factory=lambda: np.empty(0, "datetime64[D]"))
    _price: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    _found: dict[Fault, dict[tuple[int, Any], Oddity]] = field(default_factory=lambda: {fault: {} for fault in FAULTS})

    def add(
        self,
        names: Sequence[str],
        codes: NDArray[np.integer[Any]],
        days: NDArray[np.datetime64],
        prices: NDArray[np.float64],
    ) -> None:
        """Check the next rows.

        Parameters
        ----------
        names, codes
            The series of the piece, and each row's position among them, negative for a row to ignore.
        """
        numbers = np.array([self._number(name) for name in names], dtype=np.int64)
        good = (codes >= 0) & ~np.isnat(days) & np.isfinite(prices) & (prices > 0)
        code = np.concatenate([self._code, numbers[codes[good]]])
        day = np.concatenate([self._day, days[good].astype("datetime64[D]")])
        price = np.concatenate([self._price, prices[good]])
        order = np.lexsort((day, code))
        code, day, price = code[order], day[order], price[order]
        last_of_day = np.append((code[1:] != code[:-1]) | (day[1:] != day[:-1]), [True] * bool(len(code)))
        self._code, self._day, self._price = code[last_of_day], day[last_of_day], price[last_of_day]
        if len(self._code):
            self._look()
            self._keep_last_rows()

    def oddities(self) -> Iterator[tuple[Fault, list[Oddity]]]:
        """Return each kind that occurs with its oddities, the newest first."""
        for fault, found in self._found.items():
            if found:
                yield fault, sorted(found.values(), key=lambda oddity: oddity.date, reverse=True)

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def _look(self) -> None:
        code, day, price = self._code, self._day, self._price
        at = np.flatnonzero(code[1:] == code[:-1]) + 1  # rows that have one before them
        ratio = price[at] / price[at - 1]
        ratios = np.array([*SPLIT_RATIOS, *(1 / ratio for ratio in SPLIT_RATIOS)])
        moved = np.flatnonzero((ratio > 1.5) | (ratio < 1 / 1.5))  # the others are no candidates
        near = (np.abs(ratio[moved, np.newaxis] / ratios - 1) <= _NEAR_RATIO).any(axis=1)
        is_split = near & (self._rows_back(at[moved]) < _BACK_ROWS) & ~self._returns(at[moved])
        self._note("split", at[moved], at[moved][is_split])

        far = np.flatnonzero((ratio >= _SPIKE) | (ratio <= 1 / _SPIKE))
        following = at[far] + 1
        inside = following < len(code)
        same = np.zeros(len(far), dtype=bool)
        same[inside] = code[following[inside]] == code[at[far][inside]]
        returned = np.ones(len(far), dtype=bool)  # a series' last row has none after it to say otherwise
        after = price[at[far][same]] / price[following[same]]
        returned[same] = np.where(ratio[far][same] > 1, after >= _SPIKE, after <= 1 / _SPIKE)
        split_too = np.isin(at[far], at[moved][is_split])
        self._note("spike", at[far], at[far][returned & ~split_too])

        paused = at[day[at] - day[at - 1] > _PAUSE * _DAY]
        self._note("resumed", paused, paused)
        if self.stuck:
            self._look_for_stuck()

    def _rows_back(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of the rows after each of these are near the price before it."""
        back = np.zeros(len(at), dtype=np.int64)
        for distance in range(1, _AFTER + 1):
            following = at + distance
            inside = np.flatnonzero(following < len(self._code))
            inside = inside[self._code[following[inside]] == self._code[at[inside]]]
            near = np.abs(self._price[following[inside]] / self._price[at[inside] - 1] - 1) <= _NEAR_PRICE
            back[inside[near]] += 1
        return back

    def _returns(self, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether the price was the same a few rows before the one that it moves away from."""
        returns = np.zeros(len(at), dtype=bool)
        for distance in range(2, _AFTER + 2):
            inside = np.flatnonzero(at >= distance)
            inside = inside[self._code[at[inside] - distance] == self._code[at[inside]]]
            returns[inside] |= np.abs(self._price[at[inside]] / self._price[at[inside] - distance] - 1) <= _NEAR_PRICE
        return returns

    def _look_for_stuck(self) -> None:
        code, price = self._code, self._price
        starts = np.flatnonzero(np.append(True, (code[1:] != code[:-1]) | (price[1:] != price[:-1])))
        ends = np.append(starts[1:], len(code)) - 1
        long = ends - starts + 1 >= _SESSIONS
        for start, end in zip(starts[long], ends[long], strict=True):
            key, oddity = (int(code[start]), None), self._oddity(start, end)
            earlier = self._found["stuck"].get(key)
            if earlier is not None and earlier.price == oddity.price and earlier.date >= oddity.before:
                oddity = oddity._replace(before=earlier.before)  # whose first rows are no longer kept
            self._found["stuck"][key] = oddity

    def _note(self, fault: Fault, looked_at: NDArray[np.int64], odd: NDArray[np.int64]) -> None:
        """Keep the rows that are odd, and no longer those that later rows have explained."""
        found = self._found[fault]
        for row in np.setdiff1d(looked_at, odd):
            found.pop((int(self._code[row]), self._day[row]), None)
        for row in odd:
            found[int(self._code[row]), self._day[row]] = self._oddity(row - 1, row)

    def _oddity(self, before: np.integer[Any], row: np.integer[Any]) -> Oddity:
        name = self._names[self._code[row]]
        return Oddity(name, self._day[before], float(self._price[before]), self._day[row], float(self._price[row]))

    def _keep_last_rows(self) -> None:
        ends = np.flatnonzero(np.append(self._code[1:] != self._code[:-1], True))
        of_row = np.searchsorted(ends, np.arange(len(self._code)))
        kept = ends[of_row] - np.arange(len(self._code)) < _SESSIONS
        self._code, self._day, self._price = self._code[kept], self._day[kept], self._price[kept]


def check_batch(
    lake: Lake,
    table: str,
    names: Sequence[str],
    codes: NDArray[np.integer[Any]],
    days: NDArray[np.datetime64],
    prices: NDArray[np.float64],
) -> list[Finding]:
    """Hold the new rows of a batch against the last stored ones of their series; each kind of oddity is a warning.

    New are the rows dated after their series' last stored row; a series of which nothing is stored has none.

    Parameters
    ----------
    table
        A table with the columns ``Date``, ``Asset`` and ``Last_Price``; one that does not exist has no stored rows.
    names, codes
        The series of the batch, and each row's position among them.
    """
    stored = _last_stored(lake, table)
    if stored is None or not len(stored):
        return []
    position = pc.index_in(stored["Asset"], pa.array(names, pa.string()))
    last_day = np.full(len(names), np.datetime64("NaT", "D"))
    rows = pc.is_valid(position).to_numpy(zero_copy_only=False)
    stored_days = stored["Date"].to_numpy().astype("M8[D]")
    np.fmax.at(last_day, position.drop_null().to_numpy(), stored_days[rows])
    is_new = days.astype("M8[D]") > last_day[codes]
    if not is_new.any():
        return []
    check = SeriesCheck(stuck=table in STUCK_TABLES)
    start = stored_days.max() - _RECENT * _DAY
    where = (Where("Date", ((start.astype("M8[us]").item(), None),)),)
    recent = lake.cache.scan(table, ("Date", "Asset", "Last_Price"), where, keep=False)
    for rows_before in (stored, recent):
        words_of, words = with_codes(rows_before["Asset"])
        check.add(words.to_pylist(), words_of, rows_before["Date"].to_numpy(), rows_before["Last_Price"].to_numpy())
    check.add(names, np.where(is_new, codes, -1), days, prices)
    last = dict(zip(names, last_day, strict=True))
    findings = []
    for fault, oddities in check.oddities():
        new = [oddity for oddity in oddities if oddity.series in last and oddity.date > last[oddity.series]]
        if new:
            findings.append(Finding("warning", table, "", FAULTS[fault], len(new), sample(map(str, new))))
    return findings


def _last_stored(lake: Lake, table: str) -> pa.Table | None:
    """Rows of a table among which the last of each series are; None where there is no table."""
    if lake.cache.snapshot(table) is None:
        return None
    index = lake.cache.series_index(table, "Asset")
    return index if index is not None else lake.cache.scan(table, ("Date", "Asset", "Last_Price"), keep=False)
