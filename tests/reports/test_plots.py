"""The plots draw the numbers that `LuxorQuery` answers; how they look is for people to see."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines import LuxorQuery, save_table
from luxor_pipelines.errors import ConfigurationError, DataError, UsageError

pytest.importorskip("matplotlib").use("agg")
plots = pytest.importorskip("luxor_pipelines.reports.plots")
plt = pytest.importorskip("matplotlib.pyplot")

DATES = ("2023-12-31", "2026-10-30")
DAYS = pd.bdate_range("2022-12-30", "2026-10-30", unit="us")


@pytest.fixture(scope="module")
def lq() -> LuxorQuery:
    from conftest import Clock

    query = LuxorQuery(lake=f"memory://{uuid.uuid4().hex}", clock=Clock())
    rng = np.random.default_rng(0)
    names = [f"s{n}" for n in range(9)]
    values = 100 * np.exp(rng.normal(0.0003, 0.01, (len(DAYS), len(names))).cumsum(axis=0))
    frame = (
        pd.DataFrame(values, DAYS, names)
        .rename_axis("Date")
        .reset_index()
        .melt("Date", var_name="Asset", value_name="Last_Price")
    )
    save_table("hist_px_last", frame[(frame["Asset"] != "s1") | (frame["Date"] > "2024-06-03")], lq=query)
    return query


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def png(axes: Any) -> bytes:
    buffer = BytesIO()
    axes.figure.savefig(buffer, format="png")
    return buffer.getvalue()


def line(axes: Any, name: str) -> np.ndarray[Any, Any]:
    (found,) = [each for each in axes.get_lines() if each.get_label() == name]
    return np.asarray(found.get_ydata(), dtype=float)


def test_prices_begin_at_100(lq: LuxorQuery) -> None:
    axes = plots.prices(lq, ["s0", "S1 ", "s2"], *DATES)
    assert line(axes, "s0")[0] == 100
    first = line(axes, "s1")
    assert first[np.isfinite(first)][0] == 100
    assert np.isnan(first[0])
    assert [text.get_text() for text in axes.get_legend().get_texts()] != []
    assert axes.get_title(loc="left") == "Prices, 2023-12-31 = 100"
    plain = plots.prices(lq, "s0", *DATES, rebase=False)
    assert line(plain, "s0")[-1] == lq.get_price("s0", DATES[1])
    assert plain.get_title(loc="left") == "s0: prices"
    assert png(axes) != png(plain)


def test_returns_have_a_number_a_month_and_mark_what_is_partial(lq: LuxorQuery) -> None:
    axes = plots.returns(lq, "s1", benchmark="s0", recent_date=DATES[1])
    table = lq.returns_table("s1", benchmark="s0", recent_date=DATES[1])
    texts = [text.get_text() for text in axes.texts]
    numbers = table.drop(columns="Partial").to_numpy(dtype=float)
    assert len(texts) == np.isfinite(numbers).sum()
    assert [float(text.rstrip("*")) for text in texts] == pytest.approx(
        list(100 * numbers[np.isfinite(numbers)]), abs=0.051
    )
    assert sum("*" in text for text in texts) == 2  # June 2024 and its year
    assert not any(text.startswith("-0.0") for text in texts)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2024", "2025", "2026"]
    assert len(png(axes)) > 10_000


def test_drawdowns_rolling_and_correlation(lq: LuxorQuery) -> None:
    axes = plots.drawdown(lq, "s0", *DATES)
    expected = lq.calculate_drawdown("s0", *DATES)["Drawdowns"]
    np.testing.assert_array_equal(line(axes, "s0"), expected)
    returns = plots.rolling(lq, ["s0", "s2"], *DATES)
    np.testing.assert_array_equal(line(returns, "s2"), lq.rolling_returns("s2", *DATES)["s2"])
    volatility = plots.rolling(lq, ["s0", "s2"], *DATES, what="volatility", months=6)
    assert (line(volatility, "s0") > 0).all()
    square = plots.correlation(lq, ["s0", "s2", "s3"], *DATES, sample_frequency="weekly")
    assert [text.get_text() for text in square.texts][::4] == ["1.00"] * 3
    assert square.get_title(loc="left") == "Correlation of weekly returns"
    for each in (axes, returns, volatility, square):
        assert len(png(each)) > 5_000


def test_axes_that_are_given_are_drawn_on_and_dressed_alike(lq: LuxorQuery) -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert plots.drawdown(lq, "s0", *DATES, ax=left) is left
    assert plots.correlation(lq, ["s0", "s2"], *DATES, ax=right) is right
    assert len(figure.axes) == 2
    assert not left.spines["top"].get_visible()


def test_a_series_may_be_named_as_its_asset_is(lq: LuxorQuery) -> None:
    save_table(
        "assets", pd.DataFrame({"Key": ["k"], "Ticker": ["s0"], "Name": ["First Share"], "Location": ["us"]}), lq=lq
    )
    axes = plots.prices(lq, ["First Share", "s2"], *DATES)
    assert {each.get_label() for each in axes.get_lines()} == {"s0", "s2"}


def test_many_series_are_told_apart(lq: LuxorQuery) -> None:
    axes = plots.prices(lq, [f"s{n}" for n in range(9)], *DATES)
    styles = {(each.get_color(), each.get_linestyle()) for each in axes.get_lines()}
    assert len(styles) == 9


def test_what_cannot_be_drawn(lq: LuxorQuery) -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        plots.prices(lq, "nothing", *DATES)
    with pytest.raises(DataError, match="no returns to draw"):
        plots.rolling(lq, "s0", *DATES, months=120)
    with pytest.raises(UsageError, match="'beta' is not drawn"):
        plots.rolling(lq, "s0", *DATES, what="beta")
    with pytest.raises(UsageError, match="no square"):
        plots.correlation(lq, ["s0", "s2"], *DATES, window=12)


def test_without_the_extra_it_is_said_what_to_install(lq: LuxorQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ConfigurationError, match="Plots need matplotlib") as caught:
        plots.prices(lq, "s0", *DATES)
    assert "luxor-pipelines[plot]" in caught.value.hint


def test_matplotlib_is_loaded_only_to_draw() -> None:
    code = "import sys; from luxor_pipelines import plots; assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    heavy = {"pandas", "adlfs", "numpy", "matplotlib", "duckdb"}
    code = f"import sys, luxor_pipelines; assert not {heavy} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
