from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.market.daily import daily_prices, observed_prices
from luxor_pipelines.market.observations import NO_LIMIT, Observations
from luxor_pipelines.market.prices import adjust_quotas, asof, quota_basis
from market.facts import BY_TABLE, apply_overrides, merge_observations

Observe = Callable[..., Observations]
nan = np.nan
EPOCH = np.datetime64("2024-01-01")
KINDS = ["hist_px_last", "all_funds_quotas", "hist_vc_px_last"]  # limits 10, 45, none


# --- as of a date ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "day", "price", "stale"),
    [
        ("hist_px_last", "2024-01-04", np.nan, False),  # before the first observation
        ("hist_px_last", "2024-01-05", 7.0, False),
        ("hist_px_last", "2024-01-15", 7.0, False),  # 10 days old
        ("hist_px_last", "2024-01-16", 7.0, True),  # 11 days old: reported, as stale
        ("all_funds_quotas", "2024-02-19", 7.0, False),  # 45 days old
        ("all_funds_quotas", "2024-02-20", 7.0, True),
        ("custom_prices", "2024-02-19", 7.0, False),
        ("hist_vc_px_last", "2034-01-05", 7.0, False),
    ],
)
def test_asof(observe: Observe, table: str, day: str, price: float, stale: bool) -> None:
    found = asof(observe(**{table: {"x": {"2024-01-05": 7}}}), [day])
    np.testing.assert_array_equal(found.price, [[price]])
    assert found.stale.tolist() == [[stale]]
    missing = np.isnan(price)
    assert np.isnat(found.date[0, 0]) == missing
    assert found.has_row.tolist() == [[not missing]]
    assert str(found.date.item()) == ("None" if missing else "2024-01-05")
    assert found.mark.tolist() == [[table == "hist_vc_px_last"]]


def test_an_older_observation_with_a_longer_limit_stands_where_a_newer_one_is_stale(observe: Observe) -> None:
    obs = observe(
        hist_vc_px_last={"x": {"2024-01-01": 1}},
        all_funds_quotas={"x": {"2024-02-01": 2}},
        hist_px_last={"x": {"2024-02-20": 3}},
    )
    found = asof(obs, ["2024-02-20", "2024-03-01", "2024-03-02", "2024-03-17", "2024-03-18"])
    # The traded price to 1 March (10 days), the quota to 17 March (45 days), then the mark.
    assert found.price.tolist() == [[3, 3, 2, 2, 1]]
    assert not found.stale.any()
    assert found.carried.tolist() == [[False, False, False, False, True]]


def test_the_last_of_any_is_reported_where_all_are_stale(observe: Observe) -> None:
    obs = observe(all_funds_quotas={"x": {"2024-01-01": 2}}, hist_px_last={"x": {"2024-02-01": 3}})
    found = asof(obs, ["2024-06-30"])
    assert (found.price.item(), found.stale.item(), str(found.date.item())) == (3, True, "2024-02-01")


def test_a_later_observation_with_a_longer_limit_is_not_known_yet(observe: Observe) -> None:
    obs = observe(hist_px_last={"x": {"2024-01-01": 1}}, hist_vc_px_last={"x": {"2024-06-01": 9}})
    found = asof(obs, ["2023-12-31", "2024-03-01"])
    np.testing.assert_array_equal(found.price, [[nan, 1]])
    assert found.stale.tolist() == [[False, True]]


def test_asof_of_series_and_dates_in_any_order(observe: Observe) -> None:
    obs = observe(
        keys=["a", "none", "b"],
        hist_px_last={"a": {"2024-01-02": 1, "2024-01-05": 2}, "b": {"2024-01-03": 9}},
    )
    found = asof(obs, [date(2024, 1, 5), date(2024, 1, 2), date(2024, 1, 5)])
    np.testing.assert_array_equal(found.price, [[2, 1, 2], [nan, nan, nan], [9, nan, 9]])
    assert found.as_of.astype(str).tolist() == ["2024-01-05", "2024-01-02", "2024-01-05"]


def test_asof_of_nothing() -> None:
    found = asof(merge_observations(["x"], []), ["2024-01-02", "2024-01-03"])
    assert found.price.shape == (1, 2)
    assert not found.has_row.any()
    assert asof(merge_observations([], []), ["2024-01-02"]).price.shape == (0, 1)
    with pytest.raises(UsageError, match="null"):
        asof(merge_observations(["x"], []), [None])  # type: ignore[list-item]


def random_observations(seed: int, days: int = 400, rows: int = 120) -> Observations:
    random = np.random.default_rng(seed)
    parts = [
        (
            BY_TABLE[table],
            random.integers(0, 4, rows // 3),
            EPOCH + random.integers(0, days, rows // 3),
            random.lognormal(size=rows // 3),
        )
        for table in KINDS
    ]
    return merge_observations(["a", "b", "c", "d", "none"], parts)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-20, 500), min_size=1, max_size=8))
def test_asof_is_the_naive_loop(seed: int, offsets: list[int]) -> None:
    obs = random_observations(seed)
    found = asof(obs, EPOCH + np.array(offsets))
    for i in range(len(obs.keys)):
        for j, offset in enumerate(offsets):
            day, last, eligible = EPOCH + np.timedelta64(offset, "D"), None, None
            for n in np.flatnonzero(obs.code == i):
                if obs.date[n] <= day:
                    last = n
                    if (day - obs.date[n]).astype(int) <= obs.limit[n]:
                        eligible = n
            chosen = last if eligible is None else eligible
            if chosen is None:
                assert not found.has_row[i, j]
                assert np.isnan(found.price[i, j])
            else:
                assert found.date[i, j] == obs.date[chosen]
                assert found.price[i, j] == obs.price[chosen]
                assert found.mark[i, j] == obs.mark[chosen]
            assert found.stale[i, j] == (last is not None and eligible is None)


def test_asof_is_pandas_merge_asof() -> None:
    random = np.random.default_rng(7)
    obs = merge_observations(
        ["a", "b", "c"],
        [
            (
                BY_TABLE["hist_px_last"],
                random.integers(0, 3, 90),
                EPOCH + random.integers(0, 700, 90),
                random.random(90),
            )
        ],
    )
    asked = EPOCH + np.arange(-5, 760)
    found = asof(obs, asked)
    right = pd.DataFrame({"Date": obs.date.astype("datetime64[us]"), "code": obs.code.astype(int), "price": obs.price})
    for code in range(3):
        left = pd.DataFrame({"Date": asked.astype("datetime64[us]"), "code": code})
        expected = pd.merge_asof(left, right.sort_values("Date"), on="Date", by="code", tolerance=pd.Timedelta("10D"))
        np.testing.assert_array_equal(np.where(found.stale[code], np.nan, found.price[code]), expected["price"])
        ever = right[right["code"] == code].set_index("Date")["price"].asof(left["Date"])
        np.testing.assert_array_equal(found.price[code], ever)


@given(st.integers(0, 2**32 - 1), st.integers(0, 400))
def test_later_observations_never_change_a_price(seed: int, offset: int) -> None:
    obs, day = random_observations(seed), EPOCH + np.timedelta64(offset, "D")
    known = obs.date <= day
    earlier = Observations(
        obs.keys, obs.code[known], obs.date[known], obs.price[known], obs.limit[known], obs.mark[known]
    )
    before, after = asof(earlier, [day]), asof(obs, [day])
    for field in ("price", "date", "stale", "mark", "bad"):
        np.testing.assert_array_equal(getattr(before, field), getattr(after, field))


# --- daily prices ------------------------------------------------------------------------------


def test_daily_prices(observe: Observe) -> None:
    obs = observe(
        keys=["vale3 bz equity", "aapl us equity", "none", "later"],
        hist_px_last={
            "vale3 bz equity": {"2023-12-20": 60, "2024-01-04": 62},
            "aapl us equity": {"2024-01-02": 185},
            "later": {"2024-02-01": 1},
        },
    )
    found = daily_prices(obs, "2023-12-30", "2024-01-04").to_frame()
    assert found["Asset"].tolist() == ["aapl us equity"] * 3 + ["vale3 bz equity"] * 6
    assert found["Date"].astype(str).tolist()[:4] == ["2024-01-02", "2024-01-03", "2024-01-04", "2023-12-30"]
    vale = found[found["Asset"] == "vale3 bz equity"]
    # 20 December is 10 days old on the 30th, then stale until the price of 4 January.
    np.testing.assert_array_equal(vale["Last_Price"], [60, *[np.nan] * 4, 62])
    assert vale["Status"].tolist() == ["ok", "stale", "stale", "stale", "stale", "ok"]
    assert vale["Price_Date"].astype(str).tolist() == ["2023-12-20"] * 5 + ["2024-01-04"]


def test_daily_prices_are_carried_past_the_last_observation(observe: Observe) -> None:
    obs = observe(hist_vc_px_last={"x": {"2024-01-01": 5}}, hist_px_last={"y": {"2024-01-01": 5}})
    found = daily_prices(obs, "2024-01-01", "2024-02-16").to_frame().set_index(["Asset", "Date"])["Status"]
    assert found["x"].value_counts().to_dict() == {"ok": 46, "carried": 1}  # ages 0 to 45, then 46
    assert found["y"].value_counts().to_dict() == {"ok": 11, "stale": 36}


@given(st.integers(0, 2**32 - 1), st.integers(-30, 430), st.integers(0, 60))
def test_daily_prices_are_the_prices_as_of_each_day(seed: int, first: int, length: int) -> None:
    obs = random_observations(seed)
    days = EPOCH + np.arange(first, first + length + 1)
    daily, each = daily_prices(obs, days[0], days[-1]).to_frame(), asof(obs, days)
    stacked = pd.DataFrame(
        {
            "Date": np.tile(days.astype("datetime64[us]"), len(obs.keys)),
            "Asset": np.repeat(obs.keys, len(days)),
            "Last_Price": np.where(each.stale, np.nan, each.price).ravel(),
            "Price_Date": each.date.astype("datetime64[us]").ravel(),
            "Status": np.select([each.stale, each.carried], ["stale", "carried"], "ok").ravel(),
        }
    )[each.has_row.ravel()].reset_index(drop=True)
    pd.testing.assert_frame_equal(daily, stacked, check_dtype=False)


def test_daily_prices_of_nothing(observe: Observe) -> None:
    full = daily_prices(observe(hist_px_last={"x": {"2024-01-01": 5}}), "2024-01-01", "2024-01-02").to_frame()
    for obs in (
        merge_observations([], []),
        merge_observations(["x"], []),
        observe(hist_px_last={"x": {"2025-01-01": 5}}),
    ):
        empty = daily_prices(obs, "2024-01-01", "2024-01-02").to_frame()
        assert empty.empty
        assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    with pytest.raises(UsageError, match="before the start"):
        daily_prices(merge_observations([], []), "2024-01-02", "2024-01-01")


# --- amortizations -----------------------------------------------------------------------------


def events(*rows: tuple[object, object, object]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["Fund", "Event_Date", "Ratio"])


def test_adjust_quotas(observe: Observe) -> None:
    quotas = {"2024-01-31": 100, "2024-02-15": 90, "2024-02-29": 92, "2024-03-29": 70, "2024-04-30": 71}
    obs = observe(all_funds_quotas={"credit fund": quotas, "other": {"2024-01-31": 10}})
    frame = events(
        ("Credit Fund ", date(2024, 3, 15), 0.25),
        ("credit fund", date(2024, 2, 15), 0.1),
        ("credit fund", date(2024, 5, 2), 0.5),
        ("unknown", date(2024, 2, 15), 0.5),
    )
    # As of 30 April the event of May has not happened. The quota of an event's own day is already after it.
    # 100 × 0.9 × 0.75 = 67.5; 90 × 0.75 = 67.5; 92 × 0.75 = 69
    found = adjust_quotas(obs, frame, "2024-04-30")
    np.testing.assert_allclose(found.price, [67.5, 67.5, 69, 70, 71, 10], rtol=1e-15)
    # On its own day the event of March counts.
    np.testing.assert_allclose(adjust_quotas(obs, frame, "2024-03-15").price[0], 67.5, rtol=1e-15)
    # As of 1 March only February's has.
    np.testing.assert_allclose(adjust_quotas(obs, frame, "2024-03-01").price, [90, 90, 92, 70, 71, 10], rtol=1e-15)
    assert obs.price.tolist() == [100, 90, 92, 70, 71, 10]
    assert adjust_quotas(obs, frame, "2024-02-14").price.tolist() == obs.price.tolist()


def test_an_amortization_is_no_loss(observe: Observe) -> None:
    # 10 % is paid out of a quota of 100 and the rest stays flat: the total return is 0.
    obs = observe(all_funds_quotas={"f": {"2024-01-31": 100, "2024-02-15": 90}})
    found = asof(adjust_quotas(obs, events(("f", "2024-02-15", 0.1)), "2024-02-29"), ["2024-01-31", "2024-02-29"])
    assert found.price[0, 1] / found.price[0, 0] - 1 == pytest.approx(0, abs=1e-15)


def test_the_basis_of_an_event_s_own_date_is_after_it(observe: Observe) -> None:
    obs = observe(all_funds_quotas={"f": {"2024-01-31": 100}, "last": {"2024-01-31": 10}})
    frame = events(
        ("f", "2024-02-15", 0.25),
        ("f", "2024-02-20", 0.0),  # nothing was returned
        ("f", "2024-03-15", 0.5),  # not yet
        ("not asked for", "2024-02-15", 0.5),
    )
    basis = quota_basis(obs, frame, ["2024-02-14", "2024-02-15", "2024-02-16"], "2024-02-29")
    assert basis.tolist() == [[0.75, 1, 1], [1, 1, 1]]
    assert quota_basis(obs, frame, ["2024-02-14"], "2024-02-15").tolist() == [[0.75], [1]], "on its own day it is due"
    assert adjust_quotas(obs, frame, "2024-02-29").price.tolist() == [75, 10]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (events(("f", "2024-01-31", 1.0)), "Ratio.*1.0"),
        (events(("f", "2024-01-31", -0.1)), "Ratio.*-0.1"),
        (events(("f", "2024-01-31", np.inf)), "Ratio.*inf"),
        (events(("f", "2024-01-31", None)), "Ratio: 1 null"),
        (events((None, "2024-01-31", 0.1)), "Fund: 1 null"),
        (events(("f", None, 0.1)), "Event_Date: 1 null"),
        (events(("f", "2024-01-31", "5 %")), "Ratio: 1 not a number: '5 %'"),
        (
            events(("f", "2024-01-31", 0.1), ("F", "2024-01-31", 0.1)),
            r"\(Fund, Event_Date\): 1 repeated.*f 2024-01-31",
        ),
        (events().drop(columns="Ratio"), "missing 'Ratio'"),
    ],
)
def test_wrong_events(observe: Observe, frame: pd.DataFrame, said: str) -> None:
    obs = observe(all_funds_quotas={"f": {"2024-01-31": 100}})
    with pytest.raises(SchemaError, match=f"quota_adjustments: {said}"):
        adjust_quotas(obs, frame, "2024-04-30")


def test_no_events(observe: Observe) -> None:
    obs = observe(all_funds_quotas={"f": {"2024-01-31": 100}})
    assert adjust_quotas(obs, events(), "2024-04-30").price.tolist() == [100]


# --- overrides ---------------------------------------------------------------------------------


def overrides(*rows: tuple[object, object, object]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["Date", "Asset", "Last_Price"])


def test_overrides_replace_the_span(observe: Observe) -> None:
    stored = {"2024-01-02": 1, "2024-01-03": 2, "2024-02-01": 3, "2024-03-01": 4, "2024-03-04": 5}
    obs = observe(hist_px_last={"x": stored, "y": stored})
    found = apply_overrides(
        obs, overrides(("2024-03-01", " X ", 40), ("2024-01-03", "x", 20), ("2024-01-03", "unknown", 9))
    )
    assert found.series("x")[1].tolist() == [1, 20, 40, 5]
    assert found.series("y")[1].tolist() == [1, 2, 3, 4, 5]
    assert obs.series("x")[1].tolist() == [1, 2, 3, 4, 5]
    # Inside the span the override of 3 January carries for 57 days; before and after, the usual 10.
    daily = daily_prices(found, "2024-01-02", "2024-03-20").to_frame().set_index(["Asset", "Date"])["Last_Price"]["x"]
    np.testing.assert_array_equal(daily["2024-01-03":"2024-02-29"].unique(), [20])
    assert daily["2024-03-03"] == 40
    assert daily["2024-03-14"] == 5
    assert np.isnan(daily["2024-03-15"])


def test_the_last_override_keeps_the_limit_of_what_it_stands_in_for(observe: Observe) -> None:
    obs = observe(
        keys=["stock", "fund", "mark", "new"],
        hist_px_last={"stock": {"2024-01-30": 1}},
        all_funds_quotas={"fund": {"2024-01-30": 1}},
        hist_vc_px_last={"mark": {"2024-01-30": 1}},
    )
    frame = overrides(*(("2024-01-31", name, 2) for name in ("stock", "fund", "mark", "new")))
    found = apply_overrides(obs, frame)
    as_of = asof(found, ["2024-02-10", "2024-02-11", "2024-03-16", "2024-03-17"])  # 10, 11, 45, 46 days
    assert as_of.price.tolist() == [[2, 2, 2, 2]] * 4
    assert as_of.stale.tolist() == [
        [False, True, True, True],
        [False, False, False, True],
        [False, False, False, False],
        [False, True, True, True],
    ]
    assert as_of.carried[2].tolist() == [False, False, False, True]


def test_an_override_before_the_first_observation(observe: Observe) -> None:
    obs = observe(all_funds_quotas={"fund": {"2024-01-30": 1}, "g": {"2024-01-30": 1}})
    found = apply_overrides(obs, overrides(("2023-12-29", "fund", 2), ("2023-12-29", "g", 3)))
    assert found.price.tolist() == [2, 1, 3, 1]
    assert found.limit.tolist() == [45, 45, 45, 45]


def test_an_override_stands_in_for_the_last_observation_before_it(observe: Observe) -> None:
    obs = observe(all_funds_quotas={"f": {"2024-01-30": 1}}, hist_px_last={"f": {"2024-02-28": 3}})
    found = apply_overrides(obs, overrides(("2024-01-31", "f", 2)))
    assert found.limit.tolist() == [45, 45, 10]


def test_an_override_on_the_date_of_an_observation_stands_in_for_it(observe: Observe) -> None:
    obs = observe(
        hist_px_last={"x": {"2024-01-30": 1, "2024-03-01": 4}},
        hist_vc_px_last={"x": {"2024-02-01": 2}},
        all_funds_quotas={"y": {"2024-01-30": 1}},
    )
    found = apply_overrides(obs, overrides(("2024-02-01", "x", 20), ("2024-03-05", "y", 30)))
    assert found.price.tolist() == [1, 20, 4, 1, 30]
    assert found.limit.tolist() == [10, NO_LIMIT, 10, 45, 45], "and after the last one for that"
    assert found.mark.tolist() == [False, True, False, False, False]
    later = apply_overrides(obs, overrides(("2024-03-04", "x", 50)))  # a mark lies before the last observation
    assert (later.limit.tolist()[:4], later.mark.tolist()[:4]) == ([10, NO_LIMIT, 10, 10], [False, True, False, False])


def test_observed_prices_end_with_the_range_when_overrides_do_not(observe: Observe) -> None:
    obs = observe(hist_px_last={"x": {"2024-01-30": 1, "2024-02-01": 2, "2024-02-06": 3}})
    frame = overrides(("2024-01-29", "x", 10), ("2024-02-05", "x", 20))
    rows = observed_prices(apply_overrides(obs, frame), "2024-01-30", "2024-02-02").to_frame()
    assert rows.empty, "the overrides take the place of what is stored between them"
    rows = observed_prices(apply_overrides(obs, frame), "2024-01-29", "2024-02-05").to_frame()
    assert rows["Last_Price"].tolist() == [10, 20]


def test_overrides_of_series_without_observations_touch_no_other(observe: Observe) -> None:
    obs = observe(keys=["a", "b", "c"], hist_px_last={"a": {"2024-01-30": 1}, "c": {"2024-01-30": 1, "2024-01-31": 2}})
    found = apply_overrides(obs, overrides(("2024-01-30", "a", 5), ("2024-01-30", "b", 6)))
    assert found.price.tolist() == [5, 6, 1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_overrides_are_the_naive_loop(seed: int, count: int) -> None:
    obs, random = random_observations(seed), np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "Date": (EPOCH + random.integers(0, 400, count)).astype("datetime64[us]"),
            "Asset": random.choice(np.array(["a", "b", "none", "unknown"]), count),
            "Last_Price": 1000 + np.arange(count),
        }
    ).drop_duplicates(["Date", "Asset"])
    found = apply_overrides(obs, frame)
    for key in obs.keys:
        stored = dict(zip(*(part.tolist() for part in obs.series(key)), strict=True))
        own = {row.Date.date(): row.Last_Price for row in frame[frame["Asset"] == key].itertuples()}
        if own:
            stored = {d: p for d, p in stored.items() if not min(own) <= d <= max(own)}
        expected = dict(sorted({**stored, **own}.items()))
        assert dict(zip(*(part.tolist() for part in found.series(key)), strict=True)) == expected
    # Between the first and the last override of a series nothing is ever stale.
    for key, own_dates in frame.groupby("Asset")["Date"]:
        if key in obs.keys:
            rows = daily_prices(found, own_dates.min(), own_dates.max()).to_frame()
            assert not (rows[rows["Asset"] == key]["Status"] == "stale").any()


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (overrides(("2024-01-31", "x", 0)), "Last_Price"),
        (overrides(("2024-01-31", "x", -1)), "Last_Price"),
        (overrides(("2024-01-31", "x", np.inf)), "Last_Price"),
        (overrides(("2024-01-31", "x", np.nan)), "Last_Price: 1 null"),
        (overrides(("2024-01-31", "x", 1), ("2024-01-31", "X", 2)), r"\(Asset, Date\): 1 repeated"),
        (overrides().drop(columns="Asset"), "missing 'Asset'"),
    ],
)
def test_wrong_overrides(observe: Observe, frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(SchemaError, match=f"price_overrides: {said}"):
        apply_overrides(observe(hist_px_last={"x": {"2024-01-31": 1}}), frame)


def test_no_overrides(observe: Observe) -> None:
    obs = observe(hist_px_last={"x": {"2024-01-31": 1}})
    assert apply_overrides(obs, overrides()).price.tolist() == [1]
    assert len(apply_overrides(merge_observations([], []), overrides(("2024-01-31", "x", 1)))) == 0
