"""`LuxorQuery`: the readers' one door to the lake. Thin: it delegates to its lake and its market."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from luxor_pipelines.analytics.cash_flows import twr, xirr
from luxor_pipelines.analytics.composites import as_weights
from luxor_pipelines.catalog import CDI, CURRENCY_FACTS, PERIODS, USDBRL, open_lake
from luxor_pipelines.errors import SchemaError, Secret, UnknownAssetError, UsageError, sample, shown
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.parquet.footer import corrupt
from luxor_pipelines.lake.parquet.predicates import Conditions, Where, conditions
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.market.calendars import Inclusive
from luxor_pipelines.market.columns import check_frame
from luxor_pipelines.market.periods import (
    DateLike,
    add_months,
    as_date,
    as_period,
    base_date,
    days_before,
    is_month_end,
    month_end,
)
from luxor_pipelines.names import as_names, normal_name
from luxor_pipelines.notebook import html_facts
from luxor_pipelines.notices import warn_without_effect
from luxor_pipelines.query.analysis import Analysis, correlation_pairs
from luxor_pipelines.query.answers import Answers
from luxor_pipelines.query.description import TableDescription, describe
from luxor_pipelines.query.market_data import MarketData
from luxor_pipelines.query.reference import Reference
from luxor_pipelines.query.sql import SqlResult, run_sql
from luxor_pipelines.query.stored_returns import stored_returns
from luxor_pipelines.settings import Settings

__all__ = ["LuxorQuery"]

logger = logging.getLogger(__name__)

_PLUMBING = frozenset({"blob_directory", "forget", "market", "settings", "versions"})
"""Public names that tab completion leaves out: they are for the library's other rooms."""

_DAYS_AHEAD = 366
"""The most days that the last date of a question may lie after today."""


class LuxorQuery:
    """The lake, for reading: tables, prices, returns, calendars.

    Tables that have been read are kept by version and served again, so that everything computed from one object
    agrees. `update` looks for changes made elsewhere; a new question about a table that has been replaced meanwhile
    is answered from its new version. Frames belong to the caller: changing one changes nothing here.

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

    A ``with`` statement drops what has been read at its end:

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
        if lake is None and _is_lake(blob_directory):
            lake = Secret(blob_directory) if isinstance(blob_directory, str) else blob_directory
            blob_directory = DIRECTORY
        elif lake is None and blob_directory != DIRECTORY and _is_folder_here(blob_directory):
            logger.warning(
                "%r is taken for a folder of tables in the lake. The lake in this folder of yours is LuxorQuery(%r).",
                blob_directory,
                f"./{blob_directory}",
            )
        self._opened = not isinstance(lake, Lake)
        self.lake = (
            lake
            if isinstance(lake, Lake)
            else open_lake(
                lake,
                cast("str", blob_directory),
                connection_string=adls_connection_string,
                container=container_name,
                settings=settings,
                clock=clock,
            )
        )
        self.market = MarketData(self.lake)

    def __enter__(self) -> LuxorQuery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what has been read; a lake that was handed in is left to whoever opened it."""
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

    def _repr_html_(self) -> str:
        facts = {"Lake": self.lake.url, "Tables": f"{self.blob_directory}: lq.list_tables() names them"}
        return html_facts("LuxorQuery", facts | {"Today": self.today(), "Read so far": ", ".join(self.versions())})

    def __dir__(self) -> list[str]:
        return sorted(name for name in super().__dir__() if name not in _PLUMBING)

    def __reduce__(self) -> Any:
        raise TypeError(
            "A LuxorQuery holds connections and is neither pickled nor copied. Open the lake again where it is needed, "
            f"as LuxorQuery(lake={self.lake.url!r}); the frames that it gives are plain data and can be sent on."
        )

    # --- the clock --------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the current time, UTC."""
        return self.lake.now()

    def today(self) -> date:
        """Return the current date where the firm is (``LUXOR_TIME_ZONE``, by default São Paulo)."""
        return self.lake.today()

    # --- tables -----------------------------------------------------------------------------

    def table_exists(self, table_name: str, blob_directory: str | None = None) -> bool:
        """Return whether the lake has the table now. An error is raised, never answered with False."""
        return self.lake.table(table_name, blob_directory).find() is not None

    def list_tables(self) -> list[str]:
        """Return the names of the tables, sorted."""
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
        where: Conditions | None = None,
    ) -> pd.DataFrame:
        """Return a table as a frame with typed columns.

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
            Leave ``Last_Updated`` out; else it is in UTC and without a zone, as workbooks take it.
        auto_convert_mapped_types
            False returns a legacy text table's columns as the text they are.
        columns
            Only these columns (or this one), in this order; no others are read.
        where
            Only rows that meet all conditions. As text, one or several: ``"Status != ok"``, ``"Date >= 2026-01-01"``,
            ``"Date between 2026-01-01 and 2026-03-31"``, ``"Name contains euro"``, ``"Return is null"``. Or by column:
            a value, a list (or Series …) of values, a tuple ``(first, last)``, both included, None for an open end, or
            an operator and a value, ``{"Return": (">=", 0.1)}``. Dates may be ISO text; one without a
            time is the whole day. Text is compared without regard to case and outer blanks. A null meets only
            ``is null``.

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
            None if columns is None else as_names(columns, "columns"),
            self._rows_wanted(table_name, where, dtypes_override),
            overrides=dtypes_override,
            drop=(LAST_UPDATED,) if drop_last_updated_columns else (),
            raw=not auto_convert_mapped_types,
        )
        with corrupt(f"{self.blob_directory}/{table_name}"):  # old versions of pandas look at the text
            frame = arrow_to_frame(data)
        if index:
            if index_name not in list(frame.columns):
                raise SchemaError(
                    f"Table {table_name} has no column {index_name!r} to be the index; it has "
                    f"{sample(frame.columns, 20)}.",
                    hint="Name one of its columns in index_name.",
                )
            frame = frame.set_index(index_name)
        return frame

    def scan(
        self, table_name: str, columns: str | Sequence[str] | None = None, where: Conditions | None = None
    ) -> pa.Table:
        """Return a table as Arrow columns: what `get_table` reads, before it becomes a frame.

        Polars (``pl.from_arrow``) and DuckDB take it without a copy, ``.to_batches()`` gives it piece by piece. The
        parameters and errors are those of `get_table`; ``Last_Updated`` is among the columns.
        """
        names = None if columns is None else as_names(columns, "columns")
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
        """Return the files of a table on `filesystem`, as they are now: one, or one a month or year.

        A partitioned table's files lack no column, but their months are in their folders' names.

        Raises
        ------
        TableNotFoundError
        """
        return self.lake.paths(table_name, self.blob_directory)

    def describe(self, table_name: str) -> TableDescription:
        """Describe a table: columns, types, share of missing cells, key, rows, dates, layout, size, last load.

        Raises
        ------
        TableNotFoundError
        CorruptFileError
        """
        return describe(self.lake, table_name)

    def update(self, update_attempts_limit: int = 8) -> list[str]:
        """Look for tables changed in the lake since they were read, and name them.

        They are read again when next asked for. ``update_attempts_limit`` is accepted for familiarity only.
        """
        if update_attempts_limit != 8:
            warn_without_effect("update", "update_attempts_limit", "Set LUXOR_RETRIES; a failure is raised.")
        return self.lake.cache.update()

    def forget(self, table_name: str, blob_directory: str | None = None) -> None:
        """Have a table read afresh when it is next asked for; `incremental_load` calls this after a load."""
        self.lake.forget(table_name, blob_directory)

    def versions(self) -> dict[str, str]:
        """Return the version of each table that has been read through this object."""
        return {name: version for name, version in self.lake.cache.versions().items() if version is not None}

    # --- assets and prices ------------------------------------------------------------------

    def get_price_key(self, asset_key: str) -> str:
        """Return the name of the price series of an asset.

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
        """Return the price of a series as of a date; NaN, and a logged reason, where none is recent enough.

        Parameters
        ----------
        ticker
            A price key, or a ``Key``, ``Ticker`` or ``Name`` of an asset that leads to one.
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
        key, day = self._key(ticker), self.today() if px_date is None else as_date(px_date)
        rows = self._answers(usdbrl_ticker).prices([key], day, day, currency, today=self.today())
        missing = rows.without_price()
        if "unknown" in missing.values():
            raise self._unknown_series(key)
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
        wide: bool = False,
        calendar: Literal["observed", "calendar", "business"] | None = None,
        start: DateLike | None = None,
        end: DateLike | None = None,
    ) -> pd.DataFrame:
        """Return prices between two dates, both included.

        On calendar days weekends repeat Friday's price, so that a volatility worked out of them is too low: 4.51 % a
        year instead of 5.41 % of EURUSD in 2025. Take ``calendar="observed"`` for statistics, or `statistics`.

        Parameters
        ----------
        tickers
            Price keys, or names of assets that lead to one (``Key``, ``Ticker``, ``Name``, in this order); default the
            price keys of all assets. Two names of one series give one row. Rows show the price key; a name that nothing
            matches is shown as it was given.
        recent_date, previous_date
            Default today, and 30 days before; swapped if reversed. ``end`` and ``start`` are other names of them.
        period
            ``mtd``, ``qtr``, ``ytd`` or ``<N>m``: sets ``previous_date`` to its base date.
        currency
            ``local``, or the currency to convert to, with each day's rate.
        calendar
            ``calendar`` (default): a row for every calendar day from the series' first row on, carried forward
            within the age limit, null beyond it. ``business``: of these the business days of ``holiday_location``.
            ``observed``: the days on which a table has a row of the series.
        force_continuous_date_range
            The familiar way to say ``calendar="observed"``: False.
        holiday_location
            For ``calendar="business"`` a location of the holidays, ``any`` or ``all``; else without effect.
        get_intraday_prices
            Extend a range that ends today with ``px_last``, where that is newer than the history.
        force_month_end
            Move the period's base date to its month's end.
        price_overrides
            ``Date``, ``Asset``, ``Last_Price`` in local currency, to use instead of the stored
            prices from the first to the last override of each asset.
        with_status
            Add the columns ``Price_Date`` (of the row) and ``Status``, one of
            `market.daily.PRICE_STATUSES`, and for a series without any row one at ``recent_date``:
            ``no_price``, or ``unknown`` where no table has the series.
        wide
            One column a series, index ``Date``.

        Returns
        -------
        DataFrame
            ``Date``, ``Asset``, ``Last_Price``, sorted by asset and date. Series that have no price
            at all in the range are named in a logged warning.
        """
        on = calendar or ("calendar" if force_continuous_date_range else "observed")
        if on not in ("observed", "calendar", "business"):
            raise UsageError(f"calendar={calendar!r} is unknown.", hint="Use observed, calendar or business.")
        if wide and with_status:
            raise UsageError("A column a series has no room for a status.", hint="Leave wide or with_status out.")
        if on != "business":
            _ignore_location("get_prices", holiday_location)
        recent_date, previous_date = _either(recent_date, end, "end"), _either(previous_date, start, "start")
        first, last = self._range(recent_date, previous_date, period, 30, force_month_end=force_month_end)
        tickers = _as_list(tickers)
        keys, answers = self._keys(tickers), self._answers(usdbrl_ticker)
        rows = answers.prices(
            keys, first, last, currency,
            days="observed" if on == "observed" else "all",
            today=self.today() if get_intraday_prices else None,
            overrides=None if price_overrides is None else self._renamed(price_overrides),
        )  # fmt: skip
        missing = rows.without_price()
        if missing:
            named = [
                f"{key}: {status}{answers.suggestion(key) if status == 'unknown' else ''}"
                for key, status in list(missing.items())[:10]
            ]
            logger.warning("No prices of %d series from %s to %s: %s", len(missing), first, last, "; ".join(named))
        if on == "business":
            rows = rows.where(self.market.calendar.holidays().are_business_days(rows.date, holiday_location))
        if wide:
            return rows.to_wide().reindex(columns=pd.Index(sorted(keys), dtype="str"))
        frame = (rows.with_absent(last) if with_status else rows).to_frame(with_status=with_status)
        return _as_given(frame, tickers) if with_status else frame

    def find(self, text: str, limit: int = 20) -> pd.DataFrame:
        """Look for assets by a part of a name, or something near one.

        Returns
        -------
        DataFrame
            ``Key``, ``Name``, ``Price_Key``, ``Currency``, ``First_Date`` and ``Last_Date`` (of the series' rows),
            the nearest first.
        """
        if not isinstance(text, str):
            raise UsageError(f"{text!r} is not a text to look for.", hint="Give a part of a name.")
        assets = self.market.assets.find(text, limit)
        first, last = self._answers(USDBRL).dates_of(assets["Price_Key"].fillna(""))
        return assets.assign(First_Date=first, Last_Date=last)

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
            If the last date is today, use the rates of ``px_last`` that are newer than the history.
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
        *,
        currency: str = "local",
        usdbrl_ticker: str = USDBRL,
    ) -> float:
        """Compute the return of one series, a fraction; NaN, and a logged reason, where it cannot be stated.

        The parameters are those of `get_pct_changes`, which also says why one is missing.

        Raises
        ------
        UnknownAssetError
            No price table has the series at all.
        """
        _ignore_location("get_pct_change", holiday_location)
        start, end = self._range(recent_date, previous_date, period, 1, force_month_end=force_month_end)
        key, answers = self._key(ticker), self._answers(usdbrl_ticker)
        row = answers.changes([key], start, end, currency, adjust=adjust_amortization, today=self.today()).iloc[0]
        if row["Status"] == "unknown":
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
        """Return the returns of many series between two dates.

        Parameters
        ----------
        tickers
            Price keys, or names of assets that lead to one (``Key``, ``Ticker``, ``Name``, in this order); default the
            price keys of all assets. Two names of one series give one row. Rows show the price key; a name that nothing
            matches is shown as it was given.
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
        tickers = _as_list(tickers)
        frame = self._answers(usdbrl_ticker).changes(
            self._keys(tickers), start, end, currency, adjust=adjust_amortization, today=self.today()
        )
        return _as_given(frame.reset_index(), tickers).set_index("Asset")

    def get_returns(
        self,
        ref_dates: DateLike | Iterable[DateLike],
        tickers: str | Iterable[str] | None = None,
        periods: str | Iterable[str] = PERIODS,
        currency: str | Iterable[str] = "local",
        usdbrl_ticker: str = USDBRL,
        adjust_amortization: bool = True,
        *,
        annualized: bool = False,
    ) -> pd.DataFrame:
        """Return the returns of many series over many periods, as of many dates: read and looked up once for all.

        `get_hist_returns` returns the months that the pipeline has stored; this computes returns anew, for any dates.

        Parameters
        ----------
        ref_dates
            The last dates of the periods.
        tickers
            Price keys, or names of assets that lead to one (``Key``, ``Ticker``, ``Name``, in this order); default the
            price keys of all assets. Two names of one series give one row. Rows show the price key; a name that nothing
            matches is shown as it was given.
        periods
            ``mtd``, ``qtr``, ``ytd`` or ``<N>m``; also ``wtd`` (since the last Sunday before the date's week), ``1y``
            (as ``12m``) and ``inception`` (since each series' first observation).
        currency
            ``local``, or the currency to convert to, or several.
        adjust_amortization
            Net fund quotas of capital returned (table ``quota_adjustments``, where there is one).
        annualized
            Give (1 + R)^(365 / days) − 1; null with the status ``short`` for less than 12 months.

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
            There is no date or no currency, or a value is not one.
        """
        several = isinstance(ref_dates, Iterable) and not isinstance(ref_dates, str)
        dates = list(cast("Iterable[DateLike]", ref_dates)) if several else [ref_dates]
        tickers = _as_list(tickers)
        frame = self._answers(usdbrl_ticker).returns_on(
            self._keys(tickers),
            [as_date(day) for day in dates],
            as_names(periods, "periods"),
            as_names(currency, "currency"),
            adjust=adjust_amortization,
            today=self.today(),
            a_year=annualized,
        )
        return _as_given(frame, tickers)

    def get_hist_returns(
        self,
        ref_date: DateLike | None = None,
        currency: str | Iterable[str] | None = None,
        *,
        wide: bool = False,
        with_status: bool = True,
    ) -> pd.DataFrame:
        """Return the stored returns of a month, as the pipeline ``hist_returns`` left them.

        Parameters
        ----------
        ref_date
            A date of the month; default the last month stored.
        currency
            ``local``, ``usd`` or ``brl``, or several; default all of them, in wide form ``brl``.
        wide
            False: the stored rows, one for each asset, currency and period. True: one row an asset, and currency
            where there are several, one column a period.
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

    def rolling_returns(
        self,
        tickers: str | Iterable[str],
        previous_date: DateLike,
        recent_date: DateLike | None = None,
        currency: str = "local",
        *,
        period: str = "12m",
        annualized: bool = False,
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame:
        """Compute the return over a number of months, as of each month end between two dates and as of the last one.

        Parameters
        ----------
        period
            ``<N>m``: how many months each return is over; its base may lie before ``previous_date``.
        annualized
            Give (1 + R)^(365 / days) − 1; null for less than 12 months.

        Returns
        -------
        DataFrame
            A row a date, a column a series; fractions, null where `get_returns` has a reason to give none.
        """
        start, end = self._range(recent_date, previous_date, None, 0, force_month_end=False)
        label = as_period(period)
        if not label.endswith("m"):
            raise UsageError(f"A rolling return over {period!r}", hint="Give a number of months, such as 12m.")
        return self._analysis(usdbrl_ticker).rolling_returns(
            self._keys(tickers), int(label[:-1]), start, end, currency, a_year=annualized
        )

    def returns_table(
        self,
        ticker: str,
        currency: str = "local",
        *,
        benchmark: str | None = None,
        previous_date: DateLike | None = None,
        recent_date: DateLike | None = None,
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame:
        """Return the returns of a series by month and year, as fund reports print them.

        Parameters
        ----------
        ticker
            A price key, or a ``Key``, ``Ticker`` or ``Name`` of an asset that leads to one.
        benchmark
            A series whose return of each year stands beside, over the same days.
        previous_date, recent_date
            Default the first observation, and today.

        Returns
        -------
        DataFrame
            Index ``Year``; columns ``Jan`` to ``Dec``, ``Year``, ``Benchmark`` if asked for: fractions, null where
            `get_returns` has a reason to give none. ``Partial`` tells which months, and so the year, are of a part of
            their days only: ``Mar from 2015-03-12``; blank where all are whole.
        """
        end = self._last_date(recent_date)
        return self._analysis(usdbrl_ticker).returns_table(
            self._key(ticker),
            currency,
            None if benchmark is None else self._key(benchmark),
            None if previous_date is None else as_date(previous_date),
            end,
        )

    # --- statistics and risk ----------------------------------------------------------------

    def statistics(
        self,
        tickers: str | Iterable[str],
        previous_date: DateLike,
        recent_date: DateLike | None = None,
        currency: str = "local",
        benchmark: str | None = None,
        risk_free: float | str | None = None,
        *,
        sample_frequency: str = "daily",
        level: float = 0.95,
        usdbrl_ticker: str = USDBRL,
        with_status: bool = False,
    ) -> pd.DataFrame:
        """Return the statistics of each series between two dates: CAGR, volatility, Sharpe, drawdown and so on.

        `luxor_pipelines.analytics.statistics.STATISTICS` has every formula.

        Parameters
        ----------
        tickers
            Price keys.
        previous_date, recent_date
            The dates that the figures are to represent; default today. The first price is the one as of
            ``previous_date``.
        currency
            ``local``, or the currency to convert to.
        benchmark
            A series to compare with: beta, alpha, tracking error, capture and so on are added.
        risk_free
            A rate a year, or the series of an interest index; default 0.
        sample_frequency
            ``daily``, ``weekly`` or ``monthly``: how returns are sampled; it also says how many make a year.
        level
            The confidence level of value at risk and expected shortfall.
        with_status
            Return one row a statistic and asset instead: ``Statistic``, ``Asset``, ``Value`` and ``Status``, which says
            why a value is null.

        Returns
        -------
        DataFrame
            One row a statistic, one column an asset. A statistic that the dates or the prices do not carry is null,
            and a warning names its asset with the reason: less than 12 months (``short``), fewer than 60 % of the
            periods with a return (``sparse``), no value (``undefined``), or the status of the return.
        """
        start, end = self._range(recent_date, previous_date, None, 0, force_month_end=False)
        table = self._analysis(usdbrl_ticker).statistics(
            self._keys(tickers), start, end, currency, sample_frequency,
            benchmark=None if benchmark is None else self._key(benchmark),
            risk_free=self._key(risk_free) if isinstance(risk_free, str) else risk_free,
            level=level,
        )  # fmt: skip
        return table.to_long() if with_status else table.values

    def calculate_volatility(
        self,
        tickers: str | Iterable[str],
        min_rolling_period_months: int = 12,
        analysis_period_days: int = 365,
        currency: str = "local",
        sample_frequency: str = "monthly",
        usdbrl_ticker: str = USDBRL,
        *,
        recent_date: DateLike | None = None,
        rolling: bool = True,
    ) -> pd.DataFrame:
        """Return the volatility a year: the standard deviation of log returns times √252, √52 or √12, a fraction.

        Parameters
        ----------
        min_rolling_period_months
            Over how many months up to ``recent_date`` rolling figures are given.
        analysis_period_days
            The length of each window, in calendar days.
        sample_frequency
            ``daily`` (on days observed), ``weekly`` or ``monthly``.
        recent_date
            The last date; default today.
        rolling
            False: one figure, of the window that ends on ``recent_date``.

        Returns
        -------
        DataFrame
            ``Ticker``, ``Date``, ``Volatility``: one row a series and sample, null where a window begins before the
            series or has returns for fewer than 60 % of its periods.

        Raises
        ------
        UsageError
            A window that is no whole number, such as a date.
        """
        windows: dict[str, object] = {"months": min_rolling_period_months, "days": analysis_period_days}
        for name, length in windows.items():
            if not isinstance(length, int | np.integer):
                raise UsageError(
                    f"{shown(length)} is no number of {name}.",
                    hint="After the tickers come min_rolling_period_months and analysis_period_days; the last date is "
                    "given by name, as recent_date.",
                )
        end = self._last_date(recent_date)
        analysis, keys = self._analysis(usdbrl_ticker), self._keys(tickers)
        if not rolling:
            start = days_before(end, analysis_period_days)
            return analysis.volatility(keys, start, end, currency, sample_frequency)
        start = add_months(end, -min_rolling_period_months)
        return analysis.rolling_volatility(keys, analysis_period_days, start, end, currency, sample_frequency)

    def calculate_drawdown(
        self,
        tickers: str | Iterable[str],
        previous_date: DateLike,
        recent_date: DateLike | None = None,
        currency: str = "local",
        *,
        worst: int | None = None,
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame:
        """Return how far prices lie below their highest since ``previous_date``: P(t) / max P(s ≤ t) − 1.

        Parameters
        ----------
        worst
            Return this number of the deepest drawdowns of each series instead.

        Returns
        -------
        DataFrame
            Index ``Date`` (days observed); ``Asset``, ``Last_Price``, ``Period_Change`` (since the first price),
            ``Previous_Peak``, ``Drawdowns``. With ``worst``: ``Asset``, ``Rank``, ``Drawdown``, ``Peak``, ``Trough``,
            ``Recovery`` (null where the peak has not been reached again), ``Days``, ``Days_Down``.
        """
        start, end = self._range(recent_date, previous_date, None, 0, force_month_end=False)
        analysis, keys = self._analysis(usdbrl_ticker), self._keys(tickers)
        if worst is not None:
            return analysis.worst_drawdowns(keys, start, end, currency, worst)
        return analysis.drawdown(keys, start, end, currency)

    def calculate_tracking_error(
        self,
        returns_ticker: str,
        benchmark_ticker: str,
        previous_date: DateLike | None = None,
        recent_date: DateLike | None = None,
        period: str | None = None,
        holiday_location: str = "all",
        *,
        currency: str = "local",
        sample_frequency: str = "daily",
        usdbrl_ticker: str = USDBRL,
    ) -> float:
        """Compute the tracking error a year: the standard deviation of return differences times √252, √52 or √12.

        Daily returns are between days on which both have a price.

        Parameters
        ----------
        recent_date, previous_date, period
            Default yesterday, and 730 days before; a ``period`` sets ``previous_date`` to its base date.
        holiday_location
            Kept for familiarity: only days on which both were observed count.

        Returns
        -------
        float
            A fraction; NaN, and a logged reason, with returns for fewer than 60 % of the periods.
        """
        _ignore_location("calculate_tracking_error", holiday_location)
        yesterday = self.today() - timedelta(days=1) if recent_date is None else recent_date
        start, end = self._range(yesterday, previous_date, period, 730, force_month_end=False)
        return self._analysis(usdbrl_ticker).tracking_error(
            self._key(returns_ticker), self._key(benchmark_ticker), start, end, currency, sample_frequency
        )

    def calculate_price_correlation(
        self,
        assets_data: Mapping[str, Mapping[str, str]] | Iterable[str],
        sample_frequency: str = "monthly",
        period: str = "12m",
        ref_date: DateLike | None = None,
        *,
        currency: str = "local",
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame:
        """Return the correlation of the returns of each pair of series, a row a pair and direction; see `correlation`.

        Parameters
        ----------
        assets_data
            Ticker → ``{"Name": …, "Key": …}``; or tickers, which then are their own names and keys.
        period
            How far back from ``ref_date``, by default today.

        Returns
        -------
        DataFrame
            ``Order``, ``Asset_Corr``, ``Asset`` (names), ``Correlation``, ``Key_Asset_Corr``, ``Key_Asset``,
            ``Comp_Key`` (the two keys), ``Frequency``, ``Period``.
        """
        end = self._last_date(ref_date)
        names = as_names(assets_data, "assets_data")
        facts_of = dict(assets_data) if isinstance(assets_data, Mapping) else {_plain(name): {} for name in names}
        data = {self._key(ticker): facts for ticker, facts in facts_of.items()}
        start = base_date(end, period)
        square = self._analysis(usdbrl_ticker).correlation(list(data), start, end, currency, sample_frequency)
        return correlation_pairs(square, data, sample_frequency, period)

    def correlation(
        self,
        tickers: Iterable[str],
        previous_date: DateLike,
        recent_date: DateLike | None = None,
        currency: str = "local",
        *,
        sample_frequency: str = "monthly",
        window: int | None = None,
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame | pd.Series:
        """Return Pearson's correlation of returns, pair by pair over the returns that both have.

        Parameters
        ----------
        sample_frequency
            ``daily``, ``weekly`` or ``monthly``. A daily return counts for a pair where both were last observed on the
            same day before.
        window
            For two series: return their correlation over this number of returns in common, at each of these.

        Returns
        -------
        DataFrame or Series
            A row and a column a series, null where a pair has returns for fewer than 60 % of the periods; with
            ``window`` a series by date.
        """
        start, end = self._range(recent_date, previous_date, None, 0, force_month_end=False)
        analysis, keys = self._analysis(usdbrl_ticker), self._keys(tickers)
        if window is None:
            return analysis.correlation(keys, start, end, currency, sample_frequency)
        if len(keys) != 2:
            raise UsageError(f"{len(keys)} series to correlate over time", hint="Give two.")
        return analysis.rolling_correlation(keys, window, start, end, currency, sample_frequency)

    def beta(
        self,
        tickers: str | Iterable[str],
        benchmark: str,
        previous_date: DateLike,
        recent_date: DateLike | None = None,
        currency: str = "local",
        risk_free: float | str | None = None,
        *,
        sample_frequency: str = "daily",
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame:
        """Estimate beta and Jensen's alpha a year against a benchmark, by least squares, with standard errors.

        Returns
        -------
        DataFrame
            Index ``Asset``: ``Beta``, ``Alpha``, ``Beta_Error``, ``Alpha_Error``, ``R_Squared``, ``Observations``; null
            with returns for fewer than 60 % of the periods.
        """
        start, end = self._range(recent_date, previous_date, None, 0, force_month_end=False)
        return self._analysis(usdbrl_ticker).regression(
            self._keys(tickers), self._key(benchmark), start, end, currency, sample_frequency,
            self._key(risk_free) if isinstance(risk_free, str) else risk_free,
        )  # fmt: skip

    def quote_against_rate(
        self,
        tickers: str | Iterable[str],
        rate_ticker: str = CDI,
        recent_date: DateLike | None = None,
        previous_date: DateLike | None = None,
        period: str | None = None,
        currency: str = "local",
        *,
        location: str = "bz",
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame:
        """Return performance as a percentage of a reference rate and as a spread, as Brazilian funds are quoted.

        Parameters
        ----------
        rate_ticker
            The series of the rate's accumulated level, by default the Selic's. `analytics.interest.accumulate_rate`
            makes one of a table of rates.
        recent_date, previous_date, period
            Default today, and the last day of the previous year.
        location
            Whose business days a year of 252 is made of.

        Returns
        -------
        DataFrame
            Index ``Asset``: ``Return``, ``Rate_Return``, ``Percent_Of_Rate`` (1.1 is "110 % of CDI", null where the
            rate earned nothing), ``Spread`` (0.02 is "CDI + 2 % a year"), ``Business_Days``, ``Status``.
        """
        if period is None and previous_date is None:
            period = "ytd"
        start, end = self._range(recent_date, previous_date, period, 0, force_month_end=False)
        holidays = self.market.calendar.holidays()
        return self._analysis(usdbrl_ticker).quote_against_rate(
            self._keys(tickers), self._key(rate_ticker), start, end, currency, holidays, location
        )

    # --- benchmarks, portfolios and cash flows ------------------------------------------------

    def get_benchmark(
        self,
        legs: Mapping[str, float],
        previous_date: DateLike,
        recent_date: DateLike | None = None,
        rebalance: str = "monthly",
        currency: str = "usd",
        usdbrl_ticker: str = USDBRL,
    ) -> pd.DataFrame:
        """Return the level of a composite of weighted legs on every day, 1 on the first.

        Parameters
        ----------
        legs
            Ticker → weight; the weights add up to 1.
        rebalance
            ``monthly``, ``quarterly``, ``daily`` or ``none``: when the legs are reset to their weights.
        currency
            The currency of the level, or ``local`` where all legs have the same.

        Returns
        -------
        DataFrame
            Index ``Date``, column ``Benchmark``; null on days on which a leg has no price.

        Raises
        ------
        DataError
            A leg has no price on the first day or at a reset, or its currency is not known.
        """
        start, end = self._range(recent_date, previous_date, None, 0, force_month_end=False)
        return self._analysis(usdbrl_ticker).benchmark(self._weights(legs), start, end, rebalance, currency).to_frame()

    def get_benchmark_spx_cash(
        self,
        previous_date: DateLike,
        recent_date: DateLike,
        prop_spx: float = 0.8,
        prop_cash: float = 0.2,
        currency: str = "usd",
        usdbrl_ticker: str = USDBRL,
        cash_ticker: str = "jpmutcc lx equity",
        spx_ticker: str = "spxt index",
    ) -> pd.DataFrame:
        """Return the composite of the S&P 500 and cash, reset at month ends; see `get_benchmark`."""
        legs = {_plain(spx_ticker): prop_spx, _plain(cash_ticker): prop_cash}
        return self.get_benchmark(legs, previous_date, recent_date, "monthly", currency, usdbrl_ticker)

    def simulate_portfolio_performance(
        self,
        portfolio: Mapping[str, float],
        portfolio_date: DateLike,
        adm_fee: float = 0.0,
        performance_fee: float = 0.0,
        *,
        recent_date: DateLike | None = None,
        currency: str = "usd",
        usdbrl_ticker: str = USDBRL,
    ) -> pd.Series:
        """Return what 1 invested in a portfolio on a date, and left alone, is worth on every day since.

        Parameters
        ----------
        portfolio
            Price key → weight; the weights add up to 1, and drift with the prices.
        adm_fee
            The administration fee a year, taken each calendar day.
        performance_fee
            The fraction of the gain since ``portfolio_date`` that is due on each day.

        Returns
        -------
        Series
            Growth factors by ``Date``, 1 on the first; null on days on which an asset has no price.

        Raises
        ------
        DataError
            An asset has no price on the first day.
        """
        start, end = self._range(recent_date, portfolio_date, None, 0, force_month_end=False)
        weights = self._weights(portfolio)
        return self._analysis(usdbrl_ticker).simulate(weights, start, end, currency, adm_fee, performance_fee)

    def xirr(self, cashflows: Iterable[float], dates: Iterable[DateLike]) -> float:
        """Return the money-weighted rate a year of dated cash flows, actual/365; see `analytics.cash_flows.xirr`.

        Raises
        ------
        DataError
            No rate, or more than one, makes the flows worth 0.
        """
        return xirr(cashflows, cast("Any", dates))

    def twr(self, values: Iterable[float], flows: Iterable[float] | None = None) -> float:
        """Return the time-weighted return of a portfolio; see `analytics.cash_flows.twr`."""
        return twr(values, flows)

    # --- reference --------------------------------------------------------------------------

    def get_data(
        self, ticker: str, flds: str, data_date: DateLike | None = None, logger_level: str = "trace"
    ) -> float | date | str | None:
        """Return one field of an asset, from the lake's tables of fields; ``px_last`` is its price.

        Parameters
        ----------
        ticker
            A Bloomberg ticker, or another name of the asset, as in `get_prices`.
        flds
            The field's name.
        data_date
            The value of the last row on or before that date; default the latest value.

        Returns
        -------
        float, date, str or None
            The value in the type that the table ``field_map`` states. None, and a logged reason, without a value.
        """
        if logger_level != "trace":
            warn_without_effect("get_data", "logger_level", "Set levels with the logging module.")
        if _plain(flds) == "px_last":
            return self.get_price(ticker, data_date)
        day = None if data_date is None else as_date(data_date)
        return self._reference().field(_plain(ticker), _plain(flds), day, self._key)

    def get_bdr_size(self, ticker: str) -> float:
        """Return how many BDRs of a ticker there are for one underlying share.

        Raises
        ------
        UnknownAssetError, DataError
        """
        return self._reference().bdr_size(_plain(ticker))

    def get_bdr_adj_price(self, asset_id: str, date: DateLike, usdbrl_ticker: str = USDBRL) -> float:
        """Return the price of one BDR in BRL: its underlying share's, converted, over the number of BDRs for one share.

        Parameters
        ----------
        asset_id
            The BDR's ``Key`` in ``assets``.

        Returns
        -------
        float
            NaN, and a logged reason, where there is no price or rate.
        """
        price_key, size = self._reference().bdr_of(_plain(asset_id))
        return self.get_price(price_key, date, currency="brl", usdbrl_ticker=usdbrl_ticker) / size

    def get_asset_name(self, ticker: str) -> str:
        """Return the display name of the asset with a ticker.

        Raises
        ------
        UnknownAssetError
        """
        return self._reference().name(_plain(ticker))

    def get_px_update_time(self) -> time | None:
        """Return the time of day of the newest query for current prices, as stored; None where there is none."""
        return self._reference().price_time()

    def usdbrl_clean_coupon_fix(self, usdbrl_df: pd.DataFrame) -> pd.DataFrame:
        """Return prices of the clean-coupon series with one for today: its last price, moved by spot's change since.

        q(today) = clean(last) × spot(today) / spot(last); a basis between the two series does not enter. Prices that
        reach today are returned as they are, and so are those since which spot has no newer price.

        Parameters
        ----------
        usdbrl_df
            ``Date`` and ``Last_Price``; other columns are kept.
        """
        check_frame(usdbrl_df, "usdbrl_df")
        frame = usdbrl_df.sort_values("Date", kind="stable", ignore_index=True)
        today = pd.Timestamp(self.today())
        if frame.empty or frame["Date"].iloc[-1] >= today:
            return frame
        row = frame.iloc[[-1]].copy()
        spot = [self.get_price(CURRENCY_FACTS.brl_spot, day) for day in (row["Date"].iloc[0], today)]
        if not np.isfinite(spot).all():
            return frame
        row["Last_Price"] *= spot[1] / spot[0]
        row["Date"] = today.as_unit("us")
        return pd.concat([frame, row.astype({"Date": frame["Date"].dtype})], ignore_index=True)

    def get_quota_adjusted_by_amortization(self, fund_name: str, quota: float, date: DateLike) -> float:
        """Return a quota of a date net of the capital that the fund has returned since, up to today.

        Q × Π (1 − Ratio) over the events of ``quota_adjustments`` after the date.
        """
        return quota * self.market.prices.returned_since(_plain(fund_name), as_date(date), self.today())

    def text_to_lowercase(self, t: pd.DataFrame) -> pd.DataFrame:
        """Return a copy of a frame with all of its text in its normal form, as the lake stores it."""
        check_frame(t, "t")
        return t.map(lambda cell: normal_name(cell) if isinstance(cell, str) else cell)

    # --- dates ------------------------------------------------------------------------------

    def get_month_end(self, ref_date: DateLike) -> date:
        """Return the last calendar day of the date's month."""
        return month_end(ref_date)

    def is_month_end(self, date: DateLike) -> bool:
        """Return whether the date is the last calendar day of its month."""
        return is_month_end(date)

    def get_start_period_dt(
        self,
        ref_date: DateLike,
        period: str,
        force_bday: bool = False,
        holiday_location: str = "all",
        force_month_end: bool = False,
    ) -> date:
        """Return the base date of a period: the date whose closing price is the denominator.

        ``force_bday`` moves it back to a business day of ``holiday_location``.

        Raises
        ------
        InvalidPeriodError
            Not ``mtd``, ``qtr``, ``ytd`` or ``<N>m``.
        """
        base = base_date(ref_date, period, force_month_end=force_month_end)
        return self.market.calendar.holidays().roll_back(base, holiday_location) if force_bday else base

    def is_holiday(self, date: DateLike, location: str) -> bool:
        """Return whether the date is a holiday: of a location (``us``, ``bz``), of ``any`` or of ``all``."""
        return self.market.calendar.holidays().is_holiday(date, location)

    def is_business_day(self, date: DateLike, location: str = "bz") -> bool:
        """Return whether the date is a Monday to Friday that is no holiday of the location."""
        return self.market.calendar.holidays().is_business_day(date, location)

    def get_bday_offset(self, date: DateLike, offset: int = 1, location: str = "bz") -> date:
        """Return the ``offset``-th business day after the date; before it if negative; 0: itself or the one before."""
        return self.market.calendar.holidays().business_day_offset(date, offset, location)

    def get_bdays_count(
        self,
        recent_date: DateLike,
        previous_date: DateLike,
        location: str = "bz",
        inclusive: Inclusive = "neither",
    ) -> int:
        """Return business days between two dates, by default without either; 0 if the first is not later."""
        return self.market.calendar.holidays().business_days_between(recent_date, previous_date, location, inclusive)

    # --- helpers ----------------------------------------------------------------------------

    def _rows_wanted(
        self, table_name: str, where: Conditions | None, overrides: Mapping[str, Any] | None = None
    ) -> Sequence[Where]:
        if where is None or (isinstance(where, str) and not where):
            return ()
        return conditions(self.lake.cache.codec(table_name, overrides).schema, table_name, where)

    def _answers(self, usdbrl_ticker: str) -> Answers:
        return Answers(self.market, usdbrl_ticker)

    def _analysis(self, usdbrl_ticker: str) -> Analysis:
        return Analysis(self._answers(usdbrl_ticker), self.market, self.today())

    def _reference(self) -> Reference:
        return Reference(self.lake, self.market.assets)

    def _range(
        self,
        recent_date: DateLike | None,
        previous_date: DateLike | None,
        period: str | None,
        days_back: int,
        *,
        force_month_end: bool,
    ) -> tuple[date, date]:
        """Return the first and the last date of a question, in order, from what the caller gave of them.

        Parameters
        ----------
        days_back
            The days before the last date at which the first is by default.
        """
        if period is not None and previous_date is not None:
            raise UsageError("Both period and previous_date are given.", hint="Give one of them.")
        end = self._last_date(recent_date)
        if period is not None:
            return base_date(end, period, force_month_end=force_month_end), end
        # The default start counts back from the end that is given, not from today.
        start = days_before(end, days_back) if previous_date is None else as_date(previous_date)
        return min(start, end), self._last_date(max(start, end))

    def _last_date(self, recent_date: DateLike | None) -> date:
        """Return the last date of a question, by default today.

        Raises
        ------
        UsageError
            It is no date, or so far ahead that a row for each day would be nothing but millions of nulls.
        """
        today = self.today()
        end = today if recent_date is None else as_date(recent_date)
        if end > days_before(today, -_DAYS_AHEAD):
            raise UsageError(
                f"{end} is more than a year after today, {today}.",
                hint="Leave the last date out to take today.",
            )
        return end

    def _keys(self, tickers: str | Iterable[str] | None) -> list[str]:
        """Return the distinct price keys of names."""
        return list(dict.fromkeys(self._names(tickers).values()))

    def _key(self, ticker: str) -> str:
        (key,) = self._names([ticker]).values()
        return key

    def _names(self, tickers: str | Iterable[str] | None) -> dict[str, str]:
        """Return the price key of each name, which is in its normal form."""
        assets = self.market.assets
        if tickers is None:
            return {key: key for key in assets.price_keys()}
        names = [_plain(ticker) for ticker in as_names(tickers, "tickers")]
        return assets.resolve(names, self._answers(USDBRL).series_among)

    def _weights(self, legs: Mapping[str, float]) -> dict[str, float]:
        """Return the weights of legs by their price keys instead of their names."""
        legs = as_weights(legs)
        names = {leg: self._key(leg) for leg in legs}
        if len(set(names.values())) < len(names):
            raise UsageError(f"Two of the legs {sample(legs)} are one series.", hint="Add their weights.")
        return {names[leg]: weight for leg, weight in legs.items()}

    def _renamed(self, overrides: pd.DataFrame) -> pd.DataFrame:
        """Return a caller's prices with price keys in place of names."""
        if "Asset" not in getattr(overrides, "columns", ()):
            return overrides
        names = [name for name in overrides["Asset"].unique() if isinstance(name, str)]
        keys = dict(zip(names, (self._names([name])[_plain(name)] for name in names), strict=True))
        return overrides.assign(Asset=[keys.get(name, name) for name in overrides["Asset"]])

    def _unknown_series(self, key: str) -> UnknownAssetError:
        near = self._answers(USDBRL).suggestion(key).strip(" ()").capitalize()
        hint = near or "Look for it by a part of its name: lq.find(text)."
        return UnknownAssetError(f"No price table of {self.lake.url} has a series {key!r}.", hint=hint)


def _either(familiar: DateLike | None, short: DateLike | None, name: str) -> DateLike | None:
    """Return the date that is given under one of two names."""
    if familiar is not None and short is not None:
        raise UsageError(f"{name} is given twice, under two names.", hint="Give it once.")
    return short if familiar is None else familiar


def _as_list(tickers: str | Iterable[str] | None) -> list[str] | None:
    """Return the tickers as a list, which can be read more than once; None for all assets."""
    return None if tickers is None else as_names(tickers, "tickers")


def _as_given(frame: pd.DataFrame, tickers: Iterable[str] | None) -> pd.DataFrame:
    """Return rows with ``Asset`` as the caller spelled it where the status is ``unknown``: no price key names them."""
    by_name = {_plain(ticker): ticker for ticker in reversed(list(tickers or ()))}
    spelled = {name: ticker for name, ticker in by_name.items() if name != ticker}
    unknown = frame["Asset"].isin(list(spelled)) & (frame["Status"] == "unknown") if spelled else pd.Series(dtype=bool)
    if not unknown.any():
        return frame
    names = {name: spelled[name] for name in frame.loc[unknown, "Asset"].unique()}
    assets = frame["Asset"]
    if isinstance(assets.dtype, pd.CategoricalDtype):
        return frame.assign(Asset=assets.cat.rename_categories(names))
    return frame.assign(Asset=assets.replace(names))


def _is_lake(place: object) -> bool:
    """Return whether a first argument names a lake rather than a folder of tables in it."""
    if not isinstance(place, str):
        return isinstance(place, Lake | os.PathLike)
    return "://" in place or bool(_LAKE.match(place))


_LAKE = re.compile(r"[/\\.~]|[A-Za-z]:")


def _is_folder_here(name: object) -> bool:
    """Return whether the working folder has a folder of this name, which may be meant instead of one in the lake."""
    try:
        return isinstance(name, str) and Path(name).is_dir()
    except OSError:  # a name that is too long
        return False


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
    return normal_name(text)
