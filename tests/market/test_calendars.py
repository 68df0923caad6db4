from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.tseries.offsets import CustomBusinessDay

from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.market.calendars import CalendarRangeWarning, HolidayCalendar

ROWS = [
    ("2024-01-01", "us"),
    ("2024-01-01", "bz"),
    ("2024-01-01", "bz"),  # a repeated row is one holiday
    ("2024-02-12", " BZ "),  # carnival
    ("2024-02-13", "bz"),
    ("2024-02-13", "bz"),
    ("2024-02-19", "us"),  # presidents' day
    ("2024-03-29", "us"),
    ("2024-03-29", "bz"),
    ("2024-12-25", "us"),
    ("2024-12-25", "bz"),
    (None, "us"),
    ("2024-07-04", None),
    ("2024-07-04", " "),
]
HOLIDAYS = {
    "us": ["2024-01-01", "2024-02-19", "2024-03-29", "2024-12-25"],
    "bz": ["2024-01-01", "2024-02-12", "2024-02-13", "2024-03-29", "2024-12-25"],
    "any": ["2024-01-01", "2024-02-12", "2024-02-13", "2024-02-19", "2024-03-29", "2024-12-25"],
    "all": ["2024-01-01", "2024-03-29", "2024-12-25"],
}
covered = st.dates(date(2024, 1, 15), date(2024, 12, 10))
places = st.sampled_from(sorted(HOLIDAYS))


def make() -> HolidayCalendar:
    return HolidayCalendar.from_frame(pd.DataFrame(ROWS, columns=["Date", "Location"]))


CALENDAR = make()


@pytest.mark.parametrize("location", sorted(HOLIDAYS))
def test_holidays(location: str) -> None:
    days = [date(2024, 1, 1) + timedelta(n) for n in range(360)]  # to Christmas
    found = [day.isoformat() for day in days if CALENDAR.is_holiday(day, location)]
    assert found == HOLIDAYS[location]


def test_dates_of_every_kind_and_locations_in_any_case() -> None:
    for day in (
        "2024-02-12",
        datetime(2024, 2, 12, 15),
        pd.Timestamp("2024-02-12"),
        np.datetime64("2024-02-12"),
    ):
        assert CALENDAR.is_holiday(day, " Bz ")
        assert not CALENDAR.is_holiday(day, "us")
    assert CALENDAR.locations == ("bz", "us")


def test_typed_and_object_columns_agree() -> None:
    frame = pd.DataFrame(ROWS, columns=["Date", "Location"])
    typed = frame.assign(Date=pd.to_datetime(frame["Date"]).astype("datetime64[us]"))
    other = HolidayCalendar.from_frame(typed)
    assert all(other.is_holiday(day, name) for name, days in HOLIDAYS.items() for day in days)


def test_carnival_is_no_business_day_where_it_is_kept() -> None:
    week = ["2024-02-09", "2024-02-12", "2024-02-13", "2024-02-14", "2024-02-17"]  # Friday to Wednesday, a Saturday
    for location, expected in {
        "bz": [True, False, False, True, False],
        "us": [True, True, True, True, False],
        "any": [True, False, False, True, False],
        "all": [True, True, True, True, False],
    }.items():
        assert CALENDAR.are_business_days(week, location).tolist() == expected
        assert [CALENDAR.is_business_day(day, location) for day in week] == expected


@pytest.mark.parametrize(
    ("d", "k", "location", "expected"),
    [
        ("2024-02-09", 1, "bz", "2024-02-14"),  # Friday before carnival to Ash Wednesday
        ("2024-02-09", 1, "us", "2024-02-12"),
        ("2024-02-10", 1, "us", "2024-02-12"),  # from a Saturday: the first one after
        ("2024-02-11", 2, "us", "2024-02-13"),
        ("2024-02-14", -1, "bz", "2024-02-09"),
        ("2024-02-12", -1, "bz", "2024-02-09"),
        ("2024-02-11", -1, "us", "2024-02-09"),  # from a Sunday: the first one before
        ("2024-02-13", 0, "bz", "2024-02-09"),
        ("2024-02-13", 0, "us", "2024-02-13"),
        ("2024-02-13", 0, "any", "2024-02-09"),
        ("2024-02-13", 0, "all", "2024-02-13"),
        ("2024-04-01", -1, "all", "2024-03-28"),  # over Good Friday
    ],
)
def test_offset(d: str, k: int, location: str, expected: str) -> None:
    assert CALENDAR.business_day_offset(d, k, location) == date.fromisoformat(expected)
    if k == 0:
        assert CALENDAR.roll_back(d, location) == date.fromisoformat(expected)


@given(covered, st.integers(-8, 8), places)
def test_offset_is_pandas_custom_business_day(d: date, k: int, location: str) -> None:
    day = CustomBusinessDay(holidays=HOLIDAYS[location])
    expected = day.rollback(pd.Timestamp(d)) if k == 0 else pd.Timestamp(d) + k * day
    assert CALENDAR.business_day_offset(d, k, location) == expected.date()
    assert CALENDAR.is_business_day(d, location) == day.is_on_offset(pd.Timestamp(d))


@pytest.mark.parametrize(
    ("recent", "previous", "location", "counts"),
    [  # counts: neither, both, left, right
        ("2024-02-05", "2024-02-02", "us", (0, 2, 1, 1)),  # Friday to Monday
        ("2024-02-06", "2024-02-02", "us", (1, 3, 2, 2)),
        ("2024-02-14", "2024-02-09", "bz", (0, 2, 1, 1)),  # over carnival
        ("2024-02-13", "2024-02-10", "bz", (0, 0, 0, 0)),  # no end is a business day
        ("2024-02-05", "2024-02-05", "us", (0, 0, 0, 0)),
        ("2024-02-02", "2024-02-05", "us", (0, 0, 0, 0)),
    ],
)
def test_count(recent: str, previous: str, location: str, counts: tuple[int, ...]) -> None:
    found = [
        CALENDAR.business_days_between(recent, previous, location, inclusive=inclusive)
        for inclusive in ("neither", "both", "left", "right")
    ]
    assert tuple(found) == counts


@given(covered, covered, places, st.sampled_from(["neither", "both", "left", "right"]))
def test_count_is_pandas_bdate_range(a: date, b: date, location: str, inclusive: str) -> None:
    expected = 0
    if a > b:
        days = pd.bdate_range(b, a, freq="C", holidays=HOLIDAYS[location], inclusive=inclusive)  # type: ignore[call-overload]
        expected = len(days)
    assert CALENDAR.business_days_between(a, b, location, inclusive=inclusive) == expected  # type: ignore[arg-type]


def test_count_excludes_both_ends_by_default() -> None:
    assert CALENDAR.business_days_between("2024-02-07", "2024-02-05", "us") == 1
    with pytest.raises(UsageError, match="neither, left"):
        CALENDAR.business_days_between("2024-02-07", "2024-02-05", "us", inclusive="ends")  # type: ignore[arg-type]


@pytest.mark.parametrize("location", ["br", "", None])
def test_unknown_location_names_the_known_ones(location: str) -> None:
    for ask in (CALENDAR.is_holiday, CALENDAR.is_business_day, CALENDAR.roll_back):
        with pytest.raises(UsageError, match="bz, us, any, all"):
            ask("2024-02-12", location)


def test_outside_the_table_warns_once_at_the_callers_line() -> None:
    calls = [
        lambda: CALENDAR.is_holiday("2025-01-01", "us"),
        lambda: CALENDAR.is_business_day("2023-12-29", "us"),
        lambda: CALENDAR.business_day_offset("2024-12-24", 5, "us"),  # only the result is outside
        lambda: CALENDAR.roll_back("2025-01-04", "any"),
        lambda: CALENDAR.business_days_between("2025-01-04", "2023-01-04", "all"),
    ]
    for call in calls:
        with pytest.warns(CalendarRangeWarning, match="2024-01-01 to 2024-12-25") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


def test_the_strict_and_loose_calendars_are_covered_where_every_location_is() -> None:
    calendar = HolidayCalendar(["2020-01-01", "2024-01-01", "2023-01-01", "2024-06-01"], ["us", "us", "bz", "bz"])
    assert not calendar.is_holiday("2021-06-01", "us")
    with pytest.warns(CalendarRangeWarning, match="2023-01-01 to 2024-01-01"):
        calendar.is_holiday("2021-06-01", "any")


def test_an_empty_table_has_weekdays_only() -> None:
    calendar = HolidayCalendar([], [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for location in ("any", "all"):
            assert not calendar.is_holiday("2024-12-25", location)
            assert calendar.business_day_offset("2024-12-21", 1, location) == date(2024, 12, 23)
    with pytest.raises(UsageError, match="any, all"):
        calendar.is_holiday("2024-12-25", "us")


def test_the_last_day_of_all_is_a_day_like_others() -> None:
    calendar = HolidayCalendar(["2024-01-01"], ["us"], {"us": (date.min, date.max)})
    last = date(9999, 12, 31)  # a Friday
    assert calendar.is_business_day(last, "us")
    assert calendar.roll_back(last, "any") == calendar.business_day_offset(last, 0, "us") == last
    assert calendar.business_days_between(last, "9999-12-30", "us", "both") == 2
    for day, k in ((last, 1), (date(1, 1, 1), -1), (last, 10**30), (last, -(10**30))):
        with pytest.raises(UsageError, match="years 1 to 9999"):
            calendar.business_day_offset(day, k, "us")


def test_wrong_frames() -> None:
    with pytest.raises(SchemaError, match="'Location'"):
        HolidayCalendar.from_frame(pd.DataFrame({"Date": [], "Place": []}))
    with pytest.raises(UsageError, match="2 dates and 1 locations"):
        HolidayCalendar(["2024-01-01", "2024-01-02"], ["us"])
