"""The firm's facts, as data, and `open_lake`, which opens a lake that follows the firm's customs."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime

from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.types.schema import ColumnType, Conventions
from luxor_pipelines.settings import Settings

__all__ = ["CONVENTIONS", "open_lake"]

# --- legacy files --------------------------------------------------------------------------------

_NUMBERS = (
    *("Last_Price", "Price", "px_last", "Quota", "#", "Avg_price", "Variation", "Variation_tot", "%_MoM", "PL"),
    *("AUM", "%_pl", "Market_Value", "P&L_MoM", "P&L_YTD", "Debt", "Kd", "Return_Multiplier", "Weight", "%_YTD"),
    *("Net_Debt/Ebitda", "adr_adr_per_sh", "Volume", "Total", "Liquidity_Rule", "Daily_Return", "Amount"),
    *("Adjust", "Year", "Daily_Adm_Fee", "Timestamp", "Pnl", "Attribution"),
)
_DATES = ("Date", "last_update_dt", "Query_Time", "update_time", "Update_Time", "Settlement Date", "Today")
_FLAGS = ("Ignore Flag", "Disable BDP", "Hist_Price", "Historical_Data")
_DATES_AND_FLAGS: dict[str, ColumnType] = {**dict.fromkeys(_DATES, "date"), **dict.fromkeys(_FLAGS, "flag")}

CONVENTIONS = Conventions(
    text_columns={**_DATES_AND_FLAGS, **dict.fromkeys(_NUMBERS, "number")},
    text_tables={
        "last_all_flds": _DATES_AND_FLAGS,
        "hist_risk_metrics": {"Date": "date", "Fund": "text", "*": "number"},
    },
    keep_case=frozenset({"Name", "Class", "Vehicles", "Segment"}),
)
"""The customs of the firm's lake: the types of legacy columns, by name, and the columns whose case is kept."""


def open_lake(
    address: str | os.PathLike[str] | None = None,
    directory: str = DIRECTORY,
    *,
    connection_string: str | None = None,
    container: str | None = None,
    settings: Settings | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Lake:
    """Open the lake at an address, else the one that the environment names, with `CONVENTIONS`.

    Parameters and errors are those of `Lake.open`.
    """
    return Lake.open(
        address,
        directory,
        connection_string=connection_string,
        container=container,
        settings=settings,
        clock=clock,
        conventions=CONVENTIONS,
    )
