"""The first date and the last row of series, of all files of a price table together; see `lake.ends`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from luxor_pipelines.lake.parquet.series_index import FIRST
from luxor_pipelines.market.observations import BoolArray, FloatArray
from luxor_pipelines.market.periods import DateArray

__all__ = ["NAT", "SeriesEnds", "combined"]

NAT = np.datetime64("NaT", "D")


class SeriesEnds(NamedTuple):
    """Of each of some names its first and last date in a table, NaT where it has none, and the last price."""

    first: DateArray
    last: DateArray
    price: FloatArray

    @property
    def observed(self) -> BoolArray:
        """Whether the last row is an observation, in any kind of table."""
        return (self.price > 0) & np.isfinite(self.price)

    @property
    def doubtful(self) -> BoolArray:
        """Whether there is a last row which is none, so that there may be one before it."""
        return ~np.isnat(self.last) & ~self.observed


def combined(table: pa.Table, key: str, price: str) -> tuple[pa.Array, SeriesEnds]:
    """The names, and the ends of each: those of all partitions together."""
    encoded = table[key].combine_chunks().dictionary_encode()
    code = encoded.indices.to_numpy()
    first, last = (table[name].to_numpy().astype("datetime64[D]") for name in (FIRST, "Date"))
    known = SeriesEnds(
        np.full(len(encoded.dictionary), NAT),
        np.full(len(encoded.dictionary), NAT),
        np.zeros(len(encoded.dictionary)),
    )
    # Of several rows of a name the last one assigned stays.
    later, earlier = np.argsort(last, kind="stable"), np.argsort(-first.view(np.int64), kind="stable")
    known.last[code[later]], known.price[code[later]] = last[later], table[price].to_numpy()[later]
    known.first[code[earlier]] = first[earlier]
    return encoded.dictionary, known
