"""Prices sampled for returns, and prices as a table with a column a series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines.errors import UsageError
from luxor_pipelines.market.daily import daily_prices, observed_prices, sampled_prices
from luxor_pipelines.market.observations import Observations

Observe = Callable[..., Observations]
nan = np.nan


def test_samples_begin_with_the_price_as_of_the_start(observe: Observe) -> None:
    obs = observe(
        hist_px_last={
            "b": {"2024-01-02": 1.0, "2024-01-05": 2.0, "2024-01-09": 3.0, "2024-01-12": 4.0},
            "a": {"2024-01-08": 5.0, "2024-01-10": 6.0},
            "late": {"2024-01-09": 7.0},
            "stale": {"2023-12-01": 8.0, "2024-01-10": 9.0},
            "gone": {"2023-12-01": 8.0},
        }
    )
    frame = sampled_prices(obs, "2024-01-08", "2024-01-11").to_frame()
    rows = {
        name: list(zip(part["Date"].dt.day, part["Last_Price"], strict=True)) for name, part in frame.groupby("Asset")
    }
    assert rows == {"a": [(8, 5.0), (10, 6.0)], "b": [(8, 2.0), (9, 3.0)], "late": [(9, 7.0)], "stale": [(10, 9.0)]}
    assert frame["Asset"].tolist() == sorted(frame["Asset"])
    first = frame[frame["Asset"] == "b"].iloc[0]
    assert str(first["Price_Date"].date()) == "2024-01-05"
    assert first["Status"] == "ok"


def test_a_mark_is_carried_to_the_start(observe: Observe) -> None:
    obs = observe(hist_vc_px_last={"vc": {"2023-01-31": 2.0, "2024-06-30": 0.0}})
    frame = sampled_prices(obs, "2024-01-08", "2024-12-31").to_frame()
    assert frame["Last_Price"].tolist() == [2.0, 0.0]
    assert frame["Status"].tolist() == ["carried", "ok"]


def test_one_day_has_the_price_as_of_it(observe: Observe) -> None:
    obs = observe(hist_px_last={"a": {"2024-01-05": 1.0, "2024-01-09": 2.0}})
    assert sampled_prices(obs, "2024-01-08", "2024-01-08").to_frame()["Last_Price"].tolist() == [1.0]
    with pytest.raises(UsageError, match="before the start"):
        sampled_prices(obs, "2024-01-08", "2024-01-07")


def test_a_table_has_a_row_for_each_date_that_has_a_price(observe: Observe) -> None:
    obs = observe(
        keys=["b", "a", "none"], hist_px_last={"b": {"2024-01-05": 1.0, "2024-01-09": 2.0}, "a": {"2024-01-09": 3.0}}
    )
    wide = observed_prices(obs, "2024-01-01", "2024-01-31").to_wide()
    expected = pd.DataFrame(
        {"a": [nan, 3.0], "b": [1.0, 2.0], "none": [nan, nan]},
        index=pd.DatetimeIndex(["2024-01-05", "2024-01-09"], name="Date").as_unit("us"),
    )
    pd.testing.assert_frame_equal(wide, expected)
    assert observed_prices(obs, "2025-01-01", "2025-01-31").to_wide().shape == (0, 3)
    assert len(daily_prices(obs, "2024-01-05", "2024-01-09").to_wide()) == 5
