"""Oddities of price series: moves like an unadjusted split, single days far off, old names used again, stuck prices.

None of these is an error by itself: a share may double. An oddity names the series, two dates and their prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from luxor_pipelines.names import normal_names
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
"""A move is no split if three of the next five prices are within 10 % of the price before it, or it returns there."""
_LEAST_MOVE = 1.5
_SPIKE = 5.0
_PAUSE = 366
_SESSIONS = 20
_SHOWN = 20
"""Oddities of a kind that are kept, the newest."""
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


class SeriesCheck:
    """Checks the rows of a price table, given piece by piece in ascending order of dates.

    A row is judged when the five rows after it are known, or at the end. Only the last rows of each series and the
    newest oddities are kept, so that neither a long history nor a table of nonsense takes much memory.

    Parameters
    ----------
    stuck
        Whether equal prices are looked for: those of a fund or a mark may well stay.
    """

    def __init__(self, *, stuck: bool = False) -> None:
        self._stuck = stuck
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._code: NDArray[np.int64] = np.empty(0, np.int64)
        self._day: NDArray[np.datetime64] = np.empty(0, "datetime64[D]")
        self._price: NDArray[np.float64] = np.empty(0)
        self._judged: NDArray[np.bool_] = np.empty(0, dtype=bool)
        self._counts: dict[Fault, int] = dict.fromkeys(FAULTS, 0)
        self._newest: dict[Fault, list[Oddity]] = {fault: [] for fault in FAULTS}
        self._long_runs: dict[int, Oddity] = {}

    def add(
        self,
        names: Sequence[str],
        codes: NDArray[np.integer[Any]],
        days: NDArray[np.datetime64],
        prices: NDArray[np.float64],
        *,
        judged: bool = False,
    ) -> None:
        """Check the next rows.

        Parameters
        ----------
        names, codes
            The series of the piece, and each row's position among them, negative for a row to ignore.
        judged
            Whether the rows serve only to compare later ones with.
        """
        numbers = np.array([self._number(name) for name in names], dtype=np.int64)
        good = (codes >= 0) & ~np.isnat(days) & np.isfinite(prices) & (prices > 0)
        code = np.concatenate([self._code, numbers[codes[good]]])
        day = np.concatenate([self._day, days[good].astype("datetime64[D]")])
        price = np.concatenate([self._price, prices[good]])
        is_judged = np.concatenate([self._judged, np.full(int(good.sum()), judged)])
        order = _by_series(code, day, len(self._code))
        code, day, price, is_judged = code[order], day[order], price[order], is_judged[order]
        last_of_day = np.append((code[1:] != code[:-1]) | (day[1:] != day[:-1]), [True] * bool(len(code)))
        self._code, self._day, self._price = code[last_of_day], day[last_of_day], price[last_of_day]
        self._judged = is_judged[last_of_day]
        self._judge(at_end=False)
        self._keep_last_rows()

    def oddities(self) -> Iterator[tuple[Fault, int, list[Oddity]]]:
        """Yield each kind that occurs, the number of its oddities, and the newest of them."""
        self._judge(at_end=True)
        for fault, newest in self._newest.items():
            if fault == "stuck":
                newest = sorted(self._long_runs.values(), key=_date, reverse=True)
            if newest:
                yield fault, len(newest) if fault == "stuck" else self._counts[fault], newest[:_SHOWN]

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def _judge(self, *, at_end: bool) -> None:
        if not len(self._code):
            return
        code, day, price = self._code, self._day, self._price
        series_end = _series_end(code)
        ready = ~self._judged & (at_end | (series_end - np.arange(len(code)) > _AFTER))
        at = np.flatnonzero(ready[1:] & (code[1:] == code[:-1])) + 1  # rows that have one before them
        if self._stuck:
            self._note_long_runs()
        self._judged |= ready
        ratio = price[at] / price[at - 1]

        moved = (ratio > _LEAST_MOVE) | (ratio < 1 / _LEAST_MOVE)  # the others are no candidates
        candidates, ratio = at[moved], ratio[moved]
        near = np.zeros(len(candidates), dtype=bool)
        for split in SPLIT_RATIOS:
            near |= (np.abs(ratio / split - 1) <= _NEAR_RATIO) | (np.abs(ratio * split - 1) <= _NEAR_RATIO)
        is_split = near.copy()
        is_split[near] = (self._rows_back(candidates[near]) < _BACK_ROWS) & ~self._returns(candidates[near])
        self._note("split", candidates[is_split])

        far = ~is_split & ((ratio >= _SPIKE) | (ratio <= 1 / _SPIKE))
        self._note("spike", candidates[far][self._falls_back(candidates[far], ratio[far] > 1)])
        self._note("resumed", at[day[at] - day[at - 1] > _PAUSE * _DAY])

    def _falls_back(self, at: NDArray[np.int64], up: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return whether the price after each of these rows is as far from it as the one before, or there is none."""
        result = np.ones(len(at), dtype=bool)
        following = at + 1
        inside = np.flatnonzero(following < len(self._code))
        inside = inside[self._code[following[inside]] == self._code[at[inside]]]
        after = self._price[at[inside]] / self._price[following[inside]]
        result[inside] = np.where(up[inside], after >= _SPIKE, after <= 1 / _SPIKE)
        return result

    def _rows_back(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of the next rows after each of these are near the price before it."""
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

    def _note_long_runs(self) -> None:
        """Keep the last long run of equal prices of each series, but for those whose rows have all been judged."""
        code, price = self._code, self._price
        starts = np.flatnonzero(np.append(True, (code[1:] != code[:-1]) | (price[1:] != price[:-1])))
        ends = np.append(starts[1:], len(code)) - 1
        long = np.flatnonzero((ends - starts + 1 >= _SESSIONS) & ~(self._judged[starts] & self._judged[ends]))
        long = long[np.append(code[starts[long[1:]]] != code[starts[long[:-1]]], True)[: len(long)]]
        for start, end in zip(starts[long], ends[long], strict=True):
            oddity, earlier = self._oddity(start, end), self._long_runs.get(int(code[start]))
            if earlier is not None and earlier.price == oddity.price and earlier.date >= oddity.before:
                oddity = oddity._replace(before=earlier.before)  # whose first rows are no longer kept
            self._long_runs[int(code[start])] = oddity

    def _note(self, fault: Fault, rows: NDArray[np.int64]) -> None:
        self._counts[fault] += len(rows)
        newest = rows[np.argsort(self._day[rows], kind="stable")[-_SHOWN:]]
        oddities = [*self._newest[fault], *(self._oddity(row - 1, row) for row in newest)]
        self._newest[fault] = sorted(oddities, key=_date, reverse=True)[:_SHOWN]

    def _oddity(self, before: np.integer[Any], row: np.integer[Any]) -> Oddity:
        name = self._names[self._code[row]]
        return Oddity(name, self._day[before], float(self._price[before]), self._day[row], float(self._price[row]))

    def _keep_last_rows(self) -> None:
        recent = _series_end(self._code) - np.arange(len(self._code)) <= _SESSIONS
        self._code, self._day, self._price = self._code[recent], self._day[recent], self._price[recent]
        self._judged = self._judged[recent]


def _by_series(code: NDArray[np.int64], day: NDArray[np.datetime64], earlier: int) -> NDArray[np.int64]:
    """Return the order by series and day of rows, of which the first ``earlier`` are in that order already."""
    new = day[earlier:]
    ascending = (new[1:] >= new[:-1]).all() and (not earlier or not len(new) or day[:earlier].max() <= new[0])
    if ascending and len(code) and code.max() < 2**16:  # numpy sorts numbers of two bytes digit by digit
        return np.argsort(code.astype(np.uint16), kind="stable")
    return np.lexsort((day, code))


def _series_end(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the position after the last row of its series."""
    bounds = np.concatenate([[0], np.flatnonzero(code[1:] != code[:-1]) + 1, [len(code)]])
    return np.repeat(bounds[1:], np.diff(bounds))


def _date(oddity: Oddity) -> np.datetime64:
    return oddity.date


def check_batch(
    lake: Lake,
    table: str,
    names: Sequence[str],
    codes: NDArray[np.integer[Any]],
    days: NDArray[np.datetime64],
    prices: NDArray[np.float64],
) -> list[Finding]:
    """Compare the new rows of a batch with the last stored ones of their series; each kind of oddity is a warning.

    A row is new if it is dated after its series' last stored row; a series without stored rows has no new ones.

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
    position = pc.index_in(normal_names(stored["Asset"]), pa.array(names, pa.string()))
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
        days_before, prices_before = (rows_before[column].to_numpy() for column in ("Date", "Last_Price"))
        check.add(normal_names(words).to_pylist(), words_of, days_before, prices_before, judged=True)
    check.add(names, np.where(is_new, codes, -1), days, prices)
    return [
        Finding("warning", table, "", FAULTS[fault], count, sample(map(str, oddities)))
        for fault, count, oddities in check.oddities()
    ]


def _last_stored(lake: Lake, table: str) -> pa.Table | None:
    """Return rows of a table that include the last one of each series; None where there is no table."""
    if lake.cache.snapshot(table) is None:
        return None
    index = lake.cache.series_index(table, "Asset")
    return index if index is not None else lake.cache.scan(table, ("Date", "Asset", "Last_Price"), keep=False)
