"""holidays: hand-listed days of both exchanges, slices by location, bounds, bad input."""

from datetime import UTC, date, datetime

import pandas as pd
import pytest

from luxor_pipelines.errors import DataError, UsageError
from luxor_pipelines.market.calendars import CalendarRangeWarning
from luxor_pipelines.pipelines import holidays
from luxor_pipelines.query.luxor_query import LuxorQuery

NOW = datetime(2026, 11, 3, 18, 30, tzinfo=UTC)

# From the calendars that B3 and the NYSE publish for 2026; days on a weekend left out.
B3_2026 = [
    *("2026-01-01", "2026-02-16", "2026-02-17", "2026-04-03", "2026-04-21", "2026-05-01", "2026-06-04"),
    *("2026-09-07", "2026-10-12", "2026-11-02", "2026-11-20", "2026-12-24", "2026-12-25", "2026-12-31"),
]
NYSE_2026 = [
    *("2026-01-01", "2026-01-19", "2026-02-16", "2026-04-03", "2026-05-25"),
    *("2026-06-19", "2026-07-03", "2026-09-07", "2026-11-26", "2026-12-25"),
]


@pytest.fixture
def lq(tmp_path):
    return LuxorQuery(lake=tmp_path.as_uri())


def days(frame, location, year):
    rows = frame[(frame["Location"] == location) & (frame["Date"].dt.year == year)]
    return sorted(rows["Date"].dt.strftime("%Y-%m-%d"))


@pytest.mark.parametrize(("code", "expected"), [("BVMF", B3_2026), ("XNYS", NYSE_2026)])
def test_2026_as_published(code, expected):
    found, note, _ = holidays.exchange_holidays(code, pd.Timestamp("2026-01-01"), pd.Timestamp("2026-12-31"))
    assert list(found.strftime("%Y-%m-%d")) == expected
    assert note is None


def test_bounds_are_included_and_weekends_are_not():
    # 2026-12-25 is a Friday, 2027-01-01 the next Friday; the weekend between is no holiday.
    found, _, _ = holidays.exchange_holidays("XNYS", pd.Timestamp("2026-12-25"), pd.Timestamp("2027-01-01"))
    assert list(found.strftime("%Y-%m-%d")) == ["2026-12-25", "2027-01-01"]


def test_a_calendar_that_knows_some_years_only_says_so():
    # The Saudi exchange's calendar starts in 2021; its weekend is Friday and Saturday.
    found, note, _ = holidays.exchange_holidays("XSAU", pd.Timestamp("2020-01-01"), pd.Timestamp("2022-12-31"))
    assert found.min() == pd.Timestamp("2021-01-01")
    assert "XSAU" in note
    assert "2021-01-01" in note


def test_a_range_outside_what_a_calendar_knows_is_refused():
    with pytest.raises(DataError, match="XSAU"):
        holidays.exchange_holidays("XSAU", pd.Timestamp("2001-01-01"), pd.Timestamp("2002-12-31"))


@pytest.mark.parametrize("month", [1, 6, 8, 12])
def test_the_end_is_one_for_all_runs_of_a_year_and_500_days_ahead(month):
    now = datetime(2026, month, 28, tzinfo=UTC)
    assert holidays.last_day(now) == pd.Timestamp("2028-12-31")
    assert holidays.last_day(now) >= pd.Timestamp(now.date()) + pd.Timedelta(days=500)


def test_run_writes_both_locations_and_a_rerun_nothing(lq):
    first = holidays.run(lq=lq, now=NOW)
    table = lq.get_table("holidays_exchange")
    assert days(table, "bz", 2026) == B3_2026
    assert days(table, "us", 2026) == NYSE_2026
    assert (table["Date"].dt.day_of_week < 5).all()
    assert table["Date"].min() >= pd.Timestamp("1999-12-01")
    assert first.rows == len(table) == first.loads[0].inserted
    assert first.details["end"] == "2028-12-31"
    assert first.details["exchanges"] == {"bz": "BVMF", "us": "XNYS"}
    again = holidays.run(lq=lq, now=datetime(2026, 12, 30, tzinfo=UTC))
    assert not again.loads[0].changed
    assert again.loads[0].unchanged == first.rows


def test_what_is_no_holiday_any_more_goes_and_other_locations_stay(lq):
    holidays.run(lq=lq, now=NOW, exchanges={"bz": "BVMF", "us": "XNYS"}, start="2026-01-01", end="2026-12-31")
    # Another calendar in the place of "us": the slice is replaced as a whole.
    result = holidays.run(lq=lq, now=NOW, exchanges="us=XLON", start="2026-01-01", end="2026-12-31")
    table = lq.get_table("holidays_exchange")
    assert days(table, "bz", 2026) == B3_2026
    assert "2026-11-26" not in days(table, "us", 2026)  # Thanksgiving
    assert "2026-04-06" in days(table, "us", 2026)  # Easter Monday
    # London's eight of 2026: 01-01 04-03 04-06 05-04 05-25 08-31 12-25 12-28. New York's ten share
    # 01-01 04-03 05-25 12-25, so six go and four come.
    assert (result.loads[0].inserted, result.loads[0].deleted, result.loads[0].unchanged) == (4, 6, 18)


def test_only_days_outside_what_the_calendars_cover_are_warned_of(lq):
    holidays.run(lq=lq, now=NOW, start="2026-01-01", end="2026-12-31")
    assert lq.is_business_day("2026-12-30", "us"), "after the last holiday, and covered"
    with pytest.warns(CalendarRangeWarning, match="2026-01-01 to 2026-12-31"):
        lq.is_business_day("2027-01-01", "us")
    # Another year for one location: the other's coverage stays, and a longer one is told though no holiday changes.
    holidays.run(lq=lq, now=NOW, exchanges="us=XNYS", start="2026-01-01", end="2027-01-10")
    longer = holidays.run(lq=lq, now=NOW, exchanges="us=XNYS", start="2026-01-01", end="2027-01-12")
    assert (longer.loads[0].inserted, longer.loads[0].updated, longer.loads[0].deleted) == (0, 0, 0)
    assert lq.is_business_day("2027-01-12", "us")
    with pytest.warns(CalendarRangeWarning, match="2026-01-01 to 2026-12-31"):
        lq.is_business_day("2027-01-12", "any")


def test_an_exchange_that_never_closes_is_a_calendar_without_holidays(lq):
    holidays.run(lq=lq, now=NOW, exchanges="coin=24/7", start="2026-01-01", end="2026-12-31")
    assert lq.is_business_day("2026-12-25", "coin")
    assert not lq.is_holiday("2026-12-25", "any")
    holidays.run(lq=lq, now=NOW, exchanges="us=XNYS,bz=BVMF", start="2026-01-01", end="2026-12-31")
    assert lq.is_holiday("2026-12-25", "us")
    result = holidays.run(lq=lq, now=NOW, exchanges="us=24/7", start="2026-01-01", end="2026-12-31")
    assert result.loads[0].deleted == len(NYSE_2026), "what the location had goes"
    assert not lq.is_holiday("2026-12-25", "us")
    assert lq.is_holiday("2026-12-25", "bz")


def test_the_present_is_the_default(lq):
    result = holidays.run(lq=lq, start="2020-01-01")
    assert result.details["end"] == f"{lq.now().year + 2}-12-31"


@pytest.mark.parametrize(
    "text",
    ["", "bz", "bz=", "=BVMF", "bz=BVMF,bz=XNYS", "bz=BVMF,us", {}, {" ": "BVMF"}, {"bz": "BVMF", "BZ ": "XNYS"}],
)
def test_exchanges_that_say_nothing_or_two_things_are_refused(text):
    with pytest.raises(UsageError, match=r"bz=BVMF|exchange"):
        holidays.parse_exchanges(text)


def test_exchanges_as_text():
    assert holidays.parse_exchanges(" BZ = bvmf , us=XNYS,") == {"bz": "BVMF", "us": "XNYS"}


def test_an_unknown_exchange_is_refused_with_a_guess(lq):
    with pytest.raises(UsageError, match="XNYZ") as refused:
        holidays.run(lq=lq, now=NOW, exchanges="us=XNYZ")
    assert "XNYS" in refused.value.hint
    assert not lq.table_exists("holidays_exchange")


@pytest.mark.parametrize(
    "bounds", [{"start": "31/12/2026"}, {"end": "soon"}, {"start": "2026-12-31", "end": date(2026, 1, 1)}]
)
def test_bounds_that_are_no_dates_in_order_are_refused(lq, bounds):
    with pytest.raises(UsageError):
        holidays.run(lq=lq, now=NOW, **bounds)
