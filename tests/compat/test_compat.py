"""A script of the old library's runs with only the package's name changed; what is missing says so."""

from __future__ import annotations

import inspect
import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from luxor_pipelines import errors
from luxor_pipelines.compat.datareader import NOT_THERE, LuxorQuery, MissingMethodError
from luxor_pipelines.compat.ingest import incremental_load, save_table

ROOT = Path(__file__).parents[2]
OLD_SCRIPT = """
import datetime as dt
import pandas as pd
from old_package.datareader import LuxorQuery
from old_package.ingest import save_table, incremental_load

lq = LuxorQuery(blob_directory="enriched/parquet")
days = pd.bdate_range("2023-12-29", "2025-01-31")
prices = pd.DataFrame({"Date": days, "Asset": "ABC us equity", "Last_Price": [100.0 + n for n in range(len(days))]})
save_table("hist_px_last", prices, override=True)
assets = {"Key": ["abc_abc us equity"], "Ticker": ["abc us equity"], "Location": ["us"], "Type": ["x"], "Group": ["g"]}
save_table("assets", pd.DataFrame(assets))
incremental_load(lq, "results", prices.rename(columns={"Last_Price": "x"}), increment_column="Date")
recent = dt.date(2024, 12, 31)
ticker = lq.get_price_key("abc_abc us equity")
found = {
    "price": lq.get_price(ticker, recent),
    "prices": len(lq.get_prices([ticker], recent_date=recent, previous_date=dt.date(2024, 12, 1))),
    "change": lq.get_pct_changes([ticker], recent_date=recent, period="12m")["Pct_Change"].iloc[0],
    "drawdown": lq.calculate_drawdown([ticker], dt.date(2024, 1, 31), recent)["Drawdowns"].min(),
    "volatility": lq.calculate_volatility([ticker], 1, 365)["Volatility"].count(),
    "table": len(lq.get_table("results")),
    "month_end": lq.get_month_end(recent),
}
"""


def test_an_old_script_needs_only_the_packages_name_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUXOR_LAKE_URL", tmp_path.as_uri())
    names: dict[str, Any] = {}
    exec(OLD_SCRIPT.replace("old_package", "luxor_pipelines.compat"), names)
    found = names["found"]
    assert found["price"] == 362
    assert found["change"] == pytest.approx(2.62)
    assert found["drawdown"] == 0
    assert found["table"] == 286


def test_saving_over_a_table_is_said_where_it_was_silent(disk: Any, caplog: pytest.LogCaptureFixture) -> None:
    lq, frame = disk.query(), pd.DataFrame({"x": [1.0]})
    assert save_table("t", frame, lq=lq).inserted == 1
    with caplog.at_level(logging.WARNING):
        assert not save_table("t", frame + 1, lq=lq).changed
    assert "t exists and is kept as it is" in caplog.text
    assert save_table("t", frame + 1, lq=lq, override=True).changed
    assert incremental_load(lq, "t", frame, increment_column="x").inserted == 1
    with pytest.raises(errors.UsageError, match="'pickle'"):
        save_table("t", frame, lq=lq, format="pickle")
    with pytest.raises(errors.UsageError, match="'excel_multiple_sheets'"):
        save_table("t", {"a": frame}, lq=lq, format="excel_multiple_sheets")


def test_what_is_missing_says_what_to_use_instead(disk: Any) -> None:
    lq = LuxorQuery(**disk.lake)
    for name in NOT_THERE:
        with pytest.raises(MissingMethodError, match=name) as caught:
            getattr(lq, name)
        assert "use " in caught.value.hint
        assert isinstance(caught.value, AttributeError)
        assert not hasattr(lq, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        lq.nonsense  # noqa: B018
    for name in ("TableDataLoader", "BlobChangeWatcher"):
        with pytest.raises(ImportError, match=f"{name} of the old library is not here. Use"):
            exec(f"from luxor_pipelines.compat.ingest import {name}")
    with pytest.raises(ImportError, match="nonsense"):
        exec("from luxor_pipelines.compat.ingest import nonsense")


# --- docs/migration.md -----------------------------------------------------------------------


def migration() -> dict[str, str]:
    """Each method of the old library, with what the documentation says of it."""
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (same|better|not yet|not coming) \|", text, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_the_documentation_says_of_each_method_what_is_so() -> None:
    for name, status in migration().items():
        assert hasattr(LuxorQuery, name) == (status in {"same", "better"}), name
        assert (name in NOT_THERE) == (status in {"not yet", "not coming"}), name


def test_the_documentation_has_every_method(shared_data: Path) -> None:
    reference = shared_data.parent / "reference" / "DOMAIN.md"
    if not reference.exists():
        pytest.skip("needs ../shared/reference/DOMAIN.md")
    text = reference.read_text(encoding="utf-8")
    surface = text[text.index("## 9. API surface") : text.index("## 10.")]
    cells = [line.split(" | ")[0] for line in surface.splitlines() if line.startswith("| `")]
    methods = {name for cell in cells for name in re.findall(r"`(\w+)\(", cell)} - {"LuxorQuery"}
    assert len(methods) > 50
    assert methods <= set(migration())


@pytest.mark.parametrize(
    "signature",
    [
        "get_price(ticker, px_date, logger_level, dr_adjusted, currency, usdbrl_ticker, asset_location)",
        "get_prices(tickers, recent_date, previous_date, period, currency, usdbrl_ticker, force_continuous_date_range, "
        "holiday_location, get_intraday_prices, force_month_end, price_overrides)",
        "get_pct_changes(tickers, recent_date, previous_date, period, currency, usdbrl_ticker, adjust_amortization, "
        "force_month_end)",
        "get_benchmark_spx_cash(previous_date, recent_date, prop_spx, prop_cash, currency, usdbrl_ticker, cash_ticker, "
        "spx_ticker)",
        "calculate_drawdown(tickers, previous_date, recent_date, currency)",
        "calculate_tracking_error(returns_ticker, benchmark_ticker, previous_date, recent_date, period, "
        "holiday_location)",
        "calculate_volatility(tickers, min_rolling_period_months, analysis_period_days, currency, sample_frequency, "
        "usdbrl_ticker)",
        "calculate_price_correlation(assets_data, sample_frequency, period, ref_date)",
        "xirr(cashflows, dates)",
        "simulate_portfolio_performance(portfolio, portfolio_date, adm_fee, performance_fee)",
        "get_data(ticker, flds, data_date, logger_level)",
        "get_bdr_size(ticker)",
        "get_bdr_adj_price(asset_id, date, usdbrl_ticker)",
        "get_asset_name(ticker)",
        "usdbrl_clean_coupon_fix(usdbrl_df)",
        "get_quota_adjusted_by_amortization(fund_name, quota, date)",
        "text_to_lowercase(t)",
    ],
)
def test_parameters_are_the_familiar_ones_in_their_order(signature: str) -> None:
    name, _, rest = signature.partition("(")
    parameters = list(inspect.signature(getattr(LuxorQuery, name)).parameters.values())[1:]
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == rest.rstrip(")").split(", ")
