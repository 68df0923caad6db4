"""The old library's ``hist_returns``, with a column a period, as rows of ours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.catalog import HIST_RETURNS, IMPORTED, PERIODS
from luxor_pipelines.errors import SchemaError, sample
from luxor_pipelines.lake.types.frames import arrow_to_frame
from luxor_pipelines.lake.types.parsing import parse
from luxor_pipelines.lake.types.schema import DATE, LAST_UPDATED, NUMBER, TEXT, is_text_type

__all__ = ["long_returns"]

_KEY = ("Date", "Key", "Currency")


def long_returns(wide: pd.DataFrame) -> pd.DataFrame:
    """Return a row a month, asset, currency and period, all with the status `IMPORTED`.

    The old library wrote 0 for a missing price, and the return of a part of a period as that of all of it. So a 0 is
    a null here, and no other number is said to be right. Observations and prices are not known.

    Raises
    ------
    SchemaError
        A column of the key or every one of a period is missing, a date is no month's end, or a return is no number.
    """
    absent = [name for name in _KEY if name not in wide.columns]
    if absent:
        raise SchemaError(
            f"The old returns have no column {sample(absent)}; they have {sample(wide.columns, 20)}.",
            hint="A row is to be of one month, asset and currency, with columns Date, Key and Currency.",
        )
    periods = [period for period in PERIODS if period in wide.columns]
    if not periods:
        raise SchemaError(
            f"The old returns have no column of a period ({', '.join(PERIODS)}); they have {sample(wide.columns, 20)}.",
            hint="Each period is to be a column, with the returns of its name.",
        )
    dates = _column(wide, "Date", DATE)
    next_days = pc.add(dates, pa.scalar(np.timedelta64(1, "D").astype("timedelta64[us]")))
    odd = dates.filter(pc.fill_null(pc.not_equal(pc.day(next_days), 1), True))
    if len(odd):
        raise SchemaError(
            f"Column 'Date' of the old returns: {len(odd)} of {len(wide)} cells are no month's end; for instance "
            f"{str(odd[0].as_py()).removesuffix(' 00:00:00')}.",
            hint="Correct or drop those rows: returns are stored by month.",
        )
    values = np.concatenate([_column(wide, period, NUMBER).to_numpy() for period in periods])
    values[(values == 0) | ~np.isfinite(values)] = np.nan
    again = pa.array(np.tile(np.arange(len(wide)), len(periods)))
    values_by_name = {
        "Date": dates.take(again),
        "Key": _column(wide, "Key", TEXT).take(again),
        "Currency": _column(wide, "Currency", TEXT).take(again),
        "Period": pa.array(np.repeat(periods, len(wide)), TEXT),
        "Return": pa.array(values, NUMBER, from_pandas=True),
        "Status": pa.repeat(IMPORTED, len(values)),
    }
    schema = HIST_RETURNS.arrow()
    columns = {name: values_by_name.get(name, pa.nulls(len(values), schema.field(name).type)) for name in schema.names}
    frame: pd.DataFrame = arrow_to_frame(pa.table(columns).drop_columns(LAST_UPDATED))
    return frame


def _column(wide: pd.DataFrame, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column in its type; text may spell its values, words for null included."""
    try:
        column = pa.chunked_array([pa.array(wide[name], from_pandas=True)])
        if is_text_type(column.type) and kind != TEXT:
            return parse(column, kind, HIST_RETURNS.name, name)
        return column.cast(kind)
    except (pa.ArrowException, TypeError) as error:
        raise SchemaError(
            f"Column {name!r} of the old returns holds {wide[name].dtype}, not {kind} ({error}).",
            hint="Correct the column, or give its --type.",
        ) from error
