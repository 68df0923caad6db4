"""Conditions on rows beyond what fits the property tests of a file: many spans, NaN, open ends, numpy's dates."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.lake.parquet.predicates import Where, apply, conditions

FIRST = datetime(2026, 1, 1)
SCHEMA = pa.schema([("Date", pa.timestamp("us")), ("At", pa.timestamp("us", "UTC")), ("x", pa.float64())])


def at(day: float) -> datetime:
    return FIRST + timedelta(days=day)


def days_that_meet(where: Where, days: list[float | None], kind: pa.DataType) -> list[float | None]:
    cells = pa.array([None if day is None else at(day) for day in days], pa.timestamp("us"))
    column = cells if pa.types.is_timestamp(kind) else pa.array(days, pa.float64())
    table = pa.table({"c": column, "day": days})
    by_row, by_word = (apply(t, [where])["day"].to_pylist() for t in (table, _encoded(table)))
    assert by_row == by_word
    return by_row


def _encoded(table: pa.Table) -> pa.Table:
    return table.set_column(0, "c", table["c"].dictionary_encode())


def test_the_rows_of_six_separate_days_are_those_of_these_days() -> None:
    spans = tuple((at(10 * n), at(10 * n) + timedelta(hours=23)) for n in range(6))
    days = [n / 2 for n in range(-4, 120)]
    found = days_that_meet(Where("c", spans=spans), [None, *days], pa.timestamp("us"))
    assert found == [0, 0.5, 10, 10.5, 20, 20.5, 30, 30.5, 40, 40.5, 50, 50.5]


@settings(max_examples=200, deadline=None)
@given(
    ends=st.lists(st.tuples(*(st.one_of(st.none(), st.integers(-5, 45)),) * 2), min_size=0, max_size=14),
    in_order=st.booleans(),
    negated=st.booleans(),
    low=st.integers(-6, 46),
    length=st.integers(0, 20),
    dates=st.booleans(),
)
def test_however_many_spans_rows_and_statistics_are_told_what_each_span_says(
    ends: list[tuple[int | None, int | None]], in_order: bool, negated: bool, low: int, length: int, dates: bool
) -> None:
    if in_order:  # as those of dates asked for are
        flat = sorted(end for pair in ends for end in pair if end is not None)
        ends = list(zip(flat[::2], flat[1::2], strict=False))

    def cell(day: int | None) -> Any:
        return None if day is None else at(day) if dates else float(day)

    where = Where("c", spans=tuple((cell(a), cell(b)) for a, b in ends), negated=negated)
    days: list[float | None] = [None, *(n / 2 for n in range(-14, 94))]
    expected = {
        day
        for day in days
        if day is not None and any((a is None or a <= day) and (b is None or day <= b) for a, b in ends) != negated
    }
    kind = pa.timestamp("us") if dates else pa.float64()
    assert set(days_that_meet(where, days, kind)) == expected
    inside = [day for day in days if day is not None and low <= day <= low + length]
    if not where.might_match(cell(low), cell(low + length)):
        assert not expected & set(inside)
    if where.must_match(cell(low), cell(low + length)):
        assert expected >= set(inside)
    within = where.residual(cell(low), cell(low + length))
    assert set(days_that_meet(within, inside, kind)) == expected & set(inside)


@pytest.mark.parametrize(
    "spans",
    [
        ((None, None),),
        ((None, 5.0),),
        ((-math.inf, None),),
        ((None, 1.0), (2.0, None)),
        tuple((float(n), n + 0.5) for n in range(6)),
    ],
)
def test_neither_a_nan_nor_a_null_is_in_any_span(spans: Any) -> None:
    column = pa.table({"x": pa.array([math.nan, None, 5.0, math.inf, -math.inf])})
    found = apply(column, [Where("x", spans=spans)])["x"].to_pylist()
    expected = [
        cell
        for cell in (5.0, math.inf, -math.inf)
        if any((low is None or low <= cell) and (high is None or cell <= high) for low, high in spans)
    ]
    assert found == expected


@pytest.mark.parametrize("column", ["Date", "At"])
@pytest.mark.parametrize(
    ("given_", "first", "last"),
    [
        (np.datetime64("2026-01-31"), datetime(2026, 1, 31), datetime(2026, 1, 31, 23, 59, 59, 999999)),
        (np.datetime64("2026-01-31T12"), datetime(2026, 1, 31, 12), datetime(2026, 1, 31, 12)),
        (np.datetime64("2026-01-31", "ns"), datetime(2026, 1, 31), datetime(2026, 1, 31)),
        (np.datetime64("2026-01-31T00:00:00.000001"), *(datetime(2026, 1, 31, 0, 0, 0, 1),) * 2),
        (date(2026, 1, 31), datetime(2026, 1, 31), datetime(2026, 1, 31, 23, 59, 59, 999999)),
    ],
)
def test_a_day_of_numpys_is_a_day_and_an_instant_an_instant(
    column: str, given_: Any, first: datetime, last: datetime
) -> None:
    zone = UTC if column == "At" else None
    first, last = first.replace(tzinfo=zone), last.replace(tzinfo=zone)
    (alone,) = conditions(SCHEMA, "t", {column: given_})
    (listed,) = conditions(SCHEMA, "t", {column: np.array([given_])})
    (ended,) = conditions(SCHEMA, "t", {column: (given_, given_)})
    assert alone.spans == listed.spans == ended.spans == ((first, last),)


@pytest.mark.parametrize(
    "wrong", [np.datetime64("NaT"), np.datetime64("NaT", "D"), np.datetime64("2026-01"), np.datetime64("30000-01-01")]
)
def test_numpys_no_date_a_month_and_a_year_beyond_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="'Date'"):
        conditions(SCHEMA, "t", {"Date": wrong})


TYPED = pa.schema(
    [
        ("Date", pa.timestamp("us")), ("Name", pa.string()), ("x", pa.float64()), ("n", pa.int64()),
        ("Flag", pa.bool_()), ("P in L", pa.float64()),
    ]
)  # fmt: skip
ROWS = pa.Table.from_pylist(
    [
        {"Date": datetime(2026, 1, 30, 12), "Name": " Japanese YEN ", "x": 1.5, "n": 1, "Flag": True, "P in L": 1.0},
        {"Date": datetime(2026, 1, 31), "Name": "euro", "x": -0.0, "n": 2, "Flag": False, "P in L": 2.0},
        {"Date": datetime(2026, 2, 1), "Name": "Euro Stoxx", "x": math.nan, "n": 3, "Flag": None, "P in L": None},
        {"Date": None, "Name": None, "x": None, "n": None, "Flag": True, "P in L": 4.0},
    ],
    TYPED,
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("Name=japanese YEN", [0]),
        ("name = JAPANESE yen", [0]),
        ("Name != euro", [0, 2]),
        ("Name contains EURO", [1, 2]),
        ("Name in euro, 'japanese yen'", [0, 1]),
        ("Name in (euro)", [1]),
        ("Name > euro", [0, 2]),
        ("Name between e and f", [1, 2]),
        ("Name is null", [3]),
        ("Name=", [3]),
        ("Name IS NOT null", [0, 1, 2]),
        ("Name!=", [0, 1, 2]),
        ("Date = 2026-01-30", [0]),
        ("Date < 2026-01-31", [0]),
        ("Date <= 2026-01-30", [0]),
        ("Date > 2026-01-30", [1, 2]),
        ("Date >= 2026-01-30T12:00", [0, 1, 2]),
        ("Date > 2026-01-30T12:00", [1, 2]),
        ("Date != 2026-01-30", [1, 2]),
        ("Date between 2026-01-31 and 2026-02-01", [1, 2]),
        ("Date in 2026-01-30, 2026-02-01", [0, 2]),
        ("x >= 0", [0, 1]),
        ("x < 0", []),
        ("x != 0", [0]),
        ("x is null", [2, 3]),
        ("x is not null", [0, 1]),
        ("n > 1.5", [1, 2]),
        ("n == 2", [1]),
        ("n != 2", [0, 2]),
        ("n between 1.5 and 2", [1]),
        ("Flag = TRUE", [0, 3]),
        ("Flag != true", [1]),
        ("P in L >= 2", [1, 3]),
        (["x >= 0", "Name = euro"], [1]),
        ({"x": (">=", 0.1)}, [0]),
        ({"x": ("is null",)}, [2, 3]),
        ({"Name": ("contains", "euro"), "n": ("!=", 2)}, [2]),
        ({"Name": ("between", "a", "f")}, [1, 2]),
        ({"Name": ["EURO", "x"]}, [1]),
        ({"Date": ("<", date(2026, 1, 31))}, [0]),
        ({"n": ("in", [1, 3])}, [0, 2]),
        ({"n": ("in", 3)}, [2]),
        ({"Name": ("in", "euro")}, [1]),
        ({"Date": (None, "2026-01-31")}, [0, 1]),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_one_language_of_conditions(where: Any, expected: list[int], encoded: bool) -> None:
    rows = ROWS.append_column("at", pa.array(range(4)))
    if encoded:
        rows = rows.set_column(1, "Name", rows["Name"].dictionary_encode())
    assert apply(rows, conditions(TYPED, "t", where))["at"].to_pylist() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("'a, b', c", ["a, b", "c"]),
        ('("a, b" , c)', ["a, b", "c"]),
        ("d'or, 'tis", ["d'or", "'tis"]),
        ("x, d'or", ["x", "d'or"]),
        ("a,", ["a", ""]),
    ],
)
def test_a_listed_text_in_quotes_may_hold_commas(words: str, expected: list[str]) -> None:
    (where,) = conditions(TYPED, "t", f"Name in {words}")
    assert where.values == tuple(expected)


@pytest.mark.parametrize(
    "wrong",
    ["Date", "=1", "Date>", "x = abc", "x = inf", "Flag = maybe", "Date = soon", "n contains 1",
     "Date between 2026-01-01", {"x": ("between", 1)}, {"x": ("is null", 1)}, {"x": None},
     {"x": ("=", None)},
     [5], "Name is nothing"],
)  # fmt: skip
def test_what_is_no_condition_is_a_usage_error(wrong: Any) -> None:
    with pytest.raises(UsageError):
        conditions(TYPED, "t", wrong)


@pytest.mark.parametrize("wrong", ["y = 1", {"y": 1}, "y is null"])
def test_a_column_that_is_not_there_is_named(wrong: Any) -> None:
    with pytest.raises(SchemaError, match=r"'y'[\s\S]*It has: Date, Name"):
        conditions(TYPED, "t", wrong)
