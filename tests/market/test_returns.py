from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import ffn
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.catalog import PERIODS, PRICE_TABLES
from luxor_pipelines.errors import UsageError
from luxor_pipelines.market.observations import Observations
from luxor_pipelines.market.periods import base_date
from luxor_pipelines.market.prices import adjust_quotas, asof
from luxor_pipelines.market.returns import STATUSES, Returns, returns, returns_frame
from market.facts import merge_observations, point_returns

Observe = Callable[..., Observations]
DATA = Path(__file__).parents[3] / "shared" / "data"
REF = date(2024, 3, 31)
MTD = date(2024, 2, 29)
nan = np.nan


def names(*currencies: str | None) -> np.ndarray:
    return np.array(currencies, dtype=object)


def only(found: Returns) -> tuple[str, float, float, float, str, str]:
    """Status, return, base and end price, base and end date of the one result there is."""
    assert found.value.shape == (1, 1)
    return (
        found.status.item(),
        found.value.item(),
        found.base_price.item(),
        found.end_price.item(),
        str(found.base_date[0, 0]),
        str(found.end_date[0, 0]),
    )


def mtd(obs: Observations, currency: str | None = "usd", dest: str = "local") -> tuple[object, ...]:
    return only(point_returns(obs, REF, [MTD], currencies=names(currency), dest=dest))


def test_statuses_in_order() -> None:
    assert STATUSES == (
        "unknown",
        "missing_currency",
        "no_end",
        "bad_price",
        "stale_end",
        "no_base",
        "stale_base",
        "no_fx",
        "carried",
        "ok",
    )


def test_a_plain_return(observe: Observe) -> None:
    # 29 March 2024 was Good Friday: the price of the 28th is that of the month's end. 110 / 100 − 1 = 10 %.
    obs = observe(hist_px_last={"x": {"2024-02-29": 100, "2024-03-15": 105, "2024-03-28": 110}})
    status, value, *found = mtd(obs)
    assert (status, value) == ("ok", pytest.approx(0.1, rel=1e-14))
    assert found == [100, 110, "2024-02-29", "2024-03-28"]


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        # listed in mid-period: not the return since its first price
        ({"2024-03-10": 100, "2024-03-28": 110}, ("no_base", nan, 110, "NaT", "2024-03-28")),
        # stopped trading on the 5th: not the return to its last price
        ({"2024-02-29": 100, "2024-03-05": 110}, ("stale_end", 100, 110, "2024-02-29", "2024-03-05")),
        # exactly 10 days old at the end, and at the base
        ({"2024-02-19": 100, "2024-03-21": 110}, ("ok", 100, 110, "2024-02-19", "2024-03-21")),
        # 11 days old at the base
        ({"2024-02-18": 100, "2024-03-21": 110}, ("stale_base", 100, 110, "2024-02-18", "2024-03-21")),
        # 11 days old at the end
        ({"2024-02-19": 100, "2024-03-20": 110}, ("stale_end", 100, 110, "2024-02-19", "2024-03-20")),
        # both too old: the end is told first
        ({"2024-01-10": 100}, ("stale_end", 100, 100, "2024-01-10", "2024-01-10")),
        # not yet listed
        ({"2024-04-02": 100}, ("no_end", nan, nan, "NaT", "NaT")),
    ],
)
def test_incomplete_periods(observe: Observe, prices: dict[str, float], expected: tuple[object, ...]) -> None:
    status, value, *found = mtd(observe(hist_px_last={"x": prices}))
    assert status == expected[0]
    assert np.isnan(value) == (status != "ok")
    np.testing.assert_array_equal(found[:2], expected[1:3])
    assert tuple(found[2:]) == expected[3:]


def test_a_late_quota_is_stale_and_not_a_return_of_zero(observe: Observe) -> None:
    # 31 days old at the reference date, within the fund's 45, but not newer than the base date.
    obs = observe(all_funds_quotas={"f": {"2024-02-29": 1.5}})
    assert mtd(obs)[:4] == ("stale_end", pytest.approx(nan, nan_ok=True), 1.5, 1.5)
    # Over the quarter that same quota is news.
    obs = observe(all_funds_quotas={"f": {"2023-12-29": 1.2, "2024-02-29": 1.5}})
    status, value, *_ = only(point_returns(obs, REF, [base_date(REF, "qtr")]))
    assert (status, value) == ("ok", pytest.approx(0.25, rel=1e-14))


def test_marks(observe: Observe) -> None:
    def status_of(prices: dict[str, float]) -> tuple[object, ...]:
        return mtd(observe(hist_vc_px_last={"v": prices}))[:4]

    # 45 days before 31 March is 15 February, before the base date: an end mark is never old but news.
    assert status_of({"2024-01-15": 2, "2024-03-20": 3}) == ("ok", 0.5, 2, 3)  # base mark 45 days old
    assert status_of({"2024-01-14": 2, "2024-03-20": 3}) == ("carried", 0.5, 2, 3)  # 46 days old
    assert status_of({"2019-01-14": 2, "2024-03-20": 3}) == ("carried", 0.5, 2, 3)
    assert status_of({"2019-01-14": 2}) == ("carried", 0, 2, 2)  # one mark at both dates
    assert status_of({"2024-02-28": 2}) == ("carried", 0, 2, 2)  # … whatever its age
    assert status_of({"2019-01-14": 0})[0] == "no_base"
    assert status_of({"2019-01-14": -2})[0] == "bad_price"
    assert status_of({"2024-01-15": 2, "2024-03-20": 0}) == ("ok", -1, 2, 0)  # written off
    status, value, base, end = status_of({"2024-01-15": 0, "2024-03-20": 3})
    assert (status, base, end) == ("no_base", 0, 3)
    assert np.isnan(value)
    status, value, *_ = status_of({"2024-01-15": 0, "2024-03-20": 0})
    assert status == "no_base"
    assert np.isnan(value)


def test_between_two_dates_of_one_mark_only_the_rate_moves(observe: Observe) -> None:
    obs = observe(
        hist_vc_px_last={"v": {"2023-10-31": 2}},
        hist_px_last={"usdbrl curncy": {"2024-02-29": 5.0, "2024-03-28": 5.5}},
    )
    currencies = names("usd", None)
    (found,) = point_returns(obs, REF, [MTD], currencies=currencies, dest="brl").value[:1]
    assert found.tolist() == [pytest.approx(0.1, rel=1e-14)]  # 2 × 5.5 / (2 × 5.0) − 1
    assert point_returns(obs, REF, [MTD], currencies=currencies, dest="brl").status[0].tolist() == ["carried"]
    assert point_returns(obs, REF, [MTD]).value[0].tolist() == [0]
    assert point_returns(obs, "2024-04-30", [REF], currencies=currencies, dest="brl").status[0].tolist() == ["no_fx"]


def test_an_end_that_is_older_than_the_base_is_stale(observe: Observe) -> None:
    # As of the base the traded price of February, nine days old; as of the end only the mark before it is left.
    obs = observe(hist_vc_px_last={"v": {"2024-01-31": 2}}, hist_px_last={"v": {"2024-02-20": 4}})
    assert mtd(obs) == ("stale_end", pytest.approx(nan, nan_ok=True), 4, 2, "2024-02-20", "2024-01-31")


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        # WTI on 2020-04-20, say: the row that counts is none, and no older price stands in for it.
        ({"2024-02-29": 20, "2024-03-27": 18, "2024-03-28": -37.63}, ("bad_price", 20, -37.63, "2024-03-28")),
        ({"2024-02-29": 0, "2024-03-28": 18}, ("bad_price", 0, 18, "2024-03-28")),
        ({"2024-02-29": 20, "2024-03-28": np.inf}, ("bad_price", 20, np.inf, "2024-03-28")),
        # beyond its limit it is passed over
        ({"2024-02-18": 0, "2024-02-17": 5, "2024-03-28": 6}, ("stale_base", 5, 6, "2024-03-28")),
        ({"2024-01-18": 0, "2024-01-17": -1}, ("stale_end", 0, 0, "2024-01-18")),
        # a price after it counts
        ({"2024-02-28": 0, "2024-02-29": 20, "2024-03-27": -1, "2024-03-28": 22}, ("ok", 20, 22, "2024-03-28")),
        # and it is told before what the base lacks
        ({"2024-03-28": 0}, ("bad_price", nan, 0, "2024-03-28")),
        # of an end that is too old, and a base that is bad, the base is told
        ({"2024-02-29": -1}, ("bad_price", -1, -1, "2024-02-29")),
    ],
)
def test_bad_rows(observe: Observe, prices: dict[str, float], expected: tuple[object, ...]) -> None:
    status, value, base, end, _, end_date = mtd(observe(hist_px_last={"x": prices}))
    assert (status, end_date) == (expected[0], expected[3])
    np.testing.assert_array_equal([base, end], expected[1:3])
    assert np.isnan(value) == (status != "ok")


def test_a_bad_row_hides_that_of_its_date_in_weaker_tables_and_gives_way_to_stronger_ones(observe: Observe) -> None:
    fine = {"x": {"2024-02-29": 10, "2024-03-28": 11}}
    assert mtd(observe(custom_prices={"x": {"2024-03-28": -1}}, hist_px_last=fine))[0] == "bad_price"
    assert mtd(observe(custom_prices={"x": {"2024-03-28": 12}}, hist_px_last={"x": {**fine["x"], "2024-03-28": 0}}))[
        1
    ] == pytest.approx(0.2, rel=1e-14)


def test_a_series_that_no_table_has_is_unknown(observe: Observe) -> None:
    obs = observe(keys=["x", "later", "none"], hist_px_last={"x": PRICES, "later": {"2025-01-01": 1}})
    prices = asof(obs, [MTD, REF])
    assert obs.present.tolist() == [True, True, False]
    currencies = names("usd", None, None)
    for dest, expected in (("local", ["ok", "no_end", "unknown"]), ("usd", ["ok", "missing_currency", "unknown"])):
        found = returns(prices, [1], [0], currencies=currencies, dest=dest, absent=~obs.present)
        assert found.status.ravel().tolist() == expected


def test_a_return_that_rounding_makes_is_exactly_none(observe: Observe) -> None:
    rate = {"2024-02-29": 4.97, "2024-03-28": 5.03}
    for scale in range(1, 200):
        spot = {day: value * scale / 7 for day, value in rate.items()}
        inverse = {day: 1 / value for day, value in spot.items()}
        obs = observe(hist_px_last={"brlusd curncy": inverse, "usdbrl curncy": spot})
        found = point_returns(obs, REF, [MTD], currencies=names("usd", "brl"), dest="brl")
        assert found.value[0, 0] == 0


def test_an_old_end_mark_is_carried(observe: Observe) -> None:
    obs = observe(hist_vc_px_last={"v": {"2023-03-31": 2, "2023-06-30": 3}})
    status, value, *_ = only(point_returns(obs, REF, [base_date(REF, "12m")]))
    assert (status, value) == ("carried", 0.5)
    # A traded end price beside an old base mark: carried as well.
    obs = observe(hist_vc_px_last={"v": {"2023-01-31": 2}}, hist_px_last={"v": {"2024-03-28": 4}})
    assert only(point_returns(obs, REF, [base_date(REF, "12m")]))[:2] == ("carried", 1)


def test_a_fund_price_within_its_limit_is_not_carried(observe: Observe) -> None:
    obs = observe(custom_prices={"f": {"2024-01-20": 1, "2024-03-01": 2}})
    assert mtd(obs)[:2] == ("ok", 1)


PRICES = {"2024-02-29": 100, "2024-03-28": 110}
RATES = {
    "bmfxclco curncy": {"2024-02-29": 4.0, "2024-03-28": 5.0},
    "usdeur curncy": {"2024-02-29": 0.8, "2024-03-28": 0.9},
}


def convert(observe: Observe, currency: str | None, dest: str, **rates: dict[str, float]) -> tuple[object, ...]:
    """The month's return of one series quoted in ``currency``, with `RATES` unless others are given."""
    found = point_returns(
        observe(hist_px_last={"x": PRICES}),
        REF,
        [MTD],
        currencies=names(currency),
        dest=dest,
        rate_obs=observe(hist_px_last={**RATES, **rates}),
    )
    return only(found)[:4]


def test_conversion(observe: Observe) -> None:
    # In brl a dollar price goes from 400 to 550; a euro price, through the dollar, from 100 × 4 / 0.8 = 500 to
    # 110 × 5 / 0.9 = 611.11…, by 11 / 9
    assert convert(observe, "usd", "brl") == ("ok", pytest.approx(0.375), 400, 550)
    assert convert(observe, "eur", "brl") == (
        "ok",
        pytest.approx(11 / 9 - 1),
        500,
        pytest.approx(5500 / 9),
    )
    assert convert(observe, "brl", "usd") == ("ok", pytest.approx(-0.12), 25, 22)
    assert convert(observe, "brl", "eur") == ("ok", pytest.approx(22 * 0.9 / (25 * 0.8) - 1), 20, pytest.approx(19.8))
    for currency in ("usd", "brl", "eur", "jpy"):  # to its own currency the identity, with a rate or without
        assert convert(observe, currency, currency) == ("ok", pytest.approx(0.1, rel=1e-14), 100, 110)
        assert convert(observe, currency, "local") == convert(observe, currency, currency)


def test_the_rate_is_that_of_the_reference_date_not_of_the_price(observe: Observe) -> None:
    found = convert(
        observe, "usd", "brl", **{"bmfxclco curncy": {"2024-02-29": 4.0, "2024-03-28": 5.0, "2024-03-30": 6}}
    )
    assert found[2:] == (400, 660)


def test_no_rate_is_no_fx(observe: Observe) -> None:
    status, value, base, end = convert(observe, "usd", "brl", **{"bmfxclco curncy": {"2024-03-28": 5.0}})
    assert (status, end) == ("no_fx", 550)  # what was found is filled in
    assert np.isnan([value, base]).all()
    status, value, base, end = convert(observe, "usd", "brl", **{"bmfxclco curncy": {"2024-02-29": 4.0}})
    assert (status, base) == ("no_fx", 400)  # 31 days old at the end
    assert np.isnan([value, end]).all()
    assert convert(observe, "jpy", "brl")[0] == "no_fx"
    assert convert(observe, "usd", "jpy")[0] == "no_fx"


def test_no_currency(observe: Observe) -> None:
    for dest in ("usd", "brl"):
        status, value, base, end = convert(observe, None, dest)
        assert status == "missing_currency"
        assert np.isnan([value, base, end]).all()
    assert convert(observe, None, "local")[:2] == ("ok", pytest.approx(0.1))
    # The dates are filled in; and a missing currency is told before anything else.
    obs = observe(hist_px_last={"x": {"2024-02-29": 1}})
    assert mtd(obs, None, "usd")[4:] == ("2024-02-29", "2024-02-29")
    assert mtd(obs, None, "usd")[0] == "missing_currency"
    assert mtd(observe(keys=["x"]), None, "usd")[0] == "missing_currency"
    assert mtd(observe(keys=["x"]), None)[0] == "no_end"


def test_the_first_status_that_applies(observe: Observe) -> None:
    """No rates at all: each defect of the prices is told before the missing rate."""
    for prices, status in [
        ({}, "no_end"),
        ({"2024-02-29": 1}, "stale_end"),
        ({"2024-03-28": 1}, "no_base"),
        ({"2024-01-02": 1, "2024-03-28": 1}, "stale_base"),
        ({"2024-02-29": 1, "2024-03-28": 1}, "no_fx"),
    ]:
        assert mtd(observe(keys=["x"], hist_px_last={"x": prices}), "usd", "brl")[0] == status
    old_mark = observe(hist_vc_px_last={"x": {"2020-01-01": 1, "2024-03-28": 1}})
    assert [mtd(old_mark, "usd", dest)[0] for dest in ("brl", "usd")] == ["no_fx", "carried"]


def test_a_stale_price_is_filled_in_converted(observe: Observe) -> None:
    found = point_returns(
        observe(hist_px_last={"x": {"2024-02-29": 100, "2024-03-05": 110}}),
        REF,
        [MTD],
        currencies=names("usd"),
        dest="brl",
        rate_obs=observe(hist_px_last=RATES),
    )
    assert only(found)[2:] == (400, 550, "2024-02-29", "2024-03-05")


def test_leap_years(observe: Observe) -> None:
    days = {"2022-02-28": 1, "2023-02-28": 2, "2024-02-28": 3, "2024-02-29": 4, "2025-02-28": 5}
    obs = observe(hist_px_last={"x": days})
    found = point_returns(obs, "2025-02-28", [base_date("2025-02-28", p) for p in ("12m", "24m", "36m")])
    assert found.base_date.astype(str).tolist() == [["2024-02-29", "2023-02-28", "2022-02-28"]]
    np.testing.assert_allclose(found.value, [[5 / 4 - 1, 5 / 2 - 1, 4]], rtol=1e-14)
    found = point_returns(obs, "2024-02-29", [base_date("2024-02-29", "12m")])
    assert found.base_date.astype(str).tolist() == [["2023-02-28"]]


def test_many_series_and_periods_at_once(observe: Observe) -> None:
    obs = observe(
        keys=["share", "listed in march", "dead"],
        hist_px_last={
            "share": {"2023-12-29": 80, "2024-02-29": 100, "2024-03-28": 110},
            "listed in march": {"2024-03-04": 10, "2024-03-28": 11},
            "dead": {"2023-12-29": 5, "2024-02-29": 6},
        },
    )
    found = point_returns(obs, REF, [base_date(REF, p) for p in ("mtd", "ytd", "12m")])
    frame = returns_frame({"local": found}, obs.keys, ["mtd", "ytd", "12m"])
    assert frame.columns.tolist() == [
        "Currency",
        "Price_Key",
        "Period",
        "Return",
        "Status",
        "Base_Date",
        "End_Date",
        "Base_Price",
        "End_Price",
    ]
    assert frame["Price_Key"].tolist() == np.repeat(obs.keys, 3).tolist()
    assert frame["Period"].tolist() == ["mtd", "ytd", "12m"] * 3
    assert frame["Status"].tolist() == ["ok", "ok", "no_base", *["no_base"] * 3, *["stale_end"] * 3]
    np.testing.assert_allclose(frame["Return"], [0.1, 0.375, *[nan] * 7], rtol=1e-14)
    assert frame["Base_Date"].dtype == frame["End_Date"].dtype == "datetime64[us]"
    # One series at a time says the same: assets that share a series cannot differ.
    for row, key in enumerate(obs.keys):
        dates, prices = obs.series(key)
        one = merge_observations([key], [(PRICE_TABLES[5], np.zeros(len(dates), int), dates, prices)])
        alone = point_returns(one, REF, [base_date(REF, p) for p in ("mtd", "ytd", "12m")])
        np.testing.assert_array_equal(alone.value[0], found.value[row])
        assert alone.status[0].tolist() == found.status[row].tolist()


def test_assets_that_share_a_series_take_its_row(observe: Observe) -> None:
    obs = observe(hist_px_last={"x": PRICES, "y": {"2024-02-29": 100, "2024-03-28": 120}})
    found = point_returns(obs, REF, [MTD]).take([1, 0, 1])
    np.testing.assert_allclose(found.value, [[0.2], [0.1], [0.2]], rtol=1e-14)
    both = returns_frame({"local": found, "usd": found}, ["a", "b", None], ["mtd"])
    assert both["End_Price"].tolist() == [120, 110, 120] * 2
    assert both["Currency"].tolist() == ["local"] * 3 + ["usd"] * 3
    assert both["Price_Key"].fillna("-").tolist() == ["a", "b", "-"] * 2
    assert found.take([]).value.shape == (0, 1)
    for wrong in ([0, -1], [3]):  # -1 is the code of an unknown series, never the last one's
        with pytest.raises(UsageError, match="of 3 series"):
            found.take(wrong)


def test_wrong_calls(observe: Observe) -> None:
    obs = observe(hist_px_last={"x": PRICES})
    prices = asof(obs, [MTD, REF])
    with pytest.raises(UsageError, match="No currencies"):
        returns(prices, [1], [0], dest="usd")
    with pytest.raises(UsageError, match="2 currencies for 1"):
        returns(prices, [1], [0], dest="usd", currencies=names("usd", "usd"))
    with pytest.raises(UsageError, match="1 reference dates and 2 base dates"):
        returns(prices, [1], [0, 0])
    with pytest.raises(UsageError, match="not a currency"):
        point_returns(obs, REF, [MTD], currencies=names("usd"), dest="all")
    with pytest.raises(UsageError, match="2 keys"):
        returns_frame({"local": returns(prices, [1], [0])}, ["x", "y"], ["mtd"])


def test_an_empty_rate_source_is_not_the_prices_own(observe: Observe) -> None:
    obs = observe(keys=["x", *RATES], hist_px_last={"x": PRICES, **RATES})
    currencies = names("usd", None, None)
    own = point_returns(obs, REF, [MTD], currencies=currencies, dest="brl")
    none = point_returns(obs, REF, [MTD], currencies=currencies, dest="brl", rate_obs=observe(keys=["y"]))
    assert [own.status[0, 0], none.status[0, 0]] == ["ok", "no_fx"]


price, rate = st.floats(0.01, 1e6), st.floats(0.5, 20)


@given(st.tuples(price, price), st.tuples(rate, rate))
def test_converted_return_compounds_price_and_rate(prices: tuple[float, float], rates: tuple[float, float]) -> None:
    """(1 + R_local)(1 + R_fx) = 1 + R_dest."""
    source = PRICE_TABLES[5]
    days = np.array(["2024-02-29", "2024-03-28"], "datetime64[D]")
    obs = merge_observations(["x", "bmfxclco curncy"], [(source, [0, 0], days, prices), (source, [1, 1], days, rates)])
    local, dest = (
        point_returns(obs, REF, [MTD], currencies=names("usd", "brl"), dest=d).value for d in ("local", "brl")
    )
    assert (1 + local[0, 0]) * (1 + local[1, 0]) == pytest.approx(1 + dest[0, 0], rel=1e-9, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["local", "usd", "brl", "eur"]))
def test_a_return_is_stated_exactly_when_the_status_says_so(seed: int, dest: str) -> None:
    random = np.random.default_rng(seed)
    keys = ["a", "b", "c", "d", "bmfxclco curncy", "usdeur curncy"]
    parts = [
        (
            source,
            random.choice(codes, 25),
            np.datetime64("2022-01-01") + random.integers(0, 830, 25),
            random.choice([0.0, *extremes, 2.0, 3.0], 25),
        )
        for source in (PRICE_TABLES[1], PRICE_TABLES[3], PRICE_TABLES[5])
        for codes, extremes in (([0, 1, 2, 3], [1e-300, 1e300]), ([4, 5], []))
    ]
    obs = merge_observations(keys, parts)
    currencies = names("usd", "brl", "eur", None, "brl", "eur")
    found = point_returns(obs, REF, [base_date(REF, p) for p in PERIODS], currencies=currencies, dest=dest)
    stated = np.isin(found.status, ["ok", "carried"])
    assert set(found.status.ravel()) <= set(STATUSES)
    np.testing.assert_array_equal(np.isfinite(found.value), stated)
    np.testing.assert_array_equal(np.isnan(found.value), ~stated)
    bases = np.array([base_date(REF, p) for p in PERIODS], "datetime64[D]")
    one_mark = (found.end_date == found.base_date) & (found.status == "carried")
    assert (found.end_date > bases)[stated & ~one_mark].all()
    if dest == "local":
        assert (found.value[one_mark] == 0).all()
    assert (found.base_date <= bases)[stated].all()
    assert (found.value[stated] >= -1).all()


# --- against another library, on real prices ---------------------------------------------------


@pytest.fixture(scope="module")
def shares() -> pd.DataFrame:
    path = DATA / "sp500_20_stocks_daily.csv.gz"
    if not path.exists():
        pytest.skip("the sample prices are not here")
    return pd.read_csv(path, index_col="Date", parse_dates=["Date"]).loc["2018":]


def observations(wide: pd.DataFrame) -> Observations:
    rows, columns = wide.shape
    codes = np.tile(np.arange(columns), rows)
    days = np.repeat(wide.index.to_numpy().astype("datetime64[D]"), columns)
    return merge_observations(list(wide.columns), [(PRICE_TABLES[5], codes, days, wide.to_numpy().ravel())])


@pytest.mark.parametrize("period", PERIODS)
def test_total_returns_are_ffns(shares: pd.DataFrame, period: str) -> None:
    ref = date(2022, 10, 31)
    base = base_date(ref, period)
    found = point_returns(observations(shares), ref, [base])
    daily = shares.asfreq("D").ffill().loc[str(base) : str(ref)]
    np.testing.assert_allclose(found.value[:, 0], ffn.calc_total_return(daily), rtol=1e-12)
    assert set(found.status.ravel()) == {"ok"}


def test_a_period_is_the_chain_of_its_days(shares: pd.DataFrame) -> None:
    obs = observations(shares)
    days = pd.bdate_range("2022-09-30", "2022-10-31")
    chain = [point_returns(obs, days[i + 1], [days[i]]).value[:, 0] for i in range(len(days) - 1)]
    whole = point_returns(obs, days[-1], [days[0]]).value[:, 0]
    np.testing.assert_allclose(np.prod(1 + np.array(chain), axis=0) - 1, whole, rtol=1e-12)
    daily = ffn.to_returns(shares.loc["2022-09-30":"2022-10-31"]).iloc[1:]
    np.testing.assert_allclose(np.array(chain), daily, rtol=1e-9)


def test_euro_in_reais_on_the_central_banks_rates(observe: Observe) -> None:
    path = DATA / "eurofxref-hist.zip"
    if not path.exists():
        pytest.skip("the sample rates are not here")
    ecb = pd.read_csv(path, index_col="Date", parse_dates=["Date"], na_values="N/A").sort_index().loc["2022":"2024-03"]
    per_usd = pd.DataFrame({"usdbrl curncy": ecb["BRL"] / ecb["USD"], "usdeur curncy": 1 / ecb["USD"]})
    stock = observe(hist_px_last={"eur stock": {"2023-03-31": 50, "2024-03-28": 60}})
    found = point_returns(
        stock, REF, [date(2023, 3, 31)], currencies=names("eur"), dest="brl", rate_obs=observations(per_usd)
    )
    # The bank quotes reais per euro directly.
    euro = ecb["BRL"].asof(pd.Timestamp(REF)) / ecb["BRL"].asof(pd.Timestamp(2023, 3, 31))
    assert found.value.item() == pytest.approx(60 / 50 * euro - 1, rel=1e-12)
    assert found.end_price.item() == pytest.approx(60 * ecb["BRL"].asof(pd.Timestamp(REF)), rel=1e-12)


def test_an_amortizing_fund(observe: Observe) -> None:
    # Half is paid back on 15 March; the remaining 50 grow to 55: +10 %, not −45 %.
    obs = observe(all_funds_quotas={"f": {"2024-02-29": 100, "2024-03-15": 50, "2024-03-28": 55}})
    events = pd.DataFrame({"Fund": ["f"], "Event_Date": ["2024-03-15"], "Ratio": [0.5]})
    assert mtd(adjust_quotas(obs, events, REF))[:2] == ("ok", pytest.approx(0.1))
    assert mtd(obs)[1] == pytest.approx(-0.45)
