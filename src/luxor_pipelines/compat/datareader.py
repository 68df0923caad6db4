"""`LuxorQuery` as the old library's scripts import it."""

from __future__ import annotations

from typing import Any, Final

from luxor_pipelines.errors import LuxorError
from luxor_pipelines.query import luxor_query

__all__ = ["NOT_THERE", "LuxorQuery", "MissingMethodError"]

_POSITIONS = "lq.get_table('hist_positions', where={'Fund': fund, 'Date': (None, day)}), the last row of each asset"
_QUOTAS = "lq.get_table('all_funds_quotas', where={'Fund': fund})"
_CACHE = "nothing: what has been read is kept by version; lq.versions() names it and lq.update() looks for changes"

NOT_THERE: Final = {
    "get_positions": _POSITIONS,
    "get_position_variation": _POSITIONS + ", as of both dates",
    "get_avg_price": "the column Avg_price of hist_positions",
    "get_positions_and_movements": "lq.get_table('trades') and lq.get_prices",
    "run_return_analysis": "lq.get_table('trades') and lq.get_prices",
    "normalize_trades": "lq.get_table('trades'), lq.get_bdr_size and lq.convert_currency",
    "normalize_price_key": "lq.get_price_key, or the columns Ticker and Ticker_BBG of assets",
    "calculate_average_price": "the column Avg_price of hist_positions",
    "calculate_adjusted_avg_price": "the column Avg_price of hist_positions",
    "get_dividends": "lq.get_table('hist_dividends', where={'Fund': fund, 'Date': (first, last)})",
    "get_cash_movements": "lq.get_table('cash_movements', where={'Fund': fund})",
    "get_hist_cash_movements": "lq.get_table('hist_portfolios_concentration')",
    "calculate_daily_pnl": "lq.get_table('daily_pnl'), where the old system writes it",
    "calculate_attribution": "lq.get_table('hist_attr_base')",
    "get_fund_aum": f"{_QUOTAS}: # times Quota",
    "get_fund_numb_shares": f"{_QUOTAS}: the column #",
    "get_delta_subscription_redemption": f"{_QUOTAS}: the changes of # times Quota",
    "get_fund_pnl": f"{_QUOTAS}: the change of # times Quota less subscriptions",
    "get_risk_metric": "lq.get_table('hist_risk_metrics', where={'Fund': fund})",
    "get_risk_metric_variation": "lq.get_table('hist_risk_metrics', where={'Fund': fund})",
    "get_current_fx_data": "lq.get_table('last_positions') and lq.get_price",
    "blob_client": "lq.filesystem and lq.paths",
    "tables_in_use": _CACHE,
    "asset_last_prices": "lq.get_table('px_last')",
    "price_cache": _CACHE,
    "price_tables_loaded": _CACHE,
    "hist_prices_table": "lq.get_prices",
    "modified_tables": "lq.update(), which names the tables that have changed",
}
"""The old object's methods that this one lacks, each with what to use meanwhile."""


class MissingMethodError(LuxorError, AttributeError):
    """A method or attribute of the old library that this one does not have."""


class LuxorQuery(luxor_query.LuxorQuery):
    """`luxor_pipelines.LuxorQuery`; what it lacks of the old library's is an error that says what to use instead."""

    def __getattr__(self, name: str) -> Any:
        if name in NOT_THERE:
            raise MissingMethodError(
                f"{name} of the old library is not here.",
                hint=f"Meanwhile use {NOT_THERE[name]}; see docs/migration.md.",
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
