"""Reading by windows: the same prices as from the whole history, for a fraction of the work."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luxor_pipelines.catalog import CONVENTIONS, PRICE_TABLES
from luxor_pipelines.errors import SchemaError
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.file import to_bytes
from luxor_pipelines.lake.storage.base import BlobInfo, Folder, Reader, Storage, Unusable
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.lake.storage.local import LocalStorage
from luxor_pipelines.lake.table.layout import DIRECTORY, PARTITION_COLUMN, Layout, pieces
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types import legacy
from luxor_pipelines.lake.types.schema import ENCODING
from luxor_pipelines.market.daily import daily_prices
from luxor_pipelines.market.observations import Observations, StalenessLimits
from luxor_pipelines.market.prices import AsOf, asof
from luxor_pipelines.names import normal_name
from luxor_pipelines.query.luxor_query import LuxorQuery
from luxor_pipelines.query.market_data import MarketData
from luxor_pipelines.settings import Settings
from market.facts import rates_asof

FIRST = date(2024, 1, 1)
KEYS = ("a", "b", "c", "d", "bmfxclco curncy", "usdbrl curncy", "usdeur curncy")
EVERY_SOURCE = [source.name for source in PRICE_TABLES]


def write(storage: Storage, table: str, data: pa.Table) -> None:
    storage.write(f"{DIRECTORY}/{table}.parquet", to_bytes(data))


def market(storage: Storage, cache_bytes: int = 10**9, **limits: int) -> MarketData:
    settings = Settings(cache_bytes=cache_bytes, **{f"stale_{kind}": days for kind, days in limits.items()})
    return MarketData(Lake(storage, settings=settings, conventions=CONVENTIONS))


def spelled(rng: np.random.Generator, key: str) -> str:
    """A name as another program may have written it."""
    return str(rng.choice([key, key, key, key.upper(), f" {key}\u00a0"]))


def random_lake(rng: np.random.Generator, tables: list[str], days: int) -> Storage:
    """Sparse prices over ``days`` days, several tables having a series, and sometimes a date, in common.

    Some tables lie as they were written, others sorted, in one file or one a year: those have their ends.
    """
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    for source in PRICE_TABLES:
        if source.name not in tables:
            continue
        rows = int(rng.integers(0, 40))
        day = rng.integers(0, days, rows) // 7 * 7 if rng.random() < 0.5 else rng.integers(0, days, rows)
        price = rng.uniform(1, 9, rows)
        odd = rng.random(rows) < 0.15
        price[odd] = rng.choice([0.0, np.nan, -1.0, np.inf], odd.sum())
        data = {
            "Date": np.datetime64(FIRST, "us") + day * np.timedelta64(1, "D"),
            source.key_column: pa.array([spelled(rng, str(key)) for key in rng.choice(KEYS, rows)], pa.string()),
            source.price_column: price,
        }
        table = pa.table(data)
        kind = rng.choice(["unsorted", "sorted", "years"])
        if kind == "unsorted" or not rows:
            write(storage, source.name, table)
            continue
        by = ("Date", source.key_column)
        table = table.sort_by([(column, "ascending") for column in by])
        layout: Layout = "file" if kind == "sorted" else "year"
        for label, piece in pieces(layout, table, "Date", source.name):
            path = Table(storage, source.name).path(layout, label)
            metadata = {PARTITION_COLUMN: b"Date", ENCODING: b"typed"}
            storage.write(path, to_bytes(piece.replace_schema_metadata(metadata), sorted_by=by))
    return storage


def with_current_prices(rng: np.random.Generator, lake: Storage, today: date) -> None:
    """Current prices of some series: newer than the history or not, expired, of tomorrow, or none at all."""
    keys = [key for key in KEYS if rng.random() < 0.7]
    days = np.datetime64(today, "us") - rng.integers(-3, 70, len(keys)) * np.timedelta64(1, "D")
    prices = rng.uniform(1, 9, len(keys))
    prices[rng.random(len(keys)) < 0.2] = -1.0
    write(
        lake,
        "px_last",
        pa.table(
            {
                "Key": pa.array([spelled(rng, key) for key in keys], pa.string()),
                "px_last": prices,
                "last_update_dt": days,
            }
        ),
    )


def stored_rows(lake: Storage, table: str) -> list[dict[str, Any]]:
    files = [info.path for info in lake.list(DIRECTORY) if info.path.split("/")[2].split(".")[0] == table]
    return [row for path in files for row in pq.ParquetFile(pa.BufferReader(lake.read(path).data)).read().to_pylist()]


Row = tuple[float, float, bool]
"""Price, age limit, whether it is bad."""


def one_row_a_date(lake: Storage, key: str, limits: StalenessLimits, *, fallback: bool) -> dict[date, Row]:
    merged: dict[date, Row] = {}
    for source in PRICE_TABLES:
        if source.fallback != fallback:
            continue
        in_table: dict[date, Row] = {}
        for row in stored_rows(lake, source.name):
            price = row[source.price_column]
            if normal_name(row[source.key_column]) == key and price is not None and not math.isnan(price):
                good = 0 < price < math.inf or (price == 0 and source.kind == "mark")
                in_table[row["Date"].date()] = (price, float(limits.days(source.kind)), not good)
        merged = in_table | merged  # the earlier table wins
    return merged


Answer = tuple[date, float, bool, bool]
"""The row's date and price, whether it is stale, whether it is bad."""


def newest(rows: dict[date, Row], day: date) -> Answer | None:
    past = sorted((known for known in rows if known <= day), reverse=True)
    for known in past:
        price, limit, bad = rows[known]
        if (day - known).days <= limit:
            return known, price, False, bad
    for known in [known for known in past if not rows[known][2]] or past:
        return known, rows[known][0], True, rows[known][2]
    return None


def brute_force(
    lake: Storage, key: str, day: date, limits: StalenessLimits, today: date | None = None
) -> tuple[Answer | None, bool]:
    """The answer by the letter of the rule, row by row; and whether it is the fallback's."""
    own = one_row_a_date(lake, key, limits, fallback=False)
    other = one_row_a_date(lake, key, limits, fallback=True)
    if today is not None:
        for row in stored_rows(lake, "px_last"):
            dated = row["last_update_dt"].date()
            if normal_name(row["Key"]) != key or row["px_last"] <= 0 or dated > today:
                continue
            last = max((known for known in {**own, **other} if known <= today), default=None)
            if last is None or dated > last:
                limit = limits.days("traded") if last is None else (own.get(last) or other[last])[1]
                own[dated] = (row["px_last"], limit, False)
    mine, theirs = newest(own, day), newest(other, day)
    if mine and not mine[2] and (theirs is None or (theirs[0] - mine[0]).days <= 5):
        return mine, False
    if theirs and not theirs[2]:
        return theirs, True
    if mine and (theirs is None or mine[0] >= theirs[0]):
        return (mine[0], mine[1], True, mine[3]), False
    return theirs and (theirs[0], theirs[1], True, theirs[3]), theirs is not None


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    tables=st.lists(st.sampled_from(EVERY_SOURCE), min_size=1, unique=True),
    days=st.sampled_from([20, 90, 400, 1000]),
    limits=st.sampled_from([{}, {"traded": 10, "fund": 3}, {"traded": 0, "fund": 10_000_000}]),
)
@example(seed=0, tables=["hist_ecb_px_last"], days=400, limits={})  # a fallback over a span
@example(
    seed=735,
    tables=["custom_prices", "all_funds_quotas", "custom_funds_quotas", "hist_non_bbg_px_last"],
    days=20,
    limits={"traded": 10, "fund": 3},
)  # funds that hide traded prices
@example(seed=209102, tables=EVERY_SOURCE, days=90, limits={})  # a mark of 0 among rates
def test_windows_give_what_the_whole_history_gives(
    seed: int, tables: list[str], days: int, limits: dict[str, int]
) -> None:
    rng = np.random.default_rng(seed)
    lake = random_lake(rng, tables, days)
    asked = [FIRST + timedelta(days=int(day)) for day in rng.integers(-5, days + 30, 3)]
    data = market(lake, **limits)
    whole = data.prices.history(KEYS)
    assert_same_asof(data.prices.observations(KEYS, asked), whole, asked)
    for key in KEYS:
        expected, by_fallback = brute_force(lake, key, asked[0], data.limits)
        assert_answer(asof(whole.only([key]), asked[:1]), expected, by_fallback=by_fallback)
    for key, there in zip(whole.keys, data.prices.observations(KEYS, asked).present, strict=True):
        rows = [one_row_a_date(lake, key, data.limits, fallback=side) for side in (False, True)]
        assert there == any(rows)

    start, end = min(asked), max(asked)
    every = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    spanned = data.prices.observations(KEYS, [start, end], span=(start, end))
    assert_same_asof(spanned, whole, every)
    left, right = daily_prices(spanned, start, end).to_frame(), daily_prices(whole, start, end).to_frame()
    pd.testing.assert_frame_equal(left, right)

    # Rates, of which the clean series' two ends matter, however far they are from the dates asked for.
    for obs, dates in ((data.prices.observations(KEYS, asked), asked), (spanned, every)):
        for ticker in ("bmfxclco curncy", "usdbrl curncy"):
            rates = data.rates(ticker).observations(obs, {"brl", "eur"}, dates)
            found, expected = (
                rates_asof(each, {"brl", "eur"}, dates, usdbrl_ticker=ticker, limit=data.limits.days("traded"))
                for each in (rates, whole)
            )
            for iso in ("brl", "eur"):
                np.testing.assert_array_equal(found[iso], expected[iso])


def assert_answer(found: AsOf, expected: Answer | None, *, by_fallback: bool) -> None:
    assert found.has_row[0, 0] == (expected is not None)
    if expected is not None:
        cells = (found.date[0, 0].item(), found.price[0, 0], found.stale[0, 0], found.bad[0, 0])
        assert cells == expected
        assert found.fallback[0, 0] == by_fallback


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    tables=st.lists(st.sampled_from(EVERY_SOURCE), min_size=1, unique=True),
    days=st.sampled_from([20, 90, 400]),
    limits=st.sampled_from([{}, {"traded": 10, "fund": 3}]),
    spanned=st.booleans(),
)
def test_a_current_price_counts_only_if_it_is_newer_than_every_row_in_every_table(
    seed: int, tables: list[str], days: int, limits: dict[str, int], spanned: bool
) -> None:
    rng = np.random.default_rng(seed)
    lake = random_lake(rng, tables, days)
    today = FIRST + timedelta(days=int(rng.integers(days // 2, days + 30)))
    with_current_prices(rng, lake, today)
    data = market(lake, **limits)
    start = today - timedelta(days=int(rng.integers(0, 40)))
    span = (start, today) if spanned else None
    obs = data.prices.observations(KEYS, [start, today], span=span, current=(today, data.current))
    obs, _ = data.current.extend(obs, today)
    for key in KEYS:
        for day in (today, start):
            expected, by_fallback = brute_force(lake, key, day, data.limits, today)
            assert_answer(asof(obs.only([key]), [day]), expected, by_fallback=by_fallback)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    tables=st.lists(st.sampled_from(EVERY_SOURCE), min_size=1, unique=True),
    days=st.sampled_from([90, 400, 4000]),
    step=st.sampled_from([1, 9, 30]),
    limits=st.sampled_from([{}, {"traded": 10, "fund": 3}, {"traded": 0, "fund": 10_000_000}]),
)
def test_many_dates_at_once_give_what_the_whole_history_gives(
    seed: int, tables: list[str], days: int, step: int, limits: dict[str, int]
) -> None:
    rng = np.random.default_rng(seed)
    data = market(random_lake(rng, tables, days), **limits)
    asked = [FIRST + timedelta(days=int(rng.integers(-5, days)) + step * n) for n in range(60)]
    whole = data.prices.history(KEYS)
    found = data.prices.observations(KEYS, asked)
    assert_same_asof(found, whole, asked)
    rates = data.rates(KEYS[4]).observations(found, {"brl", "eur"}, asked)
    left, right = (
        rates_asof(each, {"brl", "eur"}, asked, usdbrl_ticker=KEYS[4], limit=data.limits.days("traded"))
        for each in (rates, whole)
    )
    for iso in ("brl", "eur"):
        np.testing.assert_array_equal(left[iso], right[iso])


@pytest.mark.azurite
@pytest.mark.parametrize("seed", range(3))
def test_tables_that_are_read_at_once_give_what_they_give_one_by_one(make_rig: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    here, far = random_lake(rng, EVERY_SOURCE, 400), make_rig("azurite").storage()
    for info in here.list(DIRECTORY):
        far.write(info.path, here.read(info.path).data)
    asked = [FIRST + timedelta(days=int(day)) for day in rng.integers(-5, 430, 60)]
    for dates in (asked[:3], asked):
        assert_same_asof(
            market(far).prices.observations(KEYS, dates), market(here).prices.observations(KEYS, dates), dates
        )


def as_text(lake: Storage) -> Storage:
    """A copy of the lake, the tables of one file as the old system left them."""
    copy = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    for info in lake.list(DIRECTORY):
        data = lake.read(info.path).data
        if info.path.count("/") == 2:
            rows = pq.ParquetFile(pa.BufferReader(data)).read()
            data = to_bytes(legacy.spell(rows).replace_schema_metadata(None))
        copy.write(info.path, data)
    return copy


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    tables=st.lists(st.sampled_from(EVERY_SOURCE), min_size=1, unique=True),
    room=st.sampled_from([0, 10**9]),
)
def test_legacy_tables_answer_as_typed_ones_do_kept_whole_or_not(seed: int, tables: list[str], room: int) -> None:
    rng = np.random.default_rng(seed)
    typed = random_lake(rng, tables, 400)
    asked = [FIRST + timedelta(days=int(day)) for day in rng.integers(-5, 430, 3)]
    expected = market(typed).prices.history(KEYS)
    text = market(as_text(typed), room)
    assert_same_asof(text.prices.observations(KEYS, asked), expected, asked)
    start, end = min(asked), max(asked)
    every = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    assert_same_asof(
        text.prices.observations(KEYS[:3], [start, end], span=(start, end)), expected.only(KEYS[:3]), every
    )
    assert_same_asof(text.prices.history(KEYS), expected, asked)


def assert_same_asof(found: Observations, whole: Observations, dates: list[date]) -> None:
    left, right = asof(found, dates), asof(whole, dates)
    assert found.keys.tolist() == whole.keys.tolist()
    for name in ("price", "date", "stale", "mark", "bad", "fallback"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def sorted_file(storage: Storage, name: str, *rows: tuple[str, str, float | None]) -> None:
    """A table as it is written here, with the index of its series."""
    days, keys, prices = zip(*rows, strict=True)
    table = pa.table({"Date": np.array(days, "datetime64[us]"), "Asset": keys, "Last_Price": prices})
    metadata = {PARTITION_COLUMN: b"Date", ENCODING: b"typed"}
    table = table.sort_by([("Date", "ascending"), ("Asset", "ascending")]).replace_schema_metadata(metadata)
    storage.write(f"{DIRECTORY}/{name}.parquet", to_bytes(table, sorted_by=("Date", "Asset")))


@pytest.mark.parametrize("day", ["2024-01-10", "2024-01-15", "2024-01-16", "2024-02-20", "2026-01-01"])
def test_a_stray_row_elsewhere_does_not_switch_a_fallback_off(day: str) -> None:
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    sorted_file(storage, "hist_ecb_px_last", *((f"2024-01-{n:02d}", "a", float(n)) for n in range(1, 21)))
    sorted_file(storage, "hist_file_px_last", ("2024-01-10", "a", 99.0))
    found = asof(market(storage).prices.observations(["a"], [date.fromisoformat(day)]), [day])
    expected = {
        "2024-01-10": (99, "2024-01-10", False, False),  # of the same date the other table answers
        "2024-01-15": (99, "2024-01-10", False, False),  # … and for five days more
        "2024-01-16": (16, "2024-01-16", False, True),
        "2024-02-20": (20, "2024-01-20", True, True),  # both are too old: the newer, stale
        "2026-01-01": (20, "2024-01-20", True, True),
    }[day]
    cells = (found.price[0, 0], str(found.date[0, 0]), found.stale[0, 0], found.fallback[0, 0])
    assert cells == expected


def test_of_a_fallback_too_every_day_of_a_span_is_read() -> None:
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    days = np.datetime64("2024-01-01") + np.arange(400)
    sorted_file(storage, "hist_ecb_px_last", *((str(day), "a", float(n)) for n, day in enumerate(days, 1)))
    start, end = date(2024, 1, 1), date(2025, 2, 3)
    found = daily_prices(market(storage).prices.observations(["a"], [start, end], span=(start, end)), start, end)
    assert found.price.tolist() == list(range(1, 401))


def test_a_last_row_that_is_no_price_is_a_row_and_hides_no_older_price_for_ever() -> None:
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    sorted_file(storage, "hist_px_last", ("2019-01-31", "a", 9.0), ("2024-01-31", "a", -1.0), ("2024-01-31", "b", 0.0))
    obs = market(storage).prices.observations(["a", "b", "c"], [date(2024, 2, 10), date(2024, 2, 11)])
    found = asof(obs, ["2024-02-10", "2024-02-11"])
    assert found.bad_price.tolist() == [[True, False], [True, False], [False, False]]
    assert found.stale.tolist() == [[False, True], [False, True], [False, False]]
    assert found.price.tolist()[0] == [-1, 9]  # beyond its limit a bad row is passed over
    assert found.price.tolist()[1] == [0, 0]
    assert obs.present.tolist() == [True, True, False]


def test_a_last_price_beside_an_empty_cell_counts() -> None:
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    days = np.array(["2019-01-02", "2020-01-02"], dtype="datetime64[us]")
    rows = pa.table({"Date": days, "Asset": ["a", "a"], "Last_Price": [1.0, 2.0], "Volume": [5.0, None]})
    metadata = {PARTITION_COLUMN: b"Date", ENCODING: b"typed"}
    data = to_bytes(rows.replace_schema_metadata(metadata), sorted_by=("Date", "Asset"))
    storage.write(f"{DIRECTORY}/hist_px_last.parquet", data)
    found = asof(market(storage).prices.observations(["a"], [date(2023, 6, 1)]), ["2023-06-01"])
    assert found.price.tolist() == [[2.0]]


def test_a_table_laid_out_in_two_ways_is_named_when_it_is_asked_for_and_not_before() -> None:
    storage = connect(f"memory://{uuid.uuid4().hex}", settings=Settings())
    write(storage, "assets", pa.table({"Key": ["k"], "Ticker": ["a"]}))
    for place in ("month=2024-01", "year=2024"):
        storage.write(f"{DIRECTORY}/hist_px_last/{place}/data.parquet", b"")
    data = market(storage)
    assert data.assets.frame()["Key"].tolist() == ["k"]
    with pytest.raises(SchemaError, match="both month= and year="):
        data.prices.observations(["a"], [date(2024, 1, 31)])


# --- the amount of work ------------------------------------------------------------------------


class CountingStorage(LocalStorage):
    """A local lake that notes which bytes of which file are asked for."""

    asked: list[tuple[str, int, int]]

    @contextmanager
    def _open(self, info: BlobInfo) -> Iterator[Reader]:
        with super()._open(info) as reader:
            yield _CountingReader(reader, info.path, self.asked)


class _CountingReader:
    def __init__(self, reader: Reader, path: str, asked: list[tuple[str, int, int]]) -> None:
        self._reader, self._path, self._asked = reader, path, asked

    def source(self) -> Any:
        return _CountingFile(self._reader.source(), self._path, self._asked)

    def prefetch(self, ranges: Any) -> None:
        self._reader.prefetch(ranges)


class _CountingFile:
    def __init__(self, file: Any, path: str, asked: list[tuple[str, int, int]]) -> None:
        self._file, self._path, self._asked = file, path, asked
        self._position = 0  # of its own: threads share the file, and each has one of these

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = (0, self._position, self._file.size())[whence] + offset
        return self._position

    def read_buffer(self, size: int) -> Any:
        start, data = self._position, self._file.read_at(size, self._position)
        self._position += len(data)
        self._asked.append((self._path, start, start + len(data)))
        return pa.py_buffer(data)

    def read(self, size: int) -> bytes:
        """Read uncounted: so footers are read."""
        data: bytes = self._file.read_at(size, self._position)
        self._position += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def twenty_years(tmp_path: Path) -> CountingStorage:
    """400 series on 5000 days in one file, sorted by date: 31 row groups."""
    storage = CountingStorage(tmp_path, Settings())
    storage.asked = []
    days = np.datetime64("2006-01-02") + np.arange(5000)
    keys = [f"k{n:03d}" for n in range(400)]
    data = {
        "Date": np.repeat(days, 400).astype("datetime64[us]"),
        "Asset": pa.array(np.tile(np.array(keys, dtype=object), 5000), pa.string()),
        "Last_Price": np.arange(2_000_000) % 997 + 1.0,
        "Unasked": np.random.default_rng(0).random(2_000_000),
    }
    write(storage, "hist_px_last", pa.table(data))
    return storage


def row_groups(storage: CountingStorage, path: str) -> set[tuple[int, str]]:
    """The row groups and columns that were read from, judged by the file's own metadata; its tail is the footer's."""
    size = (storage.root / path).stat().st_size
    asked = [(low, high) for name, low, high in storage.asked if name == path and high < size]
    metadata = pq.read_metadata(storage.root / path)
    touched = set()
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            stop = start + chunk.total_compressed_size
            if any(low < stop and start < high for low, high in asked):
                touched.add((group, chunk.path_in_schema))
    return touched


class LookingStorage(LocalStorage):
    """A lake whose tables are looked for as on Azure, and which notes each look."""

    concurrent = True
    looks: list[str]

    def folder(self, path: str, *, unusable: list[Unusable] | None = None) -> Folder:
        self.looks.append(f"list {path}")
        return super().folder(path, unusable=unusable)

    def list(self, prefix: str, *, unusable: list[Unusable] | None = None) -> Any:
        self.looks.append(f"list {prefix}")
        return super().list(prefix, unusable=unusable)

    def stat(self, path: str) -> BlobInfo | None:
        self.looks.append(path)
        return super().stat(path)


def test_one_listing_finds_every_table_that_returns_need(tmp_path: Path) -> None:
    storage = LookingStorage(tmp_path, Settings())
    storage.looks = []
    days = np.array(["2024-04-30", "2024-05-31"], dtype="datetime64[us]")
    keys = pa.array(["a us equity"] * 2, pa.string())
    write(storage, "hist_px_last", pa.table({"Date": days, "Asset": keys, "Last_Price": [1.0, 2.0]}))
    write(storage, "assets", pa.table({"Key": ["a"], "Ticker_BBG": ["a us equity"], "Location": ["us"]}))
    storage.looks.clear()
    query = LuxorQuery(lake=Lake(storage, settings=Settings(), conventions=CONVENTIONS))
    assert query.get_returns("2024-05-31", ["a us equity"], periods=["mtd"])["Return"].tolist() == [1.0]
    assert storage.looks == [f"list {DIRECTORY}"]


def test_a_month_of_twenty_years_is_read_from_one_or_two_row_groups(twenty_years: CountingStorage) -> None:
    path = f"{DIRECTORY}/hist_px_last.parquet"
    data = market(twenty_years)
    keys = [f"k{n:03d}" for n in range(400)]
    total = pq.read_metadata(twenty_years.root / path).num_row_groups
    assert total == 31

    found = data.prices.observations(keys, [date(2012, 5, 31), date(2012, 4, 30)])
    assert not asof(found, ["2012-05-31", "2012-04-30"]).stale.any()
    touched = row_groups(twenty_years, path)
    assert {column for _, column in touched} == {"Date", "Asset", "Last_Price"}
    assert len({group for group, _ in touched}) <= 2

    # The same again, and part of what was looked up, costs nothing: it is remembered.
    twenty_years.asked.clear()
    data.prices.observations(keys, [date(2012, 5, 31), date(2012, 4, 30)])
    MarketData(data.lake).prices.observations(keys, [date(2012, 5, 31), date(2012, 4, 30)])
    assert twenty_years.asked == []


def test_a_legacy_file_is_decoded_once_where_there_is_room(tmp_path: Path) -> None:
    storage = CountingStorage(tmp_path, Settings())
    storage.asked = []
    days = np.tile(np.datetime64("2016-01-01", "us") + np.arange(3000) * np.timedelta64(1, "D"), 20)
    keys = np.repeat(np.array([f"k{n:02d}" for n in range(20)], dtype=object), 3000)
    prices = np.random.default_rng(0).random(60_000)
    rows = pa.table({"Date": days, "Asset": pa.array(keys, pa.string()), "Last_Price": prices})
    path = f"{DIRECTORY}/hist_px_last.parquet"
    storage.write(path, to_bytes(legacy.spell(rows)))
    size, room = (tmp_path / path).stat().st_size, 32 * 60_000

    def read(cache_bytes: int) -> float:
        """How often over the file is read for what it takes three questions to answer."""
        storage.asked.clear()
        data = market(storage, cache_bytes)
        names = ["k00", "k19", "nowhere"]
        found = data.prices.observations(names, [date(2020, 5, 31)])
        assert asof(found, ["2020-05-31"]).has_row.ravel().tolist() == [True, True, False]
        assert len(data.prices.history(["k07"])) == 3000
        many = [date(2020, 1, 31) + timedelta(days=7 * n) for n in range(60)]
        assert asof(data.prices.observations(["k03"], many), many).has_row.all()
        return sum(high - low for _, low, high in storage.asked) / size

    assert read(room + 1) < 1.1
    assert read(room) > 1.5


def test_a_dead_series_costs_its_key_column_not_all_of_history(twenty_years: CountingStorage) -> None:
    path = f"{DIRECTORY}/hist_px_last.parquet"
    market(twenty_years).prices.observations(["nowhere"], [date(2012, 5, 31)])
    columns = [column for _, column in row_groups(twenty_years, path)]
    assert columns.count("Asset") <= 31
    assert columns.count("Last_Price") <= 2
    assert columns.count("Unasked") == 0
