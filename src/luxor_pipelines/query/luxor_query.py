"""`LuxorQuery`: the readers' one door to the lake. Thin: it delegates to ``lake`` and ``market``."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import pandas as pd

from luxor_pipelines.catalog import ASSETS, PERIODS, USDBRL
from luxor_pipelines.errors import UnknownAssetError, UsageError, sample
from luxor_pipelines.market.periods import DateLike, as_date, base_date
from luxor_pipelines.query.calendar_query import CalendarQuery
from luxor_pipelines.query.pricing import changes, convert, prices_between, returns_on, stored_returns

__all__ = ["LuxorQuery"]

logger = logging.getLogger(__name__)


class LuxorQuery(CalendarQuery):
    """The lake, for reading: tables, prices, returns, calendars.

    What has been read is kept by version and served again, so that everything computed from one
    object agrees; `update` looks for changes made elsewhere (and a question not asked before, of a
    table that has been replaced meanwhile, is answered from the new version). Frames that are handed out are the
    caller's own: changing one changes nothing here.

    Parameters
    ----------
    blob_directory
        The folder of the tables.
    adls_connection_string
        An Azure storage connection string.
    container_name
        The container it is for; default ``LUXOR_CONTAINER`` or ``luxorasap``.
    lake
        An fsspec URL (``abfss://container@account.dfs.core.windows.net``, ``file:///…``,
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
    >>> lq = LuxorQuery(lake="file:///data/lake")  # doctest: +SKIP
    >>> lq.get_hist_returns("2026-10-31", currency="brl", wide=True)  # doctest: +SKIP
    """

    # --- assets and prices ------------------------------------------------------------------

    def get_price_key(self, asset_key: str) -> str:
        """The name of the price series of an asset.

        Raises
        ------
        UnknownAssetError
            No such ``Key`` in ``assets``, or the asset names no series.
        """
        assets = self.market.assets(("Key", "Price_Key"))
        key = _plain(asset_key)
        found = assets.loc[assets["Key"] == key, "Price_Key"]
        if found.empty:
            raise self._unknown(f"There is no asset {key!r}", key, assets["Key"])
        if found.isna().any():
            raise UnknownAssetError(f"Asset {key!r} has neither Ticker nor Ticker_BBG.", hint="Complete its row.")
        return str(found.iloc[0])

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
            Kept for familiarity; without effect. A series' currency is known from ``assets``.

        Raises
        ------
        UnknownAssetError
            No price table has the series at all.
        """
        del logger_level, dr_adjusted, asset_location
        day = self.today() if px_date is None else as_date(px_date)
        rows = prices_between(self.market, [_plain(ticker)], day, day, currency, usdbrl_ticker, today=self.today())
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
            Kept for familiarity: prices are as of the day, so no day need be a business day.
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
        del holiday_location
        start, end = self._range(recent_date, previous_date, period, 30, force_month_end=force_month_end)
        rows = prices_between(
            self.market, self._keys(tickers), start, end, currency, usdbrl_ticker,
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
            Kept for familiarity: rates are as of the row's date, whatever day that is.

        Returns
        -------
        DataFrame
            A new frame; ``Last_Price`` is null where there is no rate.
        """
        del force_continuous_date_range, holiday_location, force_month_end
        today = self.today() if get_intraday_prices else None
        return convert(self.market, prices, price_currency, dest_currency, usdbrl_ticker, today=today)

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
        del holiday_location
        start, end = self._range(recent_date, previous_date, period, 1, force_month_end=force_month_end)
        key, market = _plain(ticker), self.market
        row = changes(market, [key], start, end, adjust=adjust_amortization, today=self.today()).iloc[0]
        if row["Status"] == "no_end" and not market.has_series(key):
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
        return changes(
            self.market, self._keys(tickers), start, end, currency, usdbrl_ticker,
            adjust=adjust_amortization, today=self.today(),
        )  # fmt: skip

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
        return returns_on(
            self.market, self._keys(tickers), [as_date(day) for day in dates],
            [periods] if isinstance(periods, str) else list(periods),
            [currency] if isinstance(currency, str) else list(currency),
            usdbrl_ticker, adjust=adjust_amortization, today=self.today(),
        )  # fmt: skip

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
        return stored_returns(self, ref_date, currency, wide=wide, with_status=with_status)

    # --- helpers ----------------------------------------------------------------------------

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
            return sorted(self.market.assets(("Price_Key",))["Price_Key"].dropna().unique())
        if isinstance(tickers, str):
            tickers = [tickers]
        return list(dict.fromkeys(_plain(ticker) for ticker in tickers))

    def _unknown_series(self, key: str) -> UnknownAssetError:
        known: Iterable[str] = (
            self.market.assets(("Price_Key",))["Price_Key"].dropna() if self.table_exists(ASSETS) else []
        )
        return self._unknown(f"No price table of {self.lake.url} has a series {key!r}", key, known)

    @staticmethod
    def _unknown(message: str, name: str, known: Iterable[str]) -> UnknownAssetError:
        near = difflib.get_close_matches(name, list(known), n=3)
        hint = f"Did you mean {sample(near)}?" if near else "Price keys are lower-case tickers, as in `assets`."
        return UnknownAssetError(f"{message}.", hint=hint)


def _plain(text: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is not a ticker.", hint="Give its text.")
    return text.strip().lower()
