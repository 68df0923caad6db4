"""The firm's facts, as data, and `open_lake`, which opens a lake that follows the firm's customs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime

from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.types.schema import Column, ColumnType, Conventions, TableSchema
from luxor_pipelines.market.currency import CurrencyFacts
from luxor_pipelines.market.observations import PriceTable, StalenessLimits
from luxor_pipelines.settings import Settings

__all__ = [
    "ASSETS",
    "BDR_SIZES",
    "CASH_RATES",
    "CDI",
    "COMPOSITES",
    "CONVENTIONS",
    "CURRENCIES",
    "CURRENCY_FACTS",
    "FIELD_MAP",
    "HIST_ECB_PX_LAST",
    "HIST_FIELDS",
    "HIST_FILE_PX_LAST",
    "HIST_RETURNS",
    "HOLIDAYS",
    "HOLIDAYS_EXCHANGE",
    "HOUSE_GROUPS",
    "KEYS",
    "LAST_FIELDS",
    "PERIODS",
    "PRICE_INPUTS",
    "PRICE_TABLES",
    "PX_LAST",
    "PX_LAST_COLUMNS",
    "QUOTA_ADJUSTMENTS",
    "STUCK_TABLES",
    "USDBRL",
    "age_limits",
    "known_key",
    "open_lake",
]

# --- tables that pipelines write ---------------------------------------------------------------------

HIST_RETURNS = TableSchema(
    name="hist_returns",
    version=1,
    columns=(
        Column("Date", "date", nullable=False),
        Column("Key", "text", nullable=False),
        Column("Currency", "text", nullable=False),
        Column("Period", "text", nullable=False),
        Column("Price_Key", "text"),
        Column("Local_Currency", "text"),
        Column("Return", "number"),
        Column("Status", "text", nullable=False),
        Column("Base_Date", "date"),
        Column("End_Date", "date"),
        Column("Base_Price", "number"),
        Column("End_Price", "number"),
    ),
    key=("Date", "Key", "Currency", "Period"),
    partition="month",
)
"""One row per month, asset, currency and period; partitioned by month, so that a run writes one file.

``Return`` is a fraction, cumulative; ``Base_Date`` and ``End_Date`` are the observations' dates;
prices are in ``Currency``, amortization-adjusted. ``Status`` is one of `market.returns.STATUSES`.
"""

HIST_FILE_PX_LAST = TableSchema(
    name="hist_file_px_last",
    version=1,
    columns=(
        Column("Date", "date", nullable=False),
        Column("Asset", "text", nullable=False),
        Column("Last_Price", "number", nullable=False),
    ),
    key=("Date", "Asset"),
    partition="year",
)
"""The prices of files dropped in ``raw/prices``."""

HIST_ECB_PX_LAST = replace(HIST_FILE_PX_LAST, name="hist_ecb_px_last")
"""The European Central Bank's reference rates, as units per USD and as USD per unit."""

HOLIDAYS_EXCHANGE = TableSchema(
    name="holidays_exchange",
    version=1,
    columns=(Column("Date", "date", nullable=False), Column("Location", "text", nullable=False)),
    key=("Date", "Location"),
)
"""The weekdays on which an exchange does not trade, by location."""

# --- tables that the firm's other systems write ------------------------------------------------------

ASSETS = "assets"
PX_LAST = "px_last"
PX_LAST_COLUMNS = ("last_update_dt", "Key", "px_last")
HOLIDAYS = "holidays"
QUOTA_ADJUSTMENTS = "quota_adjustments"
BDR_SIZES = "bdr_sizes"
FIELD_MAP = "field_map"
LAST_FIELDS = "last_all_flds"
HIST_FIELDS = "hist_all_flds"

KEYS: dict[str, tuple[str, ...]] = {
    "asset_field_map": ("Ticker", "Field"),
    ASSETS: ("Key",),
    BDR_SIZES: ("Ticker",),
    "daily_pnl": ("Date", "Series_Alias", "Currency", "Asset_ID"),
    FIELD_MAP: ("Field",),
    "funds": ("Short_Name",),
    HIST_FIELDS: ("Date", "Ticker", "Field"),
    "hist_attr_base": ("Key", "Fund", "Start_Date"),
    "hist_risk_metrics": ("Date", "Fund"),
    HOLIDAYS: ("Date", "Location"),
    LAST_FIELDS: ("Key",),
    "last_positions": ("Fund", "Asset", "Ticker"),
    PX_LAST: ("Key",),
    "trades": ("ID",),
}
"""The keys of tables whose files do not name one."""


def known_key(table: str, columns: Collection[str]) -> tuple[str, ...]:
    """Return the key of a table whose file does not name one; empty where it is not known.

    That of a price table is the date and the series, that of a fund's own quotas (``<fund>_quotas``) the date.
    """
    if table in KEYS:
        return KEYS[table]
    for prices in PRICE_TABLES:
        if prices.name == table:
            return ("Date", prices.columns_in(columns)[0])
    return ("Date",) if table.endswith("_quotas") and "Quota" in columns else ()


# --- prices and returns --------------------------------------------------------------------------

PRICE_TABLES: tuple[PriceTable, ...] = (
    PriceTable("custom_prices", "Asset", "Last_Price", "fund"),
    PriceTable("all_funds_quotas", "Fund", "Quota", "fund"),
    PriceTable("custom_funds_quotas", "Fund", "Quota", "fund"),
    PriceTable("hist_vc_px_last", "Ticker", "Price", "mark"),
    PriceTable("hist_non_bbg_px_last", "Asset", "Last_Price", "traded"),
    PriceTable("hist_px_last", "Asset", "Last_Price", "traded"),
    PriceTable(HIST_FILE_PX_LAST.name, "Asset", "Last_Price", "traded"),
    PriceTable(HIST_ECB_PX_LAST.name, "Asset", "Last_Price", "traded", fallback=True),
)
"""The price tables, in descending precedence."""

STUCK_TABLES = ("hist_px_last", HIST_FILE_PX_LAST.name)
"""The price tables of which a price that stays the same for weeks is odd."""

PRICE_INPUTS = (ASSETS, QUOTA_ADJUSTMENTS, *(table.name for table in PRICE_TABLES))
"""The tables that nearly every question about prices needs: they are looked for together."""

PERIODS = ("mtd", "qtr", "ytd", "12m", "24m", "36m")
"""The periods that returns are stored of, in their order."""

CURRENCIES = ("local", "usd", "brl")
"""The currencies that returns are stored in; local first, on which the others rest."""

HOUSE_GROUPS = ("vc", "luxor")
"""Groups whose price key is the house ticker even where there is a Bloomberg one."""


COMPOSITES: dict[str, dict[str, float]] = {
    "benchmark luxor spx cash": {"spxt index": 0.8, "sofrindx index": 0.2},
    "benchmark luxor sp500 85/15 cash": {"spxt index": 0.85, "sofrindx index": 0.15},
}
"""The legs and weights of composite series, reset at month ends; worked out where no table has them."""

CASH_RATES = {"sofrindx index": "fedl01 index", "jpmutcc lx equity": "fedl01 index"}
"""For each cash index the overnight rate, in percent a year, that stands for it before it begins."""


def age_limits(settings: Settings) -> StalenessLimits:
    """Return the greatest ages of observations; a mark has none."""
    return StalenessLimits(traded=settings.stale_traded, fund=settings.stale_fund, mark=None)


# --- currencies ----------------------------------------------------------------------------------

CDI = "bzacselc index"
"""The accumulated level of the rate that Brazilian funds are quoted against: the Selic, which CDI follows."""

USDBRL = "bmfxclco curncy"
"""The default series of BRL per USD: the onshore clean coupon, from 2011-04-14."""

CURRENCY_FACTS = CurrencyFacts(
    # ``cn`` is Bloomberg's exchange code for Canada, not China.
    locations={"bz": "brl", "br": "brl", "us": "usd", "cn": "cad", "eur": "eur"},
    series={
        "spxt index": "usd",
        "inx index": "usd",
        "sofrindx index": "usd",
        "jpmutcc lx equity": "usd",
        "sofr + 75bps": "usd",
        "benchmark luxor spx cash": "usd",
        "benchmark luxor sp500 85/15 cash": "usd",
        "caixa us": "usd",
        "caixa": "brl",
        CDI: "brl",
        # The price of one dollar, in the currency it is quoted in.
        "usdbrl curncy": "brl",
        USDBRL: "brl",
        "usdbrl cmpl curncy": "brl",
        "usdeur curncy": "eur",
        "cad curncy": "cad",
    },
    unconvertible=frozenset({"fedl01 index"}),
    depositary_type="ações_bdr",
    rates={"cad": "cad curncy"},
    brl_spot="usdbrl curncy",
)
"""The currencies of locations and special series, and the series of exchange rates."""

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
    columns={**_DATES_AND_FLAGS, **dict.fromkeys(_NUMBERS, "number")},
    tables={
        LAST_FIELDS: _DATES_AND_FLAGS,
        "hist_risk_metrics": {"Date": "date", "Fund": "text", "*": "number"},
    },
    keep_case=frozenset({"Name", "Class", "Vehicles", "Segment"}),
    day_tables=frozenset(table.name for table in PRICE_TABLES),
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
