"""Each month's mtd, qtr, ytd, 12m, 24m and 36m return of every asset, in local currency, USD and BRL."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from luxor_pipelines.catalog import (
    ASSETS,
    CURRENCIES,
    HIST_RETURNS,
    PERIODS,
    PRICE_TABLES,
    PX_LAST,
    QUOTA_ADJUSTMENTS,
    USDBRL,
)
from luxor_pipelines.errors import UsageError
from luxor_pipelines.ingest import incremental_load
from luxor_pipelines.market.columns import coded
from luxor_pipelines.market.periods import DateLike, as_date, base_date, month_end
from luxor_pipelines.market.returns import returns_columns
from luxor_pipelines.pipelines import Declaration, Due, PipelineResult
from luxor_pipelines.pipelines._return_checks import MonthReturns, WrittenMonth, check_returns
from luxor_pipelines.quality.gate import gate
from luxor_pipelines.telemetry import span

if TYPE_CHECKING:
    import pandas as pd

    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["DECLARATION", "SCHEMA", "first_date", "get_returns", "reference_date", "run", "run_many"]

logger = logging.getLogger(__name__)

SCHEMA = HIST_RETURNS

DECLARATION = Declaration(
    outputs=(SCHEMA,),
    inputs=(ASSETS, *(table.name for table in PRICE_TABLES), PX_LAST, QUOTA_ADJUSTMENTS),
    dates="month ends",
    due=Due("16:00", days=1),
)


def run(
    ref_date: DateLike | None = None,
    *,
    lq: LuxorQuery | None = None,
    now: datetime | None = None,
    usdbrl_ticker: str = USDBRL,
    force: bool = False,
) -> PipelineResult:
    """Compute one month's returns and load them into ``hist_returns``.

    Rerunning a month replaces its rows where they have changed and touches no other month.

    Parameters
    ----------
    ref_date
        A date of the month wanted; default the last month that has ended in São Paulo.
    lq
        The lake; default the one the environment names.
    now
        The time it is, for "today"; default the clock's.
    usdbrl_ticker
        The series of BRL per USD.
    force
        Write the returns even if they do not pass their checks; the result's warnings and details say so.

    Raises
    ------
    UsageError
        The month has not ended yet, or is before the first price of all.
    DataError
        ``assets`` is empty.
    QualityError
        The returns do not pass their checks (see `check_returns`); nothing has been written.
    SchemaError
        A stored ``hist_returns`` has other columns; it is not touched.
    """
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    ref_date = reference_date(ref_date, lq.lake.today(now or lq.now()))
    with span("compute"):
        returns = next(compute_returns(lq, [ref_date], usdbrl_ticker))
    return _load(lq, ref_date, returns, force=force)


def run_many(
    ref_dates: Sequence[date],
    *,
    lq: LuxorQuery,
    now: datetime | None = None,  # noqa: ARG001 - every pipeline takes it
    usdbrl_ticker: str = USDBRL,
    force: bool = False,
) -> Iterator[tuple[date, Callable[[], PipelineResult]]]:
    """Compute the returns of several month ends in one pass.

    Yields each month end, in ascending order, and a function that checks and loads its rows, as `run` does. Called
    in that order, each month is compared with the one before.
    """
    dates = sorted(set(ref_dates))
    months = compute_returns(lq, dates, usdbrl_ticker)
    written: list[WrittenMonth] = []
    for ref_date in dates:
        with span("compute"):
            returns = next(months)
        yield ref_date, partial(_load, lq, ref_date, returns, force=force, written=written)


def _load(
    lq: LuxorQuery,
    ref_date: date,
    returns: ComputedMonth,
    *,
    force: bool,
    written: list[WrittenMonth] | None = None,
) -> PipelineResult:
    """Check and load a month's returns; ``written`` has the month loaded last, and is given this one."""
    logger.info("hist_returns for %s", ref_date)
    rows = returns.rows
    if rows["End_Date"].null_count == len(rows):
        first = first_date(lq)
        if first is not None and ref_date < first:
            raise UsageError(
                f"No table has a price of {ref_date} or before: the first is of the month that ends on {first}.",
                hint=f"The earliest month that can be run is {first}.",
            )
    month = MonthReturns.of(rows)
    passed = gate(
        f"hist_returns of {ref_date}",
        check_returns(lq, month, ref_date, written or ()),
        force=force,
        command=f"luxor run hist_returns --ref-date {ref_date}",
    )
    load = incremental_load(lq, SCHEMA.name, rows, normalize_columns=True, schema=SCHEMA)
    if written is not None:
        written[:] = [WrittenMonth(ref_date, load.version_after, month)]
    statuses = sorted(rows["Status"].value_counts().to_pylist(), key=lambda status: -status["counts"])
    logger.info("hist_returns for %s: %s", ref_date, load)
    return PipelineResult(
        loads=(load,),
        rows=len(rows),
        details={
            "statuses": {status["values"]: status["counts"] for status in statuses},
            **passed.details,
        },
        warnings=(*returns.notes, *passed.warnings),
        ref_date=ref_date,
    )


def reference_date(ref_date: DateLike | None, today: date) -> date:
    """Return the end of the month of ``ref_date``; by default, of the last month that ended before ``today``.

    Raises
    ------
    UsageError
        The month of ``ref_date`` has not ended yet.
    """
    latest = today.replace(day=1) - timedelta(days=1)
    month: date = latest if ref_date is None else month_end(ref_date)
    if month > latest:
        raise UsageError(
            f"The month of {month} has not ended yet (today is {today} in São Paulo).",
            hint=f"The latest month that can be run is {latest}.",
        )
    return month


def first_date(lq: LuxorQuery) -> date | None:
    """Return the end of the month of the first price in any price table: earlier months have no returns."""
    dates = [lq.lake.cache.first_date(table.name) for table in PRICE_TABLES if lq.lake.cache.exists(table.name)]
    first_dates = [first for first in dates if first is not None]
    return month_end(min(first_dates)) if first_dates else None


def get_returns(lq: LuxorQuery, ref_date: DateLike, *, usdbrl_ticker: str = USDBRL) -> pd.DataFrame:
    """Return one month's returns of every asset: the columns of `SCHEMA`, text as categoricals; nothing is written.

    Every asset has a row for every currency and period, whether or not a return can be stated.
    """
    rows = next(compute_returns(lq, [month_end(as_date(ref_date))], usdbrl_ticker)).rows
    frame: pd.DataFrame = rows.to_pandas().copy()  # Arrow's memory is read-only
    return frame


class ComputedMonth(NamedTuple):
    """A month's rows, text dictionary-encoded, and notes on what came up while they were computed."""

    rows: pa.Table
    notes: tuple[str, ...]


def compute_returns(lq: LuxorQuery, ref_dates: Sequence[date], usdbrl_ticker: str) -> Iterator[ComputedMonth]:
    """Yield the returns of each month end in turn, all computed at once."""
    # Imported here, with all that computes, since commands import this module to read what it declares.
    from luxor_pipelines.query.answers import Answers
    from luxor_pipelines.query.prices import NO_SERIES

    assets = lq.market.assets.frame(("Key", "Price_Key"))
    # An asset that names no series is one without observations.
    price_key = assets["Price_Key"].fillna(NO_SERIES).to_numpy(dtype=object)
    keys = sorted(set(price_key))
    position = {key: row for row, key in enumerate(keys)}
    series = np.array([position[key] for key in price_key])
    texts = {"Key": assets["Key"], "Local_Currency": lq.market.assets.currencies(keys)[series]}
    words = {name: coded(text) for name, text in texts.items()}
    price_keys = coded([key if key != NO_SERIES else None for key in price_key])
    spans = [(base_date(ref, period), ref) for ref in ref_dates for period in PERIODS]
    answers = Answers(lq.market, usdbrl_ticker)
    # Each series is computed once; the assets that share it take its rows.
    by_currency = {currency: returns.take(series) for currency, returns in answers.returns(keys, spans, CURRENCIES)}
    names = [column.name for column in SCHEMA.columns]
    same: dict[str, pa.Array] = {}  # the columns that are the same in every month
    for place, ref in enumerate(ref_dates):
        own = slice(place * len(PERIODS), (place + 1) * len(PERIODS))
        columns = returns_columns(
            {currency: returns.select(own) for currency, returns in by_currency.items()},
            price_keys,
            PERIODS,
            columns=[name for name in names if name not in same],
            texts=words,
            date=ref,
            categories=True,
        )
        for name in ("Base_Price", "End_Price"):  # a bad row's price may be infinite, which no table takes
            columns[name][np.isinf(columns[name])] = np.nan
        arrays = same | {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
        same = {name: arrays[name] for name in (*words, "Price_Key", "Currency", "Period")}
        yield ComputedMonth(pa.table({name: arrays[name] for name in names}), tuple(answers.notes))
