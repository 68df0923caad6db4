"""`Answers`: prices, conversions and returns, computed from a lake's market data."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luxor_pipelines.analytics.statistics import annualized
from luxor_pipelines.catalog import USDBRL
from luxor_pipelines.errors import SchemaError, UsageError, sample, shown
from luxor_pipelines.market.columns import check_frame
from luxor_pipelines.market.currency import as_currency, factors
from luxor_pipelines.market.daily import PriceRows, daily_prices, observed_prices, sampled_prices
from luxor_pipelines.market.observations import BoolArray, FloatArray, IntArray, Observations
from luxor_pipelines.market.periods import INCEPTION, DateArray, add_months, as_days, as_return_period, return_base
from luxor_pipelines.market.prices import AsOf, apply_overrides, asof
from luxor_pipelines.market.returns import STATUSES, Returns, returns, returns_frame
from luxor_pipelines.names import normal_name
from luxor_pipelines.query.composites import with_composites
from luxor_pipelines.query.market_data import MarketData

__all__ = ["Answers"]

logger = logging.getLogger(__name__)

_SHORT = "short"
"""The status, after all `STATUSES`, of a return that is annualized and over less than a year."""

_Cell = TypeVar("_Cell", bound=np.generic)


class Answers:
    """Answers questions about prices and returns.

    Parameters
    ----------
    market
        The market data.
    usdbrl_ticker
        The series of BRL per USD.
    """

    def __init__(self, market: MarketData, usdbrl_ticker: str = USDBRL) -> None:
        self._market = market
        self._rates = market.rates(usdbrl_ticker)
        self.notes: list[str] = []
        """The oddities, also logged, of the rows that the last call of `returns` used."""

    # --- prices -----------------------------------------------------------------------------

    def prices(
        self,
        keys: Iterable[str],
        start: date,
        end: date,
        currency: str = "local",
        *,
        days: Literal["all", "observed", "sampled"] = "all",
        today: date | None = None,
        overrides: pd.DataFrame | None = None,
        adjust: bool = False,
    ) -> PriceRows:
        """Return prices of ``keys`` on the days from ``start`` to ``end``, both included.

        A series without any price in the range is ``absent`` with the status ``no_price`` or, where no table has
        it at all, ``unknown``.

        Parameters
        ----------
        days
            ``all``: every calendar day, as of the day; ``observed``: the days observed; ``sampled``: these, and the
            price as of ``start``, for returns from there on.
        today
            If given and not after ``end``, newer prices of ``px_last`` extend the history.
        overrides
            See `market.prices.apply_overrides`.
        adjust
            Net fund quotas of the capital they have returned up to ``end``.
        """
        market = self._market
        dest, names = as_currency(currency), sorted(set(keys))
        own = market.assets.currencies(names)
        isos = {dest, *own} if dest != "local" else set()
        dates = np.arange(np.datetime64(start, "D"), np.datetime64(end, "D") + np.timedelta64(1, "D"))
        current = None if today is None or today > end else (today, market.current)
        all_obs = market.prices.observations(
            [*names, *self._rates.keys(isos)], [start, end], span=(start, end), current=current
        )
        rates = self._rates.observations(all_obs, isos, dates)
        obs = with_composites(market, all_obs.only(names), end, today=today)
        if overrides is not None:
            obs = apply_overrides(obs, overrides, limits=market.limits)
        newest: DateArray = np.full(len(names), np.datetime64("NaT", "D"))
        if current is not None:
            obs, newest = market.current.extend(obs, current[0])
            rates, _ = market.current.extend(rates, current[0])
        if adjust:
            obs = market.prices.adjusted(obs, end)

        rows = {"all": daily_prices, "observed": observed_prices, "sampled": sampled_prices}[days](obs, start, end)
        if current is not None:
            rows = rows.marked((rows.status == 0) & (rows.price_date == newest[rows.code]), "intraday")
        if dest != "local":
            code, by_currency = self._factors(rates, own, dest, dates)
            of_row = code[rows.code]
            factor = by_currency[of_row, (rows.date - dates[0]).view(np.int64)]
            if np.isnan(factor).any():
                rows = rows.marked(np.isfinite(rows.price) & np.isnan(factor), "no_fx")
                rows = rows.marked(of_row < 0, "missing_currency")
            rows = replace(rows, price=rows.price * factor)

        absent = np.ones(len(names), dtype=bool)
        absent[rows.code] = False
        present = self._present(obs)
        return replace(rows, absent={names[n]: "no_price" if present[n] else "unknown" for n in np.flatnonzero(absent)})

    def convert(
        self,
        prices: pd.DataFrame,
        price_currency: str | Mapping[str, str],
        dest_currency: str,
        *,
        today: date | None = None,
    ) -> pd.DataFrame:
        """Convert ``prices`` (``Date, Asset, Last_Price``) to another currency, each row at its own date's rate.

        If ``today`` is given and the last date of all, newer rates of ``px_last`` extend the history.

        Raises
        ------
        SchemaError
            A column is missing, or a date is.
        UsageError
            A currency is unknown, or an asset has none in the mapping.
        """
        check_frame(prices, "prices")
        missing = [name for name in ("Date", "Asset", "Last_Price") if name not in prices.columns]
        if missing:
            raise SchemaError(
                f"The prices have no column {sample(missing)}; they have {sample(prices.columns, 10)}.",
                hint="Pass a frame with Date, Asset and Last_Price.",
            )
        dest = as_currency(dest_currency)
        own = _currencies(prices["Asset"], price_currency)
        if "local" in {dest, *own}:
            raise UsageError("'local' is no currency to convert between.", hint="Name a currency, such as usd or brl.")
        out = prices.copy()
        if set(own) <= {dest}:
            return out
        days, position = np.unique(as_days(prices["Date"]), return_inverse=True)
        if np.isnat(days[-1]):
            raise SchemaError("The prices have rows without a Date.", hint="Fill or drop those rows.")
        isos = {dest, *own}
        first, last = days[0].item(), days[-1].item()
        current = None if today != last else (last, self._market.current)
        keys = self._rates.keys(isos)
        obs = self._market.prices.observations(keys, [first, last], span=(first, last), current=current)
        rates = self._rates.observations(obs, isos, days)
        if current is not None:
            rates, _ = self._market.current.extend(rates, last)
        code, by_currency = self._factors(rates, own, dest, days)
        out["Last_Price"] = prices["Last_Price"] * by_currency[code, position]
        return out

    # --- returns ----------------------------------------------------------------------------

    def returns(
        self,
        keys: Iterable[str],
        spans: Sequence[tuple[date, date]],
        currencies: Sequence[str],
        *,
        adjust: bool = True,
        today: date | None = None,
        name_unknown: bool = False,
    ) -> Iterator[tuple[str, Returns]]:
        """Yield the returns of ``keys`` over each span (base date, reference date), in each currency in turn.

        Prices and rates are read once, and looked up once a date, for all spans and currencies. Rows are
        in the order of ``keys``. Newer prices of ``px_last`` extend the history for the spans
        that end ``today``. With ``name_unknown``, series that no table has are logged.
        """
        market = self._market
        names = list(dict.fromkeys(keys))
        dests = [as_currency(currency) for currency in currencies]
        own = market.assets.currencies(sorted(names))
        isos = {*dests, *own} if set(dests) != {"local"} else set()
        dates = sorted({day for span in spans for day in span})
        ends = {end for _, end in spans}
        current = (today, market.current) if today is not None and today in ends else None
        obs = market.prices.observations([*names, *self._rates.keys(isos)], dates, current=current)
        rates = self._rates.observations(obs, isos, dates)
        obs = with_composites(market, obs.only(names), max(ends), today=today)
        absent = ~self._present(obs)
        if name_unknown and absent.any():
            named = [f"{key!r}{self.suggestion(key)}" for key in obs.keys[absent][:10]]
            logger.warning("No price table has %d of the series: %s", absent.sum(), "; ".join(named))
        basis, last = None, max(ends)
        if adjust:
            basis = market.prices.basis(obs, dates, last) if len(ends) > 1 else None
        prices, per_usd = self._asof(obs, rates, dates, isos, last if adjust else None)
        column = {day: position for position, day in enumerate(dates)}
        base, end = (np.array([column[day] for day in days]) for days in zip(*spans, strict=True))
        if current is not None:
            # Current prices count only for the spans that end today, so these look their dates up anew.
            (newer, _), (rates, _) = (market.current.extend(side, current[0]) for side in (obs, rates))
            prices_now, per_usd_now = self._asof(newer, rates, dates, isos, last if adjust else None)
            prices = prices.beside(prices_now)
            per_usd = {iso: np.concatenate([rate, per_usd_now[iso]]) for iso, rate in per_usd.items()}
            basis = None if basis is None else np.hstack([basis, basis])
            shift = np.where(end == column[current[0]], len(dates), 0)
            base, end = base + shift, end + shift
        self._note(prices, obs.keys, self._rates.rows_asof(rates, isos, prices.as_of), base, end)
        rows = obs.codes(names)
        in_order = len(rows) == len(obs.keys) and bool((np.diff(rows) == 1).all())
        for dest in dests:
            converted = returns(prices, end, base, currencies=own, dest=dest, rates=per_usd, basis=basis, absent=absent)
            yield dest, converted if in_order else converted.take(rows)

    def _note(
        self,
        prices: AsOf,
        keys: NDArray[np.object_],
        rates: tuple[list[str], AsOf],
        base: IntArray,
        end: IntArray,
    ) -> None:
        """Note bad rates, and series with base and end from different sides: a fallback's and the other tables'."""
        self.notes = []
        names, rows = rates
        bad = [
            f"{names[at]} of {rows.date[at, n]}: {rows.price[at, n]:g}"
            for at, n in zip(*np.nonzero(rows.bad_price), strict=True)
        ]
        if bad:
            self.notes.append(f"Bad rates make the returns that they convert no_fx: {sample(dict.fromkeys(bad))}")
        mixed = {
            key: None
            for as_of, series in ((prices, keys), (rows, names))
            for key in np.asarray(series)[_mixed(as_of, base, end)]
        }
        if mixed:
            self.notes.append(f"Base and end price come from different tables, one of them a fallback: {sample(mixed)}")
        for note in self.notes:
            logger.warning(note)

    def _asof(
        self,
        obs: Observations,
        rates: Observations,
        dates: Sequence[date],
        currencies: Iterable[str | None],
        adjusted_to: date | None,
    ) -> tuple[AsOf, dict[str, FloatArray]]:
        """Return prices as of the dates, net of capital returned up to ``adjusted_to``, and rates per USD."""
        if adjusted_to is not None:
            obs = self._market.prices.adjusted(obs, adjusted_to)
        return asof(obs, dates), self._rates.asof(rates, currencies, dates)

    def _present(self, obs: Observations) -> BoolArray:
        """Return whether any table has a row of each series, on whatever date."""
        present = obs.present.copy()
        present[self._market.current.of(obs.keys)[0]] = True
        return present

    def returns_on(
        self,
        keys: Iterable[str],
        ref_dates: Iterable[date],
        periods: Iterable[str],
        currencies: Iterable[str],
        *,
        adjust: bool,
        today: date,
        a_year: bool = False,
    ) -> pd.DataFrame:
        """Return the returns of ``keys`` over each period up to each reference date; see `LuxorQuery.get_returns`."""
        names, dates = list(dict.fromkeys(keys)), list(dict.fromkeys(ref_dates))
        labels = list(dict.fromkeys(map(as_return_period, periods)))
        dests = list(dict.fromkeys(map(as_currency, currencies)))
        if not (dates and labels and dests):
            raise UsageError("There is no date, period or currency to give returns for.", hint="Name one of each.")
        values, codes, bases = self._returns_by_period(names, dates, labels, dests, adjust=adjust, today=today)
        statuses: tuple[str, ...] = STATUSES
        if a_year:
            values, codes = _per_year(values, codes, bases, dates)
            statuses = (*STATUSES, _SHORT)
        return _long_frame(dests, names, dates, labels, values, codes, statuses)

    def _returns_by_period(
        self,
        names: Sequence[str],
        dates: Sequence[date],
        periods: Sequence[str],
        dests: Sequence[str],
        *,
        adjust: bool,
        today: date,
    ) -> tuple[FloatArray, NDArray[np.int8], NDArray[Any]]:
        """Return returns and positions in `STATUSES`, [n_currencies, n_series, n_dates, n_periods], and base dates.

        The base dates, [n_series, n_dates, n_periods], differ by series for the period since inception alone.
        """
        shape = (len(dests), len(names), len(dates), len(periods))
        values, codes = np.empty(shape), np.empty(shape, dtype=np.int8)
        bases: NDArray[Any] = np.empty(shape[1:], dtype="datetime64[D]")
        fixed = [at for at, period in enumerate(periods) if period != INCEPTION]
        if fixed:
            spans = [(return_base(day, periods[at]), day) for day in dates for at in fixed]
            bases[:, :, fixed] = np.array([base for base, _ in spans], dtype="datetime64[D]").reshape(len(dates), -1)
            in_turn = self.returns(names, spans, dests, adjust=adjust, today=today, name_unknown=True)
            for place, (_, in_currency) in enumerate(in_turn):
                by_period = (len(names), len(dates), len(fixed))
                values[place][:, :, fixed] = in_currency.value.reshape(by_period)
                codes[place][:, :, fixed] = in_currency.code.reshape(by_period)
        if INCEPTION in periods:
            at = periods.index(INCEPTION)
            bases[:, :, at] = self._inceptions(names, dates)
            spans_of_series = [list(zip(row, dates, strict=True)) for row in bases[:, :, at].tolist()]
            spans = sorted({span for row in spans_of_series for span in row})
            position = {span: column for column, span in enumerate(spans)}
            column = np.array([[position[span] for span in row] for row in spans_of_series])
            in_turn = self.returns(names, spans, dests, adjust=adjust, today=today)
            for place, (_, in_currency) in enumerate(in_turn):
                values[place][:, :, at] = np.take_along_axis(in_currency.value, column, axis=1)
                codes[place][:, :, at] = np.take_along_axis(in_currency.code, column, axis=1)
        return values, codes, bases

    def _inceptions(self, names: Sequence[str], dates: Sequence[date]) -> NDArray[Any]:
        """Return base dates, [n_series, n_dates]: the date of each series' first observation.

        For a date before that observation it is the day before the date, so that the return gets its status.
        """
        obs = with_composites(self._market, self._market.prices.history(names), max(dates))
        ends = np.array(dates, dtype="datetime64[D]")
        begins = obs.first_dates()[obs.codes(names)][:, np.newaxis]
        return np.where(begins <= ends, begins, ends - np.timedelta64(1, "D"))

    def changes(
        self, keys: Iterable[str], start: date, end: date, currency: str = "local", *, adjust: bool, today: date
    ) -> pd.DataFrame:
        """Return the returns of ``keys`` over one period: one row each, index ``Asset``."""
        names = list(dict.fromkeys(keys))
        by_currency = dict(
            self.returns(names, [(start, end)], [currency], adjust=adjust, today=today, name_unknown=True)
        )
        columns = ["Return", "Status", "Base_Date", "End_Date", "Base_Price", "End_Price"]
        frame = returns_frame(by_currency, names, ["period"], columns=columns)
        return frame.rename(columns={"Return": "Pct_Change"}).set_axis(pd.Index(names, name="Asset", dtype="str"))

    def first_date(self, key: str) -> date | None:
        """Return the date of a series' first observation, None where it has none."""
        obs = with_composites(self._market, self._market.prices.history([key]), self._market.lake.today())
        first: date | None = obs.first_dates()[0].item()
        return first

    def currencies(self, keys: Sequence[str]) -> dict[str, str | None]:
        """Return the currency of each series, None where it is not known."""
        return dict(zip(keys, self._market.assets.currencies(list(keys)), strict=True))

    def dates_of(self, keys: Iterable[str]) -> tuple[pd.Series, pd.Series]:
        """Return the dates of the first and the last row of each series, in whatever table, null where it has none."""
        names = list(keys)
        obs = self._market.prices.history(names)
        first, last = np.full((2, len(obs.keys)), np.datetime64("NaT", "D"))
        for side in (obs, obs.fallback):
            if side is not None:
                begins, ends = (np.full(len(obs.keys), np.datetime64("NaT", "D")) for _ in range(2))
                begins[side.code[::-1]], ends[side.code] = side.date[::-1], side.date
                first, last = np.fmin(first, begins), np.fmax(last, ends)
        at = obs.codes(names)
        return tuple(pd.Series(days[at].astype("datetime64[us]")) for days in (first, last))  # type: ignore[return-value]

    def suggestion(self, name: str) -> str:
        """Return the words "did you mean …" to put after a name that nothing matches; blank where no name is near."""
        near = self._market.assets.suggestions(name)
        return f" (did you mean {sample(near)}?)" if near else ""

    def series_among(self, names: Sequence[str]) -> list[str]:
        """Return those of ``names`` that are price series of any table."""
        obs = self._market.prices.observations(names, [self._market.lake.today()])
        return [name for name, present in zip(obs.keys, self._present(obs), strict=True) if present]

    def is_known(self, key: str) -> bool:
        """Return whether any price table has the series."""
        return bool(self._present(self._market.prices.history([key])).any())

    def _factors(
        self, rates: Observations, own: NDArray[Any], dest: str, days: DateArray
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return each of ``own`` as a row of the factors, -1 for no currency, and the factors to ``dest`` by day."""
        code, currencies = pd.factorize(own)
        per_usd = self._rates.asof(rates, {dest, *currencies}, days)
        # The last row, at -1, is that of no currency: NaN.
        return code, factors(np.array([*currencies, None], dtype=object), dest, per_usd, len(days))


def _mixed(prices: AsOf, base: IntArray, end: IntArray) -> BoolArray:
    """Return whether a series' base is a fallback's row and its end another table's, or the other way round."""
    has_rows = prices.has_row[:, base] & prices.has_row[:, end]
    return np.asarray((has_rows & (prices.fallback[:, base] != prices.fallback[:, end])).any(axis=1))


def _per_year(
    values: FloatArray, codes: NDArray[np.int8], bases: NDArray[Any], dates: Sequence[date]
) -> tuple[FloatArray, NDArray[np.int8]]:
    """Return returns per year, and codes; a return over less than a year is null, and its code that of `_SHORT`."""
    ends = np.array(dates, dtype="datetime64[D]")[:, np.newaxis]
    year_before = np.array([add_months(day, -12) for day in dates], dtype="datetime64[D]")[:, np.newaxis]
    with np.errstate(divide="ignore"):
        values = annualized(values, (ends - bases).astype(np.float64))
    is_short = bases > year_before
    codes = np.where(is_short & np.isfinite(values), np.int8(len(STATUSES)), codes)
    return np.where(is_short, np.nan, values), codes


def _long_frame(
    dests: Sequence[str],
    names: Sequence[str],
    dates: Sequence[date],
    periods: Sequence[str],
    values: FloatArray,
    codes: NDArray[np.int8],
    statuses: Sequence[str],
) -> pd.DataFrame:
    """Return a frame with a row for each cell of the arrays, [n_currencies, n_series, n_dates, n_periods]."""
    shape = values.shape

    def along(values: NDArray[_Cell], axis: int) -> NDArray[_Cell]:
        """Return ``values``, which lie along one axis, for each row of the frame."""
        return np.tile(np.repeat(values, math.prod(shape[axis + 1 :])), math.prod(shape[:axis]))

    def words(texts: Sequence[str], axis: int) -> Any:
        codes = np.arange(len(texts)).astype(np.min_scalar_type(-len(texts)))
        return pd.Categorical.from_codes(along(codes, axis), pd.Index(texts))

    days = np.array(dates, dtype="datetime64[D]").astype("datetime64[us]")
    return pd.DataFrame(
        {
            "Currency": words(dests, 0),
            "Asset": words(names, 1),
            "Date": along(days, 2),
            "Period": words(periods, 3),
            "Return": values.ravel(),
            "Status": pd.Categorical.from_codes(codes.ravel(), pd.Index(statuses)),
        },
        copy=False,
    )


def _currencies(assets: pd.Series, currencies: str | Mapping[str, str]) -> NDArray[Any]:
    """Return the currency of each of some assets, as one for all or by asset."""
    if isinstance(currencies, str):
        return np.full(len(assets), as_currency(currencies), dtype=object)
    if not isinstance(currencies, Mapping):
        raise UsageError(
            f"price_currency={shown(currencies)} is neither a currency nor a mapping.",
            hint="Give one for all assets, or a mapping of asset to currency.",
        )
    by_asset = {normal_name(str(key)): as_currency(value) for key, value in currencies.items()}
    own = assets.map(normal_name, na_action="ignore").map(by_asset).to_numpy(dtype=object)
    without = assets[pd.isna(own)]
    if len(without):
        raise UsageError(f"No currency is given for {sample(without.unique())}.", hint="Add them to the mapping.")
    return own
