from __future__ import annotations

import re
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.catalog import CDI, CURRENCY_FACTS
from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.market.currency import (
    as_currency,
    factors,
)
from luxor_pipelines.market.observations import Observations
from market.facts import brl_per_usd, rate_series, rates_asof, series_currency

Observe = Callable[..., Observations]
nan = np.nan


def names(*currencies: str | None) -> np.ndarray:
    return np.array(currencies, dtype=object)


@pytest.mark.parametrize(("text", "expected"), [("usd", "usd"), (" BRL ", "brl"), ("Local", "local"), ("chf", "chf")])
def test_as_currency(text: str, expected: str) -> None:
    assert as_currency(text) == expected


@pytest.mark.parametrize("text", ["all", " ALL", "us", "dollar", "", "u$d", "réa", None, 1])
def test_as_currency_refuses(text: object) -> None:
    with pytest.raises(UsageError, match="is not a currency"):
        as_currency(text)


def test_series_currency() -> None:
    assets = pd.DataFrame(
        [
            ("aapl us equity", "us", "ações_us"),
            ("aapl us equity", "bz", "ações_bdr"),  # the BDR's series is the share's
            ("msft us equity", "bz", "ações_bdr"),  # its underlying is not registered
            ("petr4 bz equity", "bz", "ações"),
            ("petr4 bz equity", " BR ", "ações"),  # another word for the same currency
            ("torn", "us", "bond"),
            ("torn", "bz", "bond"),
            ("half known", "us", "bond"),
            ("half known", "mars", "bond"),
            ("sony jp equity", "jp", "ações"),
            ("nesn sw equity", "ch", "ações"),  # Switzerland's to ISO, China's to Bloomberg
            ("shop cn equity", "cn", "ações"),  # Bloomberg's code of Canada
            ("sap gr equity", "DE", "ações"),
            ("eurusd curncy", "eur", "fx"),  # USD per euro, wherever it is registered
            ("nowhere", None, "bond"),
            ("once said", None, "bond"),
            ("once said", "cn", None),
            ("spxt index", "eur", "benchmark"),  # what a series is known to be comes before a location
            ("inx index", None, "benchmark"),
            ("fedl01 index", "us", "benchmark"),
            (None, "us", "bond"),
        ],
        columns=["Price_Key", "Location", "Type"],
    )
    currencies, unclear = series_currency(assets)
    derived = {key: currency for key, currency in currencies.items() if key not in CURRENCY_FACTS.series}
    assert derived == {
        "aapl us equity": "usd",
        "petr4 bz equity": "brl",
        "once said": "cad",
        "sony jp equity": "jpy",
        "shop cn equity": "cad",
        "sap gr equity": "eur",
    }
    assert unclear == {"torn": ("bz", "us"), "half known": ("mars", "us"), "nesn sw equity": ("ch",)}
    assert currencies["spxt index"] == currencies["inx index"] == currencies["eurusd curncy"] == "usd"
    assert currencies["usdbrl curncy"] == "brl"
    assert "fedl01 index" not in currencies
    assert currencies["bzacselc index"] == "brl"


def test_a_filled_currency_decides() -> None:
    assets = pd.DataFrame(
        [
            ("nesn sw equity", "ch", "ações", " CHF "),
            ("vod ln equity", "uk", "ações", "GBX"),  # pence
            ("npn sj equity", "za", "ações", "zac"),
            ("x", "us", "ações", "reais"),
            ("two", "us", "ações", "eur"),
            ("two", "us", "ações", "usd"),
            ("one", "us", "ações", "eur"),
            ("one", "bz", "ações", None),  # a blank says nothing
            ("one", "bz", "ações_bdr", "brl"),  # nor does a BDR
            ("blank", "uk", "ações", " "),
            ("spxt index", "us", "benchmark", "brl"),
            ("caixa us", "us", "caixa", "dollars"),
        ],
        columns=["Price_Key", "Location", "Type", "Currency"],
    )
    currencies, unclear = series_currency(assets)
    assert {key: currencies.get(key) for key in ("nesn sw equity", "one", "blank", "spxt index")} == {
        "nesn sw equity": "chf",
        "one": "eur",
        "blank": "gbp",
        "spxt index": "brl",
    }
    assert unclear == {
        "vod ln equity": ("gbx",),
        "npn sj equity": ("zac",),
        "x": ("reais",),
        "two": ("eur", "usd"),
        "caixa us": ("dollars",),
    }
    assert not unclear.keys() & currencies.keys()


def test_the_whole_table_of_special_series() -> None:
    special = {key: iso for key, iso in CURRENCY_FACTS.series.items() if not re.fullmatch("usd...|...usd", key[:6])}
    assert special == {
        **dict.fromkeys(["spxt index", "inx index", "sofrindx index", "jpmutcc lx equity", "sofr + 75bps"], "usd"),
        **dict.fromkeys(["benchmark luxor spx cash", "benchmark luxor sp500 85/15 cash", "caixa us"], "usd"),
        **dict.fromkeys(["caixa", "bzacselc index", "bmfxclco curncy", CDI], "brl"),
        "cad curncy": "cad",
    }
    others = [
        *("aud", "bgn", "brl", "cad", "chf", "cny", "czk", "dkk", "eur", "gbp", "hkd", "huf", "idr", "ils", "inr"),
        *("isk", "jpy", "krw", "mxn", "myr", "nok", "nzd", "php", "pln", "ron", "rub", "sek", "sgd", "thb", "try"),
        "zar",
    ]
    assert {key: iso for key, iso in CURRENCY_FACTS.series.items() if key not in special} == {
        **{f"usd{iso} curncy": iso for iso in others},
        **{f"{iso}usd curncy": "usd" for iso in others},
        "usdbrl cmpl curncy": "brl",
    }


def test_known_series_stand_where_no_asset_uses_them() -> None:
    assets = pd.DataFrame({"Price_Key": ["spxt index"], "Location": ["bz"], "Type": ["ações_bdr"]})
    currencies, conflicts = series_currency(assets)
    assert currencies == CURRENCY_FACTS.series
    assert conflicts == {}
    for key in ("spxt index", "inx index", "sofrindx index", "jpmutcc lx equity"):
        assert CURRENCY_FACTS.series[key] == "usd"
    assert "fedl01 index" not in CURRENCY_FACTS.series
    with pytest.raises(SchemaError, match="assets: missing 'Type'"):
        series_currency(assets.drop(columns="Type"))


def test_rate_series() -> None:
    assert rate_series("usd") == ()
    assert rate_series(" BRL") == ("bmfxclco curncy", "usdbrl curncy")
    assert rate_series("brl", usdbrl_ticker="USDBRL Curncy ") == ("usdbrl curncy",)
    assert rate_series("cad") == ("cad curncy",)
    assert rate_series("eur") == ("usdeur curncy",)
    assert rate_series("chf") == ("usdchf curncy",)
    for wrong in ("local", "all"):
        with pytest.raises(UsageError):
            rate_series(wrong)


CLEAN = (["2024-01-10", "2024-01-20", "2024-02-20"], [5.0, 5.2, 5.5])
SPOT = (
    ["2024-01-02", "2024-01-09", "2024-01-20", "2024-02-19", "2024-02-21", "2024-02-23"],
    [4.4, 4.8, 9, 6, 6.6, 5.4],
)


@pytest.mark.parametrize(
    ("day", "rate", "why"),
    [
        ("2024-01-01", nan, "before both"),
        ("2024-01-02", 5.0 * 4.4 / 4.8, "chained back: spot as of 10 January is that of the 9th"),
        ("2024-01-08", 5.0 * 4.4 / 4.8, "spot carried"),
        ("2024-01-09", 5.0, "5.0 × 4.8 / 4.8"),
        ("2024-01-10", 5.0, "clean"),
        ("2024-01-20", 5.2, "clean, whatever spot does"),
        ("2024-01-30", 5.2, "clean, 10 days old"),
        ("2024-01-31", nan, "clean, 11 days old: inside the clean series spot does not step in"),
        ("2024-02-20", 5.5, "clean"),
        ("2024-02-21", 5.5 * 6.6 / 6, "chained on: spot as of 20 February is that of the 19th"),
        ("2024-02-22", 5.5 * 6.6 / 6, "spot carried"),
        ("2024-03-04", 5.5 * 5.4 / 6, "spot 10 days old"),
        ("2024-03-05", nan, "spot 11 days old"),
    ],
)
def test_brl_per_usd(day: str, rate: float, why: str) -> None:
    rates, ok = brl_per_usd(*CLEAN, *SPOT, [day])
    np.testing.assert_allclose(rates, [rate], rtol=1e-15, err_msg=why)
    assert ok.tolist() == [not np.isnan(rate)]


def test_brl_per_usd_without_newer_spot_is_the_last_clean_value() -> None:
    spot = (["2024-02-19"], [6.0])
    rates, _ = brl_per_usd(*CLEAN, *spot, ["2024-02-21", "2024-03-01", "2024-03-02"])
    np.testing.assert_array_equal(rates, [5.5, 5.5, nan])


def test_brl_per_usd_cannot_chain_without_spot_at_the_joint() -> None:
    spot = (["2024-02-23", "2024-02-26"], [5.4, 5.6])  # nothing as of 20 February, or as of 10 January
    rates, _ = brl_per_usd(*CLEAN, *spot, ["2024-01-09", "2024-02-26", "2024-03-04"])
    np.testing.assert_array_equal(rates, [nan, 5.5, nan])


def test_brl_per_usd_from_one_series_only() -> None:
    days = ["2024-01-09", "2024-01-21", "2024-01-31"]
    np.testing.assert_array_equal(brl_per_usd([], [], *SPOT, days)[0], [4.8, 9, nan])
    np.testing.assert_array_equal(brl_per_usd(*CLEAN, [], [], days)[0], [nan, 5.2, nan])
    rates, ok = brl_per_usd([], [], [], [], days)
    assert np.isnan(rates).all()
    assert not ok.any()


@given(st.integers(0, 2**32 - 1))
def test_brl_per_usd_moves_with_spot_outside_the_clean_series(seed: int) -> None:
    """Daily data on both sides: every change before and after is spot's, every one inside is clean's."""
    random = np.random.default_rng(seed)
    days = np.datetime64("2024-01-01") + np.arange(60)
    spot, clean = random.uniform(4, 6, 60), random.uniform(4, 6, 60)
    rates, _ = brl_per_usd(days[20:40], clean[20:40], days, spot, days)
    moves = rates[1:] / rates[:-1]
    expected = np.where((np.arange(59) >= 20) & (np.arange(59) < 39), clean[1:] / clean[:-1], spot[1:] / spot[:-1])
    np.testing.assert_allclose(moves, expected, rtol=1e-12)
    np.testing.assert_array_equal(rates[20:40], clean[20:40])


def test_rates_asof(observe: Observe) -> None:
    obs = observe(
        hist_px_last={
            "bmfxclco curncy": {"2024-01-30": 5.0},
            "usdbrl curncy": {"2024-01-30": 4.0, "2024-01-31": 4.4},
            "cad curncy": {"2024-01-31": 1.35},
        },
        hist_ecb_px_last={"usdeur curncy": {"2024-01-31": 0.92}},
    )
    days = ["2024-01-30", "2024-01-31", "2024-02-11"]
    rates = rates_asof(obs, ["brl", None, "usd", "local", "eur", "cad", "jpy", "brl"], days)
    assert sorted(rates) == ["brl", "cad", "eur", "jpy", "usd"]
    np.testing.assert_allclose(rates["brl"], [5, 5.5, nan])
    np.testing.assert_array_equal(rates["eur"], [nan, 0.92, nan])
    np.testing.assert_array_equal(rates["cad"], [nan, 1.35, nan])
    np.testing.assert_array_equal(rates["usd"], [1, 1, 1])
    assert np.isnan(rates["jpy"]).all()
    spot = rates_asof(obs, ["brl"], days, usdbrl_ticker="usdbrl curncy", limit=11)
    np.testing.assert_array_equal(spot["brl"], [4, 4.4, 4.4])


def test_factors() -> None:
    rates = {"brl": np.array([5.0, nan]), "eur": np.array([0.8, 0.9])}
    local = names("usd", "brl", "eur", "jpy", None)
    # brl per eur = brl per usd / eur per usd = 5 / 0.8
    np.testing.assert_allclose(factors(local, "brl", rates, 2), [[5, nan], [1, 1], [6.25, nan], [nan, nan], [nan, nan]])
    np.testing.assert_allclose(
        factors(local, "usd", rates, 2), [[1, 1], [0.2, nan], [1.25, 1 / 0.9], [nan, nan], [nan, nan]]
    )
    np.testing.assert_array_equal(factors(local, "local", {}, 2), np.ones((5, 2)))
    # The identity needs no rate, another pair does.
    np.testing.assert_array_equal(factors(names("chf", "usd"), "chf", {}, 1), [[1], [nan]])
    assert factors(names(), "usd", {}, 3).shape == (0, 3)
    assert factors(names(None, None), "usd", {}, 1).shape == (2, 1)


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3))
def test_factors_compose(values: list[float]) -> None:
    rates = {iso: np.array([value]) for iso, value in zip(("brl", "eur", "cad"), values, strict=True)}

    def factor(a: str, b: str) -> float:
        return float(factors(names(a), b, rates, 1)[0, 0])

    for a, b, c in permutations(("usd", *rates), 3):
        assert factor(a, b) * factor(b, c) == pytest.approx(factor(a, c), rel=1e-12)
        assert factor(a, b) * factor(b, a) == pytest.approx(1, rel=1e-12)
