"""The firm's facts, as data, and `open_lake`, which opens a lake that follows the firm's customs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
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
    "CASH",
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
    "IMPORTED",
    "KEYS",
    "LAST_FIELDS",
    "PERIODS",
    "PRICE_INPUTS",
    "PRICE_LAGS",
    "PRICE_TABLES",
    "PX_LAST",
    "PX_LAST_COLUMNS",
    "QUOTA_ADJUSTMENTS",
    "STUCK_TABLES",
    "TABLES",
    "USDBRL",
    "TableFacts",
    "age_limits",
    "known_key",
    "open_lake",
]

# --- tables that pipelines write ---------------------------------------------------------------------

_DATE = Column("Date", "date", nullable=False, about="the day, without a time", example="2026-10-30")
_PRICE = Column(
    "Last_Price", "number", nullable=False, about="in the currency the series is stored in", example="187.21"
)

HIST_RETURNS = TableSchema(
    name="hist_returns",
    version=1,
    columns=(
        Column("Date", "date", False, "the month's last day", "2026-10-31"),
        Column("Key", "text", False, "of the asset, as in `assets`", "aapl_aapl us equity"),
        Column("Currency", "text", False, "`local`, `usd` or `brl`", "brl"),
        Column("Period", "text", False, "`mtd`, `qtr`, `ytd`, `12m`, `24m` or `36m`", "ytd"),
        Column("Price_Key", "text", True, "the price series; null where the asset names none", "aapl us equity"),
        Column("Local_Currency", "text", True, "of the price series; null where it is not known", "usd"),
        Column("Return", "number", True, "a fraction, cumulative, amortization-adjusted", "0.1247"),
        Column("Status", "text", False, "`ok`, or why there is no return, or `imported`: see returns.md", "ok"),
        Column("Base_Date", "date", True, "of the observation that is the base price", "2025-12-31"),
        Column("End_Date", "date", True, "of the observation that is the end price", "2026-10-30"),
        Column("Base_Price", "number", True, "in `Currency`", "1031.4"),
        Column("End_Price", "number", True, "in `Currency`", "1160.0"),
    ),
    key=("Date", "Key", "Currency", "Period"),
    partition="month",
)
"""One row per month, asset, currency and period; partitioned by month, so that a run writes one file.

``Return`` is a fraction, cumulative; ``Base_Date`` and ``End_Date`` are the observations' dates;
prices are in ``Currency``, amortization-adjusted. ``Status`` is one of `market.returns.STATUSES`, or `IMPORTED`.
"""

IMPORTED = "imported"
"""The ``Status`` of a return that was taken from the old library's table: whether it is right is not known."""

HIST_FILE_PX_LAST = TableSchema(
    name="hist_file_px_last",
    version=1,
    columns=(_DATE, Column("Asset", "text", False, "the price key", "aapl us equity"), _PRICE),
    key=("Date", "Asset"),
    partition="year",
)
"""The prices of files dropped in ``raw/prices``."""

HIST_ECB_PX_LAST = replace(HIST_FILE_PX_LAST, name="hist_ecb_px_last")
"""The European Central Bank's reference rates, as units per USD and as USD per unit."""

HOLIDAYS_EXCHANGE = TableSchema(
    name="holidays_exchange",
    version=1,
    columns=(_DATE, Column("Location", "text", False, "of the exchange", "bz")),
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


def known_key(table: str, columns: Collection[str]) -> tuple[str, ...]:
    """Return the key of a table whose file does not name one; empty where it is not known.

    That of a price table is the date and the series, that of a fund's own quotas (``<fund>_quotas``) the date.
    """
    for prices in PRICE_TABLES:
        if prices.name == table:
            return ("Date", prices.columns_in(columns)[0])
    if table in KEYS:
        return KEYS[table]
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

PRICE_INPUTS = (ASSETS, PX_LAST, QUOTA_ADJUSTMENTS, *(table.name for table in PRICE_TABLES))
"""The tables that nearly every question about prices needs, and that are therefore looked for together."""

PRICE_LAGS: dict[str, int | None] = {"traded": 1, "fund": 5, "mark": None}
"""Business days after which a price table of a kind must have a date's rows; None: it is not judged."""

PERIODS = ("mtd", "qtr", "ytd", "12m", "24m", "36m")
"""The periods that returns are stored of, in their order."""

CURRENCIES = ("local", "usd", "brl")
"""The currencies that returns are stored in; local first, on which the others rest."""

CASH = ("caixa", "caixa us")
"""The series of cash, whose price is 1 in its currency unless a table has the series."""

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


# --- all tables ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableFacts:
    """A table that the library knows: its meaning, its writer, its key and the columns that are known of it."""

    about: str
    written_by: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


def _prices(about: str, written_by: str, series: str = "Asset", price: str = "Last_Price") -> TableFacts:
    columns = (
        _DATE,
        Column(series, "text", False, "the price key", "itub4 bz equity"),
        Column(price, "number", False, "in the currency the series is stored in", "187.21"),
    )
    return TableFacts(about, written_by, ("Date", series), columns)


def _declared(schema: TableSchema, about: str) -> TableFacts:
    writer = {
        HIST_FILE_PX_LAST.name: "market_prices",
        HIST_ECB_PX_LAST.name: "fx_rates",
        HOLIDAYS_EXCHANGE.name: "holidays",
    }
    return TableFacts(about, f"the pipeline `{writer.get(schema.name, schema.name)}`", schema.key, schema.columns)


_WORKBOOK = "the master workbook"
_TERMINAL = "the terminal's extractor"

TABLES: dict[str, TableFacts] = {
    ASSETS: TableFacts(
        "The asset master: what there is, and which price series each asset has.",
        _WORKBOOK,
        ("Key",),
        (
            Column("Key", "text", False, "`<Asset>_<Ticker>`", "aapl_aapl us equity"),
            Column("Name", "text", True, "shown to people, case kept; several keys may share one", "Apple"),
            Column("Asset", "text", True, "short name, by which lines are merged", "aapl"),
            Column("Ticker", "text", True, "house ticker; the price key where there is no Bloomberg one", "aapl us"),
            Column("Ticker_BBG", "text", True, "Bloomberg's; of a BDR the underlying share's", "aapl us equity"),
            Column("Group", "text", True, "coarse kind; `vc` and `luxor` are priced by `Ticker`", "ações"),
            Column("Type", "text", True, "fine kind; `ações_bdr` is a depositary receipt", "ações_us"),
            Column("Location", "text", True, "of the listing, and so of the price's currency", "us"),
            Column("Currency", "text", True, "of the price, where the location does not tell", "usd"),
            Column("Currency Exposure", "text", True, "of the economic currency", "us"),
            Column("Luxor_Classification", "text", True, "segment", "stocks"),
            Column("Luxor_Equity_Classification", "text", True, "", "equity"),
            Column("Luxor_Inner_Classification", "text", True, "finer segment", ""),
            Column("Class", "text", True, "report class, case kept", ""),
            Column("Segment", "text", True, "case kept", ""),
            Column("Vehicles", "text", True, "case kept", ""),
            Column("Manager", "text", True, "of a fund", ""),
            Column("BTG_Name", "text", True, "in the administrator's file", ""),
            Column("Frequency", "text", True, "of extraction: `minute`, `hour` or `day`", "day"),
            Column("Hist_Price", "flag", True, "whether its price history is downloaded", "True"),
            Column("Disable BDP", "flag", True, "whether its latest price is not asked for", "False"),
            Column("Liquidity_Rule", "number", True, "days", "2"),
        ),
    ),
    PX_LAST: TableFacts(
        "The current price of each series.",
        "the updater of current prices, whenever one of its sources changes",
        ("Key",),
        (
            Column("Key", "text", False, "the price key", "aapl us equity"),
            Column("px_last", "number", True, "in the currency the series is stored in", "187.21"),
            Column("last_update_dt", "date", True, "the price's trade date", "2026-10-30"),
            Column("Query_Time", "date", True, "when it was asked for", "2026-10-30 15:02:11"),
        ),
    ),
    "custom_prices": _prices("Prices typed by hand, estimates included.", "the manual-prices workbook"),
    "all_funds_quotas": TableFacts(
        "The net asset value per unit of each fund.",
        "the quota updater",
        ("Date", "Fund"),
        (
            _DATE,
            Column("Fund", "text", False, "the price key", "fund a"),
            Column("Quota", "number", False, "in the fund's currency", "1.3471"),
            Column("#", "number", True, "units outstanding", "1000000"),
        ),
    ),
    "custom_funds_quotas": _prices("The quotas of synthetic sub-portfolios.", "the quota updater", "Fund", "Quota"),
    "hist_vc_px_last": _prices("Marks of illiquid assets, at irregular dates.", _WORKBOOK, "Ticker", "Price"),
    "hist_non_bbg_px_last": _prices("Series that are made: inflation plus spread, loans.", "its own updater"),
    "hist_px_last": _prices("Daily prices of the terminal, adjusted, the whole history anew each day.", _TERMINAL),
    HIST_FILE_PX_LAST.name: _declared(HIST_FILE_PX_LAST, "The prices of files dropped in `raw/prices`."),
    HIST_ECB_PX_LAST.name: _declared(HIST_ECB_PX_LAST, "The ECB's reference rates, per USD and in USD."),
    HIST_RETURNS.name: _declared(HIST_RETURNS, "Each month's returns of every asset."),
    QUOTA_ADJUSTMENTS: TableFacts(
        "The capital that funds have returned.",
        "people",
        ("Fund", "Event_Date"),
        (
            Column("Fund", "text", False, "the price key", "fund a"),
            Column("Event_Date", "date", False, "the first day whose quota is without it", "2024-06-28"),
            Column("Ratio", "number", False, "gross amount / net assets before", "0.05"),
        ),
    ),
    HOLIDAYS: TableFacts(
        "The firm's own holidays, which win over the exchanges'.",
        _TERMINAL,
        ("Date", "Location"),
        (_DATE, Column("Location", "text", False, "", "bz")),
    ),
    HOLIDAYS_EXCHANGE.name: _declared(HOLIDAYS_EXCHANGE, "The weekdays on which an exchange does not trade."),
    BDR_SIZES: TableFacts(
        "The number of BDRs that stand for one share.",
        _TERMINAL,
        ("Ticker",),
        (
            Column("Ticker", "text", False, "of the BDR", "aapl34 bz equity"),
            Column("adr_adr_per_sh", "number", True, "BDRs per underlying share", "20"),
        ),
    ),
    FIELD_MAP: TableFacts(
        "The kind of value that each field of the terminal has.",
        _WORKBOOK,
        ("Field",),
        (
            Column("Field", "text", False, "", "cur_mkt_cap"),
            Column("Value_Type", "text", True, "`numerical`, `date` or `text`", "numerical"),
        ),
    ),
    "asset_field_map": TableFacts(
        "The fields that are extracted of each asset.",
        _WORKBOOK,
        ("Ticker", "Field"),
        (
            Column("Ticker", "text", False, "", "aapl us equity"),
            Column("Field", "text", False, "", "cur_mkt_cap"),
            Column("Key", "text", True, "", "aapl us equity_cur_mkt_cap"),
            Column("Frequency", "text", True, "`minute`, `hour` or `day`", "day"),
            Column("Historical_Data", "flag", True, "whether its history is extracted", "True"),
        ),
    ),
    LAST_FIELDS: TableFacts(
        "The latest value of each field of each asset, as text.",
        _TERMINAL,
        ("Key",),
        (
            Column("Key", "text", False, "`<Ticker>_<Field>`", "aapl us equity_cur_mkt_cap"),
            Column("Ticker", "text", True, "", "aapl us equity"),
            Column("Field", "text", True, "", "cur_mkt_cap"),
            Column("Value", "text", True, "a date is in seconds since 1970", "2900000000000"),
            Column("last_update_dt", "date", True, "", "2026-10-30"),
            Column("Query_Time", "date", True, "", "2026-10-30 15:02:11"),
        ),
    ),
    HIST_FIELDS: TableFacts(
        "The values of fields by date, as text.",
        _TERMINAL,
        ("Date", "Ticker", "Field"),
        (
            _DATE,
            Column("Ticker", "text", False, "", "aapl us equity"),
            Column("Field", "text", False, "", "eqy_sh_out"),
            Column("Value", "text", True, "", "15115.8"),
        ),
    ),
    "funds": TableFacts(
        "The firm's funds.",
        "a system that is not known",
        ("Short_Name",),
        (Column("Short_Name", "text", False, "", "fund a"), Column("Country", "text", True, "`br` or `us`", "br")),
    ),
    "trades": TableFacts(
        "Every trade.",
        _WORKBOOK,
        ("ID",),
        (
            Column("ID", "text", False, "row number", "1041"),
            _DATE,
            Column("Fund", "text", True, "", "fund a"),
            Column("Asset", "text", True, "", "aapl"),
            Column("Ticker", "text", True, "", "aapl us equity"),
            Column("#", "number", True, "units, bought positive, sold negative", "-500"),
            Column("Price", "number", True, "a unit", "187.21"),
            Column("Total", "number", True, "cash, paid negative", "93605.0"),
            Column("Op Type", "text", True, "", "a vista"),
        ),
    ),
    "hist_positions": TableFacts(
        "Positions after each change; of rows of one date, fund and asset the last counts.",
        "the position builder",
        (),
        (
            _DATE,
            Column("Fund", "text", False, "", "fund a"),
            Column("Ticker", "text", True, "", "aapl us equity"),
            Column("Asset_ID", "text", False, "the asset's `Key`", "aapl_aapl us equity"),
            Column("#", "number", True, "units after the change", "1500"),
            Column("Avg_price", "number", True, "", "143.02"),
        ),
    ),
    "last_positions": TableFacts(
        "Positions now.",
        "the position builder",
        ("Fund", "Asset", "Ticker"),
        (
            Column("Fund", "text", False, "", "fund a"),
            Column("Asset", "text", False, "", "aapl"),
            Column("Ticker", "text", False, "", "aapl us equity"),
            Column("#", "number", True, "units", "1500"),
            Column("Avg_price", "number", True, "", "143.02"),
        ),
    ),
    "daily_pnl": TableFacts(
        "Each day's profit and loss, by portfolio and asset.",
        "a pipeline of the firm's",
        ("Date", "Series_Alias", "Currency", "Asset_ID"),
        (
            _DATE,
            Column("Series_Alias", "text", False, "the portfolio", "fund a"),
            Column("Currency", "text", False, "`brl` or `usd`", "brl"),
            Column("Asset_ID", "text", False, "the asset's `Key`", "aapl_aapl us equity"),
        ),
    ),
    "hist_attr_base": TableFacts(
        "Attribution by asset and fund, over windows.",
        "a pipeline of the firm's",
        ("Key", "Fund", "Start_Date"),
        (
            Column("Key", "text", False, "the asset's", "aapl_aapl us equity"),
            Column("Fund", "text", False, "", "fund a"),
            Column("Start_Date", "date", False, "of the window", "2025-12-31"),
            Column("End_Date", "date", True, "of the window", "2026-10-30"),
        ),
    ),
    "hist_risk_metrics": TableFacts(
        "Each day's risk figures of a fund; every further column is a number.",
        "the portfolio snapshot",
        ("Date", "Fund"),
        (_DATE, Column("Fund", "text", False, "", "fund a")),
    ),
}
"""The tables that the library knows, by name. Files of the firm's other systems may have more columns."""

_KEYS_ELSEWHERE = {*(table.name for table in PRICE_TABLES), HIST_RETURNS.name, HOLIDAYS_EXCHANGE.name}
"""Tables whose key `known_key` derives, or their files name."""
KEYS = {name: facts.key for name, facts in TABLES.items() if facts.key and name not in _KEYS_ELSEWHERE}
"""The keys of the other tables."""


# --- currencies ----------------------------------------------------------------------------------

CDI = "bzacselc index"
"""The accumulated level of the rate that Brazilian funds are quoted against: the Selic, which CDI follows."""

USDBRL = "bmfxclco curncy"
"""The default series of BRL per USD: the onshore clean coupon, from 2011-04-14."""

_EURO_COUNTRIES = ("at", "be", "cy", "de", "ee", "es", "fi", "fr", "gr", "hr", "ie", "it", "lt", "lu", "lv", "mt", "nl")
_COUNTRIES = {
    **dict.fromkeys((*_EURO_COUNTRIES, "pt", "si", "sk"), "eur"),
    "au": "aud",
    "br": "brl",
    "ca": "cad",
    "cz": "czk",
    "dk": "dkk",
    "gb": "gbp",
    "hk": "hkd",
    "hu": "huf",
    "id": "idr",
    "il": "ils",
    "in": "inr",
    "is": "isk",
    "jp": "jpy",
    "kr": "krw",
    "mx": "mxn",
    "my": "myr",
    "no": "nok",
    "nz": "nzd",
    "ph": "php",
    "pl": "pln",
    "ro": "ron",
    "se": "sek",
    "sg": "sgd",
    "th": "thb",
    "tr": "try",
    "us": "usd",
    "za": "zar",
}
"""ISO's codes of the countries whose currencies the ECB publishes, but for two that have another meaning: ``cn``, which
is Bloomberg's exchange code for Canada, and ``ch``, which is its code for China and ISO's for Switzerland."""

_PAIRED = sorted({*_COUNTRIES.values(), "bgn", "chf", "cny", "rub"} - {"usd"})
"""Currencies of which the library writes series, as units per USD and as USD per unit."""

CURRENCY_FACTS = CurrencyFacts(
    # The firm's codes come first.
    locations={**_COUNTRIES, "bz": "brl", "br": "brl", "us": "usd", "uk": "gbp", "eur": "eur", "cn": "cad"},
    series={
        **{f"usd{iso} curncy": iso for iso in _PAIRED},
        **{f"{iso}usd curncy": "usd" for iso in _PAIRED},
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
    no_currencies=frozenset({"all", "gbx", "ila", "zac"}),
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
    create: bool = False,
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
        create=create,
        conventions=CONVENTIONS,
    )
