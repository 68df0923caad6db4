"""`Analysis`: statistics, risk, benchmarks and tables of returns of a lake's series."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.analytics import composites, drawdowns, risk
from luxor_pipelines.analytics.interest import quote_against_rate
from luxor_pipelines.analytics.portfolio import simulate
from luxor_pipelines.analytics.sampling import (
    COVERAGE,
    DAYS_A_YEAR,
    FREQUENCIES,
    as_frequency,
    is_number,
    returns_beside,
    sampled_returns,
    shortage,
)
from luxor_pipelines.analytics.statistics import Statistics, annualized, statistics
from luxor_pipelines.errors import DataError, UnknownAssetError, UsageError, sample, shown
from luxor_pipelines.market.calendars import HolidayCalendar
from luxor_pipelines.market.periods import add_months, as_days, month_end
from luxor_pipelines.query.answers import Answers
from luxor_pipelines.query.composites import leg_prices
from luxor_pipelines.query.market_data import MarketData

__all__ = ["Analysis", "correlation_pairs"]

logger = logging.getLogger(__name__)

_STATED = ("ok", "carried")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Analysis:
    """Answers questions about many prices of a series at once.

    Prices are those observed, amortization-adjusted; figures that cannot be stated are null, and a warning
    names their series with the reason.

    Parameters
    ----------
    answers
        Prices and returns.
    market
        The market data that the answers use.
    today
        The date up to which current prices extend the history.
    """

    def __init__(self, answers: Answers, market: MarketData, today: date) -> None:
        self._answers = answers
        self._market = market
        self._today = today

    # --- prices -----------------------------------------------------------------------------

    def observed(self, keys: Sequence[str], start: date, end: date, currency: str) -> pd.DataFrame:
        """Return the prices of ``keys`` as of ``start`` and on the observed days after it; a column a series."""
        rows = self._answers.prices(keys, start, end, currency, days="sampled", today=self._today, adjust=True)
        _warn("prices", start, end, rows.without_price())
        wide = rows.to_wide()
        return wide if list(wide.columns) == list(keys) else wide[list(keys)]

    def daily(self, keys: Sequence[str], start: date, end: date, currency: str) -> pd.DataFrame:
        """Return the prices of ``keys`` on every day, carried forward within their age limits."""
        rows = self._answers.prices(keys, start, end, currency, today=self._today, adjust=True)
        days = pd.date_range(start, end, name="Date", unit="us")
        return rows.to_wide().reindex(index=days, columns=pd.Index(list(keys), name="Asset"))

    def _risk_free(self, risk_free: float | str | None, prices: pd.DataFrame) -> float | pd.Series:
        """Return a rate a year, 0 for none, or the prices of the series that gives it."""
        if isinstance(risk_free, str):
            return self._required_prices(risk_free, prices)
        if risk_free is not None and not is_number(risk_free):
            raise UsageError(
                f"risk_free={shown(risk_free)} is neither a rate nor a series.", hint="Give 0.1 for 10 % a year."
            )
        return float(risk_free or 0.0)

    def _required_prices(self, key: str, prices: pd.DataFrame) -> pd.Series:
        """Return the prices of a benchmark or of a risk-free series, which must have some."""
        column: pd.Series = prices[key]
        if column.notna().any():
            return column
        if not self._answers.is_known(key):
            raise UnknownAssetError(f"No price table has a series {key!r}.", hint="Check the benchmark's ticker.")
        raise DataError(
            f"There is no price of {key!r} from {prices.index.min()} to {prices.index.max()}.", hint="Check the dates."
        )

    # --- statistics -------------------------------------------------------------------------

    def statistics(
        self,
        keys: Sequence[str],
        start: date,
        end: date,
        currency: str,
        frequency: str,
        *,
        benchmark: str | None,
        risk_free: float | str | None,
        level: float,
    ) -> Statistics:
        """Return the table of statistics; see `analytics.statistics`."""
        references = [key for key in (benchmark, risk_free) if isinstance(key, str)]
        prices = self.observed(list(dict.fromkeys([*keys, *references])), start, end, currency)
        changes = self._answers.changes(keys, start, end, currency, adjust=True, today=self._today)
        table = statistics(
            prices[list(keys)],
            frequency,
            benchmark=None if benchmark is None else self._required_prices(benchmark, prices),
            risk_free=self._risk_free(risk_free, prices),
            level=level,
            start=start,
            end=end,
            returns=changes.rename(columns={"Pct_Change": "Return"}),
        )
        odd = {key: ", ".join(sorted({*words} - {*_STATED})) for key, words in table.status.items()}
        _warn("statistics", start, end, {str(key): words for key, words in odd.items() if words})
        return table

    def regression(
        self,
        keys: Sequence[str],
        benchmark: str,
        start: date,
        end: date,
        currency: str,
        frequency: str,
        risk_free: float | str | None,
    ) -> pd.DataFrame:
        """Return beta and alpha of each series, with standard errors; see `analytics.risk.regression`."""
        references = [key for key in (benchmark, risk_free) if isinstance(key, str)]
        prices = self.observed(list(dict.fromkeys([*keys, *references])), start, end, currency)
        index = self._required_prices(benchmark, prices)
        free = self._risk_free(risk_free, prices)
        fit = risk.price_regression(prices[list(keys)], index, frequency, risk_free=free, end=end)
        counts = fit.observations.to_numpy()
        return self._covered(fit.to_frame(), counts, frequency, start, end, "beta and alpha")

    # --- risk -------------------------------------------------------------------------------

    def volatility(self, keys: Sequence[str], start: date, end: date, currency: str, frequency: str) -> pd.DataFrame:
        """Return one figure a series: ``Ticker``, ``Date`` (the end), ``Volatility``."""
        prices = self.observed(keys, start, end, currency)
        frame = risk.volatility(prices, frequency, end=end).to_frame("Volatility")
        counts = sampled_returns(prices, frequency, end=end).count().to_numpy()
        frame = self._covered(frame, counts, frequency, start, end, "volatility")
        dated = frame.assign(Date=pd.Timestamp(end).as_unit("us")).rename_axis("Ticker").reset_index()
        return dated[["Ticker", "Date", "Volatility"]]

    def rolling_volatility(
        self, keys: Sequence[str], days: int, start: date, end: date, currency: str, frequency: str
    ) -> pd.DataFrame:
        """Return ``Ticker``, ``Date``, ``Volatility`` of each series and window that ends from ``start`` to ``end``."""
        first = date.fromordinal(max(1, start.toordinal() - days - 31))
        prices = self.observed(keys, first, end, currency)
        rolled = risk.rolling_volatility(prices, days, frequency, end=end)
        rolled = rolled[rolled.index >= pd.Timestamp(start)]
        without = rolled.columns[rolled.notna().sum() == 0]
        _warn("volatility", start, end, dict.fromkeys(map(str, without), "sparse"))
        return _long(rolled, "Ticker", "Volatility")

    def drawdown(self, keys: Sequence[str], start: date, end: date, currency: str) -> pd.DataFrame:
        """Return drawdowns day by day; see `LuxorQuery.calculate_drawdown`."""
        prices = self.observed(keys, start, end, currency)
        first = prices.bfill().iloc[0] if len(prices) else prices.sum()
        parts = {
            "Last_Price": prices,
            "Period_Change": prices / first - 1,
            "Previous_Peak": drawdowns.previous_peaks(prices),
            "Drawdowns": drawdowns.drawdowns(prices),
        }
        long = pd.concat(
            [_long(part, "Asset", name).set_index(["Asset", "Date"]) for name, part in parts.items()], axis=1
        )
        return long.dropna(subset="Last_Price").reset_index("Asset")

    def worst_drawdowns(self, keys: Sequence[str], start: date, end: date, currency: str, n: int) -> pd.DataFrame:
        """Return the deepest drawdowns of each series; see `analytics.drawdowns.worst_drawdowns`."""
        return drawdowns.worst_drawdowns(self.observed(keys, start, end, currency), n)

    def tracking_error(self, key: str, benchmark: str, start: date, end: date, currency: str, frequency: str) -> float:
        """Return the tracking error a year of one series, NaN and a logged reason where it cannot be stated."""
        prices = self.observed(list(dict.fromkeys([key, benchmark])), start, end, currency)
        index = self._required_prices(benchmark, prices)
        frame = risk.tracking_error(prices[[key]], index, frequency, end=end).to_frame("Tracking_Error")
        own, _ = returns_beside(prices[[key]], index, frequency, end=end)
        covered = self._covered(frame, own.count().to_numpy(), frequency, start, end, "tracking error")
        return float(covered["Tracking_Error"].to_numpy()[0])

    def correlation(self, keys: Sequence[str], start: date, end: date, currency: str, frequency: str) -> pd.DataFrame:
        """Return the correlation of each pair: a row and a column a series."""
        prices = self.observed(keys, start, end, currency)
        square = risk.price_correlation(prices, frequency, least=_least(frequency, start, end), end=end)
        without = square.columns[square.isna().all()]
        _warn("correlation", start, end, dict.fromkeys(map(str, without), "sparse"))
        return square.rename_axis(index="Asset")

    def rolling_correlation(
        self, keys: Sequence[str], window: int, start: date, end: date, currency: str, frequency: str
    ) -> pd.Series:
        """Return the correlation of two series over the last ``window`` returns in common."""
        prices = self.observed(keys, start, end, currency)
        own, beside = returns_beside(prices[[keys[0]]], prices[keys[-1]], frequency, end=end)
        returns = pd.concat([own.iloc[:, 0].rename(keys[0]), beside.iloc[:, 0].rename(keys[-1])], axis=1)
        return risk.rolling_correlation(returns, window)

    def _covered(
        self, frame: pd.DataFrame, counts: NDArray[Any], frequency: str, start: date, end: date, noun: str
    ) -> pd.DataFrame:
        """Return ``frame``, a row a series, with nulls where ``counts`` returns are too few for the time."""
        reasons = shortage(counts, frequency, start, end)
        _warn(noun, start, end, {str(key): why for key, why in zip(frame.index, reasons, strict=True) if why != "ok"})
        covered = frame.copy()
        covered.loc[reasons != "ok", frame.columns != "Observations"] = np.nan
        return covered

    # --- returns ----------------------------------------------------------------------------

    def rolling_returns(
        self, keys: Sequence[str], months: int, start: date, end: date, currency: str, *, a_year: bool
    ) -> pd.DataFrame:
        """Return the returns over the ``months`` up to each month end from ``start`` to ``end``: a column a series."""
        ends = _month_ends(start, end)
        spans = [(add_months(day, -months), day) for day in ends]
        values = self._values(keys, spans, currency)[0]
        if a_year:
            lengths = np.array([(day - base).days for base, day in spans], dtype=np.float64)
            values = annualized(values, lengths) if months >= 12 else np.full_like(values, np.nan)
        index = pd.DatetimeIndex(ends, name="Date").as_unit("us")
        return pd.DataFrame(values.T, index=index, columns=pd.Index(list(keys), name="Asset"))

    def returns_table(
        self, key: str, currency: str, benchmark: str | None, start: date | None, end: date
    ) -> pd.DataFrame:
        """Return the returns of a series by month and year; see `LuxorQuery.returns_table`."""
        first = self._answers.first_date(key)
        if first is None:
            raise UnknownAssetError(f"No price table has a series {key!r}.", hint="Check the spelling of the ticker.")
        begin = max(first, start or first)
        if begin >= end:
            raise DataError(f"{key!r} has no returns from {begin} to {end}.", hint="Check the dates.")
        years = list(range(begin.year + (begin.month == 12 and begin.day == 31), end.year + 1))
        months = [(year, month) for year in years for month in range(1, 13)]
        # Cut to the dates there are: a month or year that they cut is partial.
        spans = [_cut(date(y, m, 1), month_end(date(y, m, 1)), begin, end) for y, m in months]
        spans += [_cut(date(year, 1, 1), date(year, 12, 31), begin, end) for year in years]
        stated = [span for span in spans if span is not None]
        place = {span: at for at, span in enumerate(dict.fromkeys(stated))}
        values, _ = self._values(list(dict.fromkeys([key, benchmark or key])), list(place), currency)
        cells = [np.nan if span is None else values[0, place[span]] for span in spans]
        table = pd.DataFrame(
            np.reshape(cells[: len(months)], (len(years), 12)),
            index=pd.Index(years, name="Year"),
            columns=list(_MONTHS),
        )
        table["Year"] = cells[len(months) :]
        if benchmark is not None:
            yearly = spans[len(months) :]
            table["Benchmark"] = [np.nan if span is None else values[-1, place[span]] for span in yearly]
        partial: dict[int, list[str]] = {year: [] for year in years}
        for (year, month), span in zip(months, spans, strict=False):
            if span is not None:
                partial[year] += [f"{_MONTHS[month - 1]} {words}" for words in _missing(span, date(year, month, 1))]
        table["Partial"] = pd.Series({year: ", ".join(words) for year, words in partial.items()}, dtype="str")
        return table

    def quote_against_rate(
        self,
        keys: Sequence[str],
        rate: str,
        start: date,
        end: date,
        currency: str,
        holidays: HolidayCalendar,
        location: str,
    ) -> pd.DataFrame:
        """Return performance against a reference rate, a row a series."""
        names = list(dict.fromkeys([*keys, rate]))
        changes = self._answers.changes(names, start, end, currency, adjust=True, today=self._today)
        days = holidays.business_days_between(end, start, location, "right")
        own = changes.loc[list(keys)]
        reference, why = float(changes["Pct_Change"][rate]), changes["Status"][rate]
        quote = quote_against_rate(own["Pct_Change"].to_numpy(), reference, days)
        status = own["Status"].astype("str").to_numpy(dtype=object, copy=True)
        if np.isnan(reference):
            status[np.isin(status, _STATED)] = f"rate: {why}"
        elif not reference > 0:
            logger.warning(
                "The rate %s earned %s from %s to %s: no percentage of it is meant", rate, reference, start, end
            )
        return pd.DataFrame(
            {
                "Return": own["Pct_Change"],
                "Rate_Return": reference,
                "Percent_Of_Rate": quote.percent,
                "Spread": quote.spread,
                "Business_Days": days,
                "Status": pd.Series(status, index=own.index, dtype="str"),
            }
        )

    def _values(
        self, keys: Sequence[str], spans: Sequence[tuple[date, date]], currency: str
    ) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Return returns and statuses over each span, [n_series, n_spans]."""
        by_currency = dict(self._answers.returns(keys, spans, [currency], today=self._today, name_unknown=True))
        ((_, returns),) = by_currency.items()
        return returns.value, returns.status

    # --- benchmarks and portfolios ----------------------------------------------------------

    def benchmark(self, legs: Mapping[str, float], start: date, end: date, rebalance: str, currency: str) -> pd.Series:
        """Return the level of a composite on every day, 1 at ``start``."""
        weights = composites.as_weights(legs)
        prices = leg_prices(self._market, list(weights), start, end, today=self._today)
        own = self._answers.currencies(list(weights))
        if currency != "local":
            prices = self._converted(prices, own, currency)
        elif len(set(own.values())) > 1:
            raise UsageError(
                f"The legs are in several currencies: {sample(own.items())}.", hint="Name one, such as usd."
            )
        return composites.composite(prices, weights, rebalance)

    def _converted(self, prices: pd.DataFrame, own: Mapping[str, str | None], currency: str) -> pd.DataFrame:
        """Return daily prices of some series in another currency, with each day's rate."""
        without = [key for key, iso in own.items() if iso is None]
        if without:
            raise DataError(f"The currency of {sample(without)} is not known.", hint="Give it in the table assets.")
        long = _long(prices, "Asset", "Last_Price")
        converted = self._answers.convert(
            long, {key: str(iso) for key, iso in own.items()}, currency, today=self._today
        )
        return converted.pivot(index="Date", columns="Asset", values="Last_Price")

    def simulate(
        self,
        weights: Mapping[str, float],
        start: date,
        end: date,
        currency: str,
        adm_fee: float,
        performance_fee: float,
    ) -> pd.Series:
        """Return what 1 invested at ``start`` is worth on every day up to ``end``."""
        weights = composites.as_weights(weights)
        prices = self.daily(list(weights), start, end, currency)
        return simulate(prices, weights, adm_fee, performance_fee)


def correlation_pairs(
    square: pd.DataFrame, facts: Mapping[str, Mapping[str, str]], frequency: str, period: str
) -> pd.DataFrame:
    """Return the table that `LuxorQuery.calculate_price_correlation` gives, from a square of correlations."""
    tickers = [str(ticker) for ticker in square.columns]
    name, key = ({ticker: facts[ticker].get(field, ticker) for ticker in tickers} for field in ("Name", "Key"))
    months = period.strip().lower()
    years = months[:-1] if months.endswith("m") and months[:-1].isdigit() else ""
    label = f"{int(years) // 12}Y" if years and int(years) % 12 == 0 else period.strip().upper()
    pairs = [(ticker, other) for ticker in tickers for other in tickers]
    return pd.DataFrame(
        {
            "Order": np.arange(1, len(pairs) + 1),
            "Asset_Corr": pd.Series([name[other] for _, other in pairs], dtype="str"),
            "Asset": pd.Series([name[ticker] for ticker, _ in pairs], dtype="str"),
            "Correlation": square.to_numpy().ravel(),
            "Key_Asset_Corr": pd.Series([key[other] for _, other in pairs], dtype="str"),
            "Key_Asset": pd.Series([key[ticker] for ticker, _ in pairs], dtype="str"),
            "Comp_Key": pd.Series([f"{key[ticker]}_{key[other]}" for ticker, other in pairs], dtype="str"),
            "Frequency": as_frequency(frequency).capitalize(),
            "Period": label,
        }
    )


def _least(frequency: str, start: date, end: date) -> int:
    """Return the fewest returns that represent the time between two dates."""
    periods = FREQUENCIES[as_frequency(frequency)] * (end - start).days / DAYS_A_YEAR
    return max(2, math.ceil(COVERAGE * periods))


def _month_ends(start: date, end: date) -> list[date]:
    """Return the ends of months from ``start`` to ``end``, and ``end`` itself."""
    days = []
    day = month_end(start)
    while day < end:
        days.append(day)
        day = month_end(add_months(day, 1))
    return [*days, end]


def _cut(first: date, last: date, begin: date, end: date) -> tuple[date, date] | None:
    """Return the span from the day before ``first`` to ``last``, cut to [begin, end]; None if nothing is left."""
    base, stop = max(date.fromordinal(first.toordinal() - 1), begin), min(last, end)
    return (base, stop) if base < stop else None


def _missing(span: tuple[date, date], first: date) -> list[str]:
    """Return how a span falls short of the month that begins on ``first``: by its weekdays before or after."""
    base, stop = span
    after_base, after_stop = (date.fromordinal(day.toordinal() + 1) for day in span)
    before = np.busday_count(first, after_base) > 0
    behind = np.busday_count(after_stop, date.fromordinal(month_end(first).toordinal() + 1)) > 0
    return [f"from {base}"] * bool(before) + [f"to {stop}"] * bool(behind)


def _long(wide: pd.DataFrame, name: str, value: str) -> pd.DataFrame:
    """Return one row a series and date: ``name``, ``Date``, ``value``."""
    days = as_days(wide.index).astype("datetime64[us]")
    columns = [str(column) for column in wide.columns]
    return pd.DataFrame(
        {
            name: pd.Series(columns, dtype="str").repeat(len(days)).reset_index(drop=True),
            "Date": np.tile(days, len(columns)),
            value: wide.to_numpy().T.ravel(),
        }
    )


def _warn(noun: str, start: date, end: date, reasons: Mapping[str, str]) -> None:
    if reasons:
        named = [f"{key}: {why}" for key, why in reasons.items()]
        logger.warning("No %s of %d series from %s to %s: %s", noun, len(reasons), start, end, sample(named, 10))
