from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines.analytics.portfolio import simulate
from luxor_pipelines.errors import DataError, UsageError

DAYS = pd.date_range("2024-01-01", periods=81)
RISING = pd.DataFrame({"a": 1.01 ** np.arange(81), "b": np.ones(81)}, DAYS)


def test_d41_drifted_weights_are_renormalised() -> None:
    found = simulate(RISING, {"a": 0.5, "b": 0.5})
    assert found.iloc[0] == 1
    assert found.iloc[-1] == pytest.approx(0.5 * 1.01**80 + 0.5)
    assert round(found.iloc[-1], 3) == 1.608

    weights, value = np.array([0.5, 0.5]), 1.0
    for returns in RISING.pct_change().iloc[1:].to_numpy():
        value *= 1 + weights @ returns
        weights = weights * (1 + returns) / (1 + weights @ returns)
    assert found.iloc[-1] == pytest.approx(value)


def test_d41_the_fee_accrues_each_day() -> None:
    net, gross = simulate(RISING, {"a": 0.5, "b": 0.5}, adm_fee=0.02), simulate(RISING, {"a": 0.5, "b": 0.5})
    daily = 1.02 ** (1 / 365) - 1
    np.testing.assert_allclose(net / gross, (1 - daily) ** np.arange(81))


def test_the_performance_fee_takes_its_share_of_the_gain_only() -> None:
    falling = pd.DataFrame({"a": [100, 90, 150.0]}, DAYS[:3])
    np.testing.assert_allclose(simulate(falling, {"a": 1}, performance_fee=0.2), [1, 0.9, 1.4])


def test_missing_prices() -> None:
    prices = RISING.copy()
    prices.iloc[5, 1] = np.nan
    assert simulate(prices, {"a": 0.5, "b": 0.5}).isna().sum() == 1
    prices.iloc[0, 0] = np.nan
    with pytest.raises(DataError, match="no price of 'a'"):
        simulate(prices, {"a": 0.5, "b": 0.5})
    for fees in ((-0.01, 0), (1, 0), (0, 1.5)):
        with pytest.raises(UsageError):
            simulate(RISING, {"a": 1}, *fees)
