"""`LuxorQuery`: the readers' one door to the lake. Thin: it delegates to its lake and its market."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa

from luxor_pipelines.catalog import PERIODS, USDBRL, open_lake
from luxor_pipelines.errors import SchemaError, Secret, UnknownAssetError, UsageError, sample
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.footer import corrupt
from luxor_pipelines.lake.parquet.predicates import Where, conditions
from luxor_pipelines.lake.table.table import DIRECTORY
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.market.calendars import Inclusive
from luxor_pipelines.market.periods import DateLike, as_date, base_date, is_month_end, month_end
from luxor_pipelines.notices import warn_without_effect
from luxor_pipelines.query.answers import Answers
from luxor_pipelines.query.assets import unknown_asset
from luxor_pipelines.query.market import Market
from luxor_pipelines.query.sql import SqlResult, run_sql
from luxor_pipelines.query.stored_returns import stored_returns
from luxor_pipelines.settings import Settings

__all__ = ["LuxorQuery"]

logger = logging.getLogger(__name__)


class LuxorQuery:
    """The lake, for reading: tables, prices, returns, calendars.

    What has been read is kept by version and served again, so that everything computed from one
    object agrees; `update` looks for changes made elsewhere (and a question not asked before, of a
    table that has been replaced meanwhile, is answered from the new version). Frames that are handed out are the
    caller's own: changing one changes nothing here.

    Parameters
    ----------
    blob_directory
        The folder of the tables; or the lake, as for ``lake``, if it has ``://`` or a drive letter, is absolute, or
        starts with ``.`` or ``~``.
    adls_connection_string
        An Azure storage connection string.
    container_name
        The container it is for; default ``LUXOR_CONTAINER`` or ``luxorasap``.
    lake
        An open `Lake`, an fsspec URL (``abfss://container@account.dfs.core.windows.net``, ``file:///…``,
        ``memory://…``) or a local folder. Arguments win over ``LUXOR_LAKE_URL``, which wins over
        ``AZURE_STORAGE_CONNECTION_STRING``.
    settings
        Default: from the environment.
    clock
        Says what time it is, as a datetime with a time zone; default the system's clock.

    Raises
    ------
    ConfigurationError
        No lake is named, or what is named cannot be one.

    Examples
    --------
    >>> lq = LuxorQuery("file:///data/lake")  # doctest: +SKIP
    >>> lq.get_hist_returns("2026-10-31", currency="brl", wide=True)  # doctest: +SKIP

    In a ``with`` statement what has been read is let go at the end:

    >>> with LuxorQuery("~/lake") as lq:  # doctest: +SKIP
    ...     lq.list_tables()
    """

    def __init__(
        self,
        blob_directory: str | os.PathLike[str] | Lake = DIRECTORY,
        adls_connection_string: str | None = None,
        container_name: str | None = None,
        *,
        lake: Lake | str | os.PathLike[str] | None = None,
        settings: Settings | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        # A traceback may show variables; these print as a mask.
        lake = Secret(lake) if isinstance(lake, str) else lake
        adls_connection_string = None if adls_connection_string is None else Secret(adls_connection_string)
        if _is_lake(blob_directory):
            if lake is not None:
                blob_directory = ""
                raise UsageError("Two lakes are given.", hint="Give one, as the first argument or as lake=.")
            lake = Secret(blob_directory) if isinstance(blob_directory, str) else blob_directory
            blob_directory = DIRECTORY
        self._opened = not isinstance(lake, Lake)
        self.lake = (
            lake
            if isinstance(lake, Lake)
            else open_lake(
                lake,
                str(blob_directory),
                connection_string=adls_connection_string,
                container=container_name,
                settings=settings,
                clock=clock,
            )
        )
        self.market = Market(self.lake)

    def __enter__(self) -> LuxorQuery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go what has been read; of a lake that was handed in, that is for whoever opened it."""
        if self._opened:
            self.lake.__exit__(kind, error, trace)

    @property
    def blob_directory(self) -> str:
        """The folder of the tables."""
        return self.lake.directory

    @property
    def settings(self) -> Settings:
        """The lake's settings."""
        return self.lake.settings

    def __repr__(self) -> str:
        if not hasattr(self, "lake"):  # in a traceback with locals, when opening the lake failed
            return f"{type(self).__name__}(…)"
        return f"{type(self).__name__}({self.lake.url!r}, blob_directory={self.blob_directory!r})"

    # --- the clock --------------------------------------------------------------------------

    def now(self) -> datetime:
        """The current time, UTC."""
        return self.lake.now()

    def today(self) -> date:
        """The current date where the firm is (``LUXOR_TIME_ZONE``, by default São Paulo)."""
        return self.lake.today()

    # --- tables -----------------------------------------------------------------------------

    def table_exists(self, table_name: str, blob_directory: str | None = None) -> bool:
        """Whether the lake has the table now. An error is raised, never answered with False."""
        return self.lake.table(table_name, blob_directory).find() is not None

    def list_tables(self) -> list[str]:
        """The names of the tables, sorted."""
        return self.lake.tables()

    def get_table(
        self,
        table_name: str,
        index: bool = False,
        index_name: str = "index",
        dtypes_override: Mapping[str, Any] | None = None,
        force_reload: bool = False,
        drop_last_updated_columns: bool = True,
        auto_convert_mapped_types: bool = True,
        *,
        columns: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """A table as a frame with typed columns.

        Parameters
        ----------
        index, index_name
            Whether to make the column ``index_name`` the index.
        dtypes_override
            Types for columns of a legacy text table beyond those known by name:
            ``{"float": […], "date": […], "bool": […], "str_nan_format": […]}``.
        force_reload
            Look at the lake again even if the table has been read.
        drop_last_updated_columns
            Leave ``Last_Updated`` out.
        auto_convert_mapped_types
            False returns a legacy text table's columns as the text they are.
        columns
            Only these columns (or this one), in this order; no others are read.
        where
            Only rows that meet all conditions: column → a value, a list (or Series …) of values, or a tuple
            ``(first, last)``, both included, None for an open end. Dates may be ISO text; one without a
            time is the whole day. Text also finds what is stored trimmed and in lower case.

        Raises
        ------
        TableNotFoundError
        SchemaError
            A column that is not there, or a cell that is not of its column's type.
        CorruptFileError
        """
        if force_reload:
            self.forget(table_name)
        data = self.lake.cache.scan(
            table_name,
            [columns] if isinstance(columns, str) else columns,
            self._rows_wanted(table_name, where, dtypes_override),
            overrides=dtypes_override,
            drop=(LAST_UPDATED,) if drop_last_updated_columns else (),
            raw=not auto_convert_mapped_types,
        )
        with corrupt(f"{self.blob_directory}/{table_name}"):  # old versions of pandas look at the text
            frame = arrow_to_frame(data)
        if index:
            if index_name not in frame.columns:
                raise SchemaError(
                    f"Table {table_name} has no column {index_name!r} to be the index; it has "
                    f"{sample(frame.columns, 20)}.",
                    hint="Name one of its columns in index_name.",
                )
            frame = frame.set_index(index_name)
        return frame

    def scan(
        self, table_name: str, columns: str | Sequence[str] | None = None, where: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """A table as Arrow columns: what `get_table` reads, before it becomes a frame.

        Polars (``pl.from_arrow``) and DuckDB take it without a copy, ``.to_batches()`` gives it piece by piece. The
        parameters and errors are those of `get_table`; ``Last_Updated`` is among the columns.
        """
        names = [columns] if isinstance(columns, str) else columns
        return self.lake.cache.scan(table_name, names, self._rows_wanted(table_name, where))

    def sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> SqlResult:
        """Run a ``SELECT`` over the tables of the lake; see `luxor_pipelines.query.sql`.

        Columns and conditions go down into the scan of each table. Nothing is written, and no file but the
        tables can be reached. Needs the extra ``sql``.

        Parameters
        ----------
        query
            DuckDB's SQL, with ``?`` or ``$name`` for parameters.
        params
            Their values: a list or, by name, a mapping.

        Returns
        -------
        SqlResult
            The rows: ``.df()`` a pandas frame, ``.arrow()`` an Arrow table, ``.pl()`` a Polars frame.

        Raises
        ------
        UsageError
            Not one ``SELECT``, or DuckDB finds fault with it.
        TableNotFoundError, ConfigurationError
        """
        return run_sql(self.lake, query, params)

    @property
    def filesystem(self) -> Any:
        """The fsspec filesystem that the lake lies on, to read files with; `paths` has a table's."""
        return self.lake.storage.filesystem

    def paths(self, table_name: str) -> list[str]:
        """The files of a table on `filesystem`, as they are now: one, or one a month or year.

        A partitioned table's files lack no column, but their months are in their folders' names.

        Raises
        ------
        TableNotFoundError
        """
        return self.lake.paths(table_name, self.blob_directory)

    def update(self, update_attempts_limit: int = 8) -> list[str]:
        """Look for tables changed in the lake since they were read, and name them.

        They are read again when next asked for. ``update_attempts_limit`` is accepted for familiarity only.
        """
        if update_attempts_limit != 8:
            warn_without_effect("update", "update_attempts_limit", "Set LUXOR_RETRIES; a failure is raised.")
        return self.lake.cache.update()

    def forget(self, table_name: str, blob_directory: str | None = None) -> None:
        """Read the table afresh when it is next asked for; `incremental_load` says so after a load."""
        self.lake.forget(table_name, blob_directory)

    def versions(self) -> dict[str, str]:
        """The version of each table that has been read through this object."""
        return self.lake.cache.versions()

    # --- assets and prices ------------------------------------------------------------------

    def get_price_key(self, asset_key: str) -> str:
        """The name of the price series of an asset.

        Raises
        ------
        UnknownAssetError
            No such ``Key`` in ``assets``, or the asset names no series.
        """
        return self.market.assets.price_key(_plain(asset_key))

    def get_price(
        self,
        ticker: str,
        px_date: DateLike | None = None,
        logger_level: str = "trace",
        dr_adjusted: bool = False,
        currency: str = "local",
        usdbrl_ticker: str = USDBRL,
        asset_location: str | None = None,
    ) -> float:
        """The price of a series as of a date; NaN, and a logged reason, where none is recent enough.

        Parameters
        ----------
        ticker
            A price key.
        px_date
            Default today, when the latest price of ``px_last`` counts if newer than the history.
        currency
            ``local``, or the currency to convert to with the rate as of the date.
        logger_level, dr_adjusted, asset_location
            Accepted for familiarity only; ``dr_adjusted=True`` is refused.

        Raises
        ------
        UnknownAssetError
            No price table has the series at all.
        """
        if dr_adjusted:
            raise UsageError(
                "get_price does not adjust for depositary receipts: a BDR's series is its underlying's.",
                hint="Use get_bdr_adj_price(asset_id, date), which is in BRL a BDR.",
            )
        if logger_level != "trace":
            warn_without_effect("get_price", "logger_level", "Set levels with the logging module.")
        if asset_location is not None:
            warn_without_effect("get_price", "asset_location", "A series' currency is known from `assets`.")
        day = self.today() if px_date is None else as_date(px_date)
        rows = self._answers(usdbrl_ticker).prices([_plain(ticker)], day, day, currency, today=self.today())
        missing = rows.without_price()
        if "unknown" in missing.values():
            raise self._unknown_series(_plain(ticker))
        if missing:
            logger.warning("No price of %s as of %s: %s", ticker, day, *missing.values())
        return float(rows.price[-1]) if len(rows) else float("nan")

    def get_prices(
        self,
        tickers: str | Iterable[str] | None = None,
        recent_date: DateLike | None = None,
        previous_date: DateLike | None = None,
        period: str | None = None,
        currency: str = "local",
        usdbrl_ticker: str = USDBRL,
        force_continuous_date_range: bool = True,
        holiday_location: str = "all",
        get_intraday_prices: bool = False,
        force_month_end: bool = False,
        price_overrides: pd.DataFrame | None = None,
        *,
        with_status: bool = False,
    ) -> pd.DataFrame:
        """Prices between two dates, both included.

        Parameters
        ----------
        tickers
            Price keys; default those of all assets.
        recent_date, previous_date
            Default today, and 30 days before; swapped if reversed.
        period
            ``mtd``, ``qtr``, ``ytd`` or ``<N>m``: sets ``previous_date`` to its base date.
        currency
            ``local``, or the currency to convert to, with each day's rate.
        force_continuous_date_range
            True: a row for every calendar day from the series' first price on, carried forward
            within the age limit, null beyond it. False: only days that have an observation.
        holiday_location
            Accepted for familiarity only: prices are as of the day, so no day need be a business day.
        get_intraday_prices
            Extend a range that ends today with ``px_last``, where that is newer than the history.
        force_month_end
            Move the period's base date to its month's end.
        price_overrides
            ``Date``, ``Asset``, ``Last_Price`` in local currency, to use instead of the stored
            prices from the first to the last override of each asset.
        with_status
            Add the columns ``Price_Date`` (of the observation) and ``Status``, one of
            `market.daily.PRICE_STATUSES`, and for a series without any row one at ``recent_date``:
            ``no_price``, or ``unknown`` where no table has the series.

        Returns
        -------
        DataFrame
            ``Date``, ``Asset``, ``Last_Price``, sorted by asset and date. Series that have no price
            at all in the range are named in a logged warning.
        """
        _ignore_location("get_prices", holiday_location)
        start, end = self._range(recent_date, previous_date, period, 30, force_month_end=force_month_end)
        rows = self._answers(usdbrl_ticker).prices(
            self._keys(tickers), start, end, currency,
            continuous=force_continuous_date_range,
            today=self.today() if get_intraday_prices else None,
            overrides=price_overrides,
        )  # fmt: skip
        missing = rows.without_price()
        if missing:
            named = [f"{key}: {status}" for key, status in missing.items()]
            logger.warning("No prices of %d series from %s to %s: %s", len(missing), start, end, sample(named, 10))
        return (rows.with_absent(end) if with_status else rows).to_frame(with_status=with_status)

    def convert_currency(
        self,
        prices: pd.DataFrame,
        price_currency: str | Mapping[str, str],
        dest_currency: str,
        usdbrl_ticker: str = USDBRL,
        force_continuous_date_range: bool = True,
        holiday_location: str = "all",
        get_intraday_prices: bool = False,
        force_month_end: bool = False,
    ) -> pd.DataFrame:
        """Convert a frame of ``Date, Asset, Last_Price`` with the rate as of each row's date.

        Parameters
        ----------
        price_currency
            The currency the prices are in, or a mapping of asset to currency.
        dest_currency
            The currency wanted; the same one returns the prices as they are.
        get_intraday_prices
            Where the last date is today, use the rates of ``px_last`` that are newer than the history.
        force_continuous_date_range, holiday_location, force_month_end
            Accepted for familiarity only: rates are as of the row's date, whatever day that is.

        Returns
        -------
        DataFrame
            A new frame; ``Last_Price`` is null where there is no rate.
        """
        _ignore_location("convert_currency", holiday_location)
        for name, changed in (
            ("force_continuous_date_range", not force_continuous_date_range),
            ("force_month_end", force_month_end),
        ):
            if changed:
                warn_without_effect("convert_currency", name, "Each row has its own date, and takes that date's rate.")
        today = self.today() if get_intraday_prices else None
        return self._answers(usdbrl_ticker).convert(prices, price_currency, dest_currency, today=today)

    # --- returns ----------------------------------------------------------------------------

    def get_pct_change(
        self,
        ticker: str,
        recent_date: DateLike | None = None,
        previous_date: DateLike | None = None,
        period: str | None = None,
        holiday_location: str = "all",
        adjust_amortization: bool = True,
        force_month_end: bool = False,
    ) -> float:
        """The return of one series in its own currency, a fraction; NaN where it cannot be stated.

        The parameters are those of `get_pct_changes`, which also says why one is missing.

        Raises
        ------
        UnknownAssetError
            No price table has the series at all.
        """
        _ignore_location("get_pct_change", holiday_location)
        start, end = self._range(recent_date, previous_date, period, 1, force_month_end=force_month_end)
        key = _plain(ticker)
        answers = self._answers(USDBRL)
        row = answers.changes([key], start, end, adjust=adjust_amortization, today=self.today()).iloc[0]
        if row["Status"] == "no_end" and not answers.is_known(key):
            raise self._unknown_series(key)
        if row["Status"] not in {"ok", "carried"}:
            logger.warning("No return of %s from %s to %s: %s", ticker, start, end, row["Status"])
        return float(row["Pct_Change"])

    def get_pct_changes(
        self,
        tickers: str | Iterable[str] | None = None,
        recent_date: DateLike | None = None,
        previous_date: DateLike | None = None,
        period: str | None = None,
        currency: str = "local",
        usdbrl_ticker: str = USDBRL,
        adjust_amortization: bool = True,
        force_month_end: bool = False,
    ) -> pd.DataFrame:
        """The returns of many series between two dates.

        Parameters
        ----------
        tickers
            Price keys; default those of all assets.
        recent_date, previous_date
            Default today, and the day before.
        period
            ``mtd``, ``qtr``, ``ytd`` or ``<N>m`` before ``recent_date``, instead of ``previous_date``.
        currency
            ``local``, or the currency to convert to.
        adjust_amortization
            Net fund quotas of capital returned (table ``quota_adjustments``, where there is one).
        force_month_end
            Move the period's base date to its month's end.

        Returns
        -------
        DataFrame
            One row for each series asked for, index ``Asset``: ``Pct_Change`` (a fraction, null where
            it cannot be stated), ``Status`` (see `market.returns.STATUSES`), ``Base_Date``,
            ``End_Date``, ``Base_Price``, ``End_Price``.
        """
        start, end = self._range(recent_date, previous_date, period, 1, force_month_end=force_month_end)
        return self._answers(usdbrl_ticker).changes(
            self._keys(tickers), start, end, currency, adjust=adjust_amortization, today=self.today()
        )

    def get_returns(
        self,
        ref_dates: DateLike | Iterable[DateLike],
        tickers: str | Iterable[str] | None = None,
        periods: str | Iterable[str] = PERIODS,
        currency: str | Iterable[str] = "local",
        usdbrl_ticker: str = USDBRL,
        adjust_amortization: bool = True,
    ) -> pd.DataFrame:
        """The returns of many series over many periods, as of many dates: read and looked up once for all.

        What `get_hist_returns` gives of the months that the pipeline has stored, this works out anew, for
        any dates.

        Parameters
        ----------
        ref_dates
            The last dates of the periods.
        tickers
            Price keys; default those of all assets.
        periods
            ``mtd``, ``qtr``, ``ytd`` or ``<N>m``.
        currency
            ``local``, or the currency to convert to, or several.
        adjust_amortization
            Net fund quotas of capital returned (table ``quota_adjustments``, where there is one).

        Returns
        -------
        DataFrame
            ``Currency``, ``Asset``, ``Date``, ``Period``, ``Return`` (a fraction, null where it cannot be
            stated), ``Status`` (see `market.returns.STATUSES`): one row for each of all combinations, in
            that order. Texts are categories, since there may be millions of rows.

        Raises
        ------
        InvalidPeriodError
        UsageError
            No date, or something that is none; no currency, or what is none.
        """
        dates = [ref_dates] if isinstance(ref_dates, DateLike) else list(ref_dates)
        return self._answers(usdbrl_ticker).returns_on(
            self._keys(tickers),
            [as_date(day) for day in dates],
            [periods] if isinstance(periods, str) else list(periods),
            [currency] if isinstance(currency, str) else list(currency),
            adjust=adjust_amortization,
            today=self.today(),
        )

    def get_hist_returns(
        self,
        ref_date: DateLike | None = None,
        currency: str | None = None,
        *,
        wide: bool = False,
        with_status: bool = True,
    ) -> pd.DataFrame:
        """The stored returns of a month, as the pipeline ``hist_returns`` left them.

        Parameters
        ----------
        ref_date
            A date of the month; default the last month stored.
        currency
            ``local``, ``usd`` or ``brl``; default all of them, in wide form ``brl``.
        wide
            False: the stored rows, one for each asset, currency and period. True: one row an asset,
            one column a period.
        with_status
            In wide form, add ``Status``: which periods are not plainly ``ok``, and why.

        Raises
        ------
        TableNotFoundError
        DataError
            The month is not stored.
        UsageError
            The currency is not among those stored.
        """
        return stored_returns(self.lake, self.market.assets, ref_date, currency, wide=wide, with_status=with_status)

    # --- dates ------------------------------------------------------------------------------

    def get_month_end(self, ref_date: DateLike) -> date:
        """The last calendar day of the date's month."""
        return month_end(ref_date)

    def is_month_end(self, date: DateLike) -> bool:
        """Whether the date is the last calendar day of its month."""
        return is_month_end(date)

    def get_start_period_dt(
        self,
        ref_date: DateLike,
        period: str,
        force_bday: bool = False,
        holiday_location: str = "all",
        force_month_end: bool = False,
    ) -> date:
        """The base date of a period: the date whose closing price is the denominator.

        ``force_bday`` moves it back to a business day of ``holiday_location``.

        Raises
        ------
        InvalidPeriodError
            Not ``mtd``, ``qtr``, ``ytd`` or ``<N>m``.
        """
        base = base_date(ref_date, period, force_month_end=force_month_end)
        return self.market.calendar.holidays().roll_back(base, holiday_location) if force_bday else base

    def is_holiday(self, date: DateLike, location: str) -> bool:
        """Whether the date is a holiday: of a location (``us``, ``bz``), of ``any`` or of ``all``."""
        return self.market.calendar.holidays().is_holiday(date, location)

    def is_business_day(self, date: DateLike, location: str = "bz") -> bool:
        """Whether the date is a Monday to Friday that is no holiday of the location."""
        return self.market.calendar.holidays().is_business_day(date, location)

    def get_bday_offset(self, date: DateLike, offset: int = 1, location: str = "bz") -> date:
        """The ``offset``-th business day after the date; before it if negative; 0: itself or the one before."""
        return self.market.calendar.holidays().business_day_offset(date, offset, location)

    def get_bdays_count(
        self,
        recent_date: DateLike,
        previous_date: DateLike,
        location: str = "bz",
        inclusive: Inclusive = "neither",
    ) -> int:
        """Business days between two dates, by default without either; 0 if the first is not later."""
        return self.market.calendar.holidays().business_days_between(recent_date, previous_date, location, inclusive)

    # --- helpers ----------------------------------------------------------------------------

    def _rows_wanted(
        self, table_name: str, where: Mapping[str, Any] | None, overrides: Mapping[str, Any] | None = None
    ) -> Sequence[Where]:
        return conditions(self.lake.cache.codec(table_name, overrides).schema, table_name, where) if where else ()

    def _answers(self, usdbrl_ticker: str) -> Answers:
        return Answers(self.market, usdbrl_ticker)

    def _range(
        self,
        recent_date: DateLike | None,
        previous_date: DateLike | None,
        period: str | None,
        days_back: int,
        *,
        force_month_end: bool,
    ) -> tuple[date, date]:

        if period is not None and previous_date is not None:
            raise UsageError("Both period and previous_date are given.", hint="Give one of them.")
        end = self.today() if recent_date is None else as_date(recent_date)
        if period is not None:
            return base_date(end, period, force_month_end=force_month_end), end
        # "Yesterday" and "30 days ago" count from the date asked for, not from today.
        start = end - timedelta(days=days_back) if previous_date is None else as_date(previous_date)
        return min(start, end), max(start, end)

    def _keys(self, tickers: str | Iterable[str] | None) -> list[str]:
        if tickers is None:
            return self.market.assets.price_keys()
        if isinstance(tickers, str):
            tickers = [tickers]
        return list(dict.fromkeys(_plain(ticker) for ticker in tickers))

    def _unknown_series(self, key: str) -> UnknownAssetError:
        assets = self.market.assets
        known = assets.price_keys() if assets.exists() else []
        return unknown_asset(f"No price table of {self.lake.url} has a series {key!r}", key, known)


def _is_lake(place: object) -> bool:
    """Whether a first argument names a lake rather than a folder of tables in it."""
    if not isinstance(place, str):
        return isinstance(place, Lake | os.PathLike)
    return "://" in place or bool(_LAKE.match(place))


_LAKE = re.compile(r"[/\\.~]|[A-Za-z]:")


def _ignore_location(method: str, location: str) -> None:
    if location != "all":
        warn_without_effect(
            method,
            "holiday_location",
            "Prices are as of the day, business day or not; get_start_period_dt(force_bday=True) moves a base date.",
        )


def _plain(text: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is not a ticker.", hint="Give its text.")
    return text.strip().lower()
