from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.analytics.drawdowns import drawdowns, max_drawdown, previous_peaks, worst_drawdowns
from luxor_pipelines.errors import UsageError

from .conftest import price_frames

nan = np.nan
PRICES = pd.Series(
    [100, 120, 90, 110, 120, 60, nan, 90, 130, 117],
    index=pd.to_datetime(
        ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10", "2024-01-11",
         "2024-01-12", "2024-01-15"]
    ),
    name="a",
)  # fmt: skip


def test_drawdowns_by_hand() -> None:
    np.testing.assert_allclose(drawdowns(PRICES)["a"], [0, 0, -0.25, -1 / 12, 0, -0.5, nan, -0.25, 0, -0.1])
    np.testing.assert_array_equal(previous_peaks(PRICES)["a"], [100, 120, 120, 120, 120, 120, 120, 120, 130, 130])
    assert max_drawdown(PRICES)["a"] == -0.5


def test_the_worst_by_hand() -> None:
    found = worst_drawdowns(PRICES, 5)
    expected = pd.DataFrame(
        {
            "Asset": ["a"] * 3,
            "Rank": [1, 2, 3],
            "Drawdown": [-0.5, -0.25, -0.1],
            "Peak": ["2024-01-08", "2024-01-03", "2024-01-12"],
            "Trough": ["2024-01-09", "2024-01-04", "2024-01-15"],
            "Recovery": ["2024-01-12", "2024-01-08", None],
            "Days": [4, 5, 3],
            "Days_Down": [1, 1, 3],
        }
    )
    for column in ("Peak", "Trough", "Recovery"):
        expected[column] = pd.to_datetime(expected[column]).dt.as_unit("us")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert worst_drawdowns(PRICES, 1)["Drawdown"].tolist() == [-0.5]


def test_a_rising_series_has_none() -> None:
    rising = pd.Series([1.0, 1.0, 2.0], index=pd.bdate_range("2024-01-01", periods=3), name="a")
    assert worst_drawdowns(rising).empty
    assert max_drawdown(rising)["a"] == 0
    assert worst_drawdowns(pd.DataFrame(index=pd.DatetimeIndex([]))).empty


def test_a_total_loss_is_minus_one_and_a_series_of_nothing_null() -> None:
    prices = pd.DataFrame(
        {"a": [5, 0.0, nan], "b": [nan] * 3, "c": [0.0, 0.0, 0.0]}, pd.bdate_range("2024-01-01", periods=3)
    )
    np.testing.assert_array_equal(max_drawdown(prices), [-1, nan, 0])
    np.testing.assert_array_equal(drawdowns(prices)["c"], [0, 0, 0])
    np.testing.assert_array_equal(drawdowns(prices)["a"], [0, -1, nan])


def test_drawdowns_of_shares_are_empyricals_and_ffns(shares: pd.DataFrame) -> None:
    empyrical, ffn = pytest.importorskip("empyrical"), pytest.importorskip("ffn")
    expected = [empyrical.max_drawdown(each) for _, each in shares.pct_change().iloc[1:].items()]
    # empyrical's prices begin after the first return.
    np.testing.assert_allclose(max_drawdown(shares), expected, rtol=1e-9)
    np.testing.assert_allclose(drawdowns(shares), ffn.to_drawdown_series(shares))
    one = shares["AAPL"]
    theirs = ffn.drawdown_details(ffn.to_drawdown_series(one)).sort_values("drawdown").head(3)
    ours = worst_drawdowns(one, 3)
    np.testing.assert_allclose(ours["Drawdown"], theirs["drawdown"].astype(float))


@given(price_frames(), st.floats(0.01, 100))
def test_drawdowns_are_never_positive_nor_changed_by_rebasing(prices: pd.DataFrame, factor: float) -> None:
    found = drawdowns(prices)
    assert not (found > 0).any().any()
    np.testing.assert_array_equal(found.isna(), prices.isna())
    np.testing.assert_allclose(drawdowns(prices * factor), found, atol=1e-9)
    pd.testing.assert_frame_equal(drawdowns(prices[::-1]), found)


@given(price_frames(columns=1))
def test_the_worst_is_the_greatest(prices: pd.DataFrame) -> None:
    table = worst_drawdowns(prices, 100)
    assert (table["Drawdown"].diff().dropna() >= 0).all()
    deepest = max_drawdown(prices)["a"]
    assert table["Drawdown"].min() == deepest if len(table) else deepest == 0
    assert (table["Trough"] > table["Peak"]).all()
    assert (table["Recovery"].isna() | (table["Recovery"] > table["Trough"])).all()


def test_none_at_all_are_not_asked_for() -> None:
    with pytest.raises(UsageError):
        worst_drawdowns(PRICES, 0)
