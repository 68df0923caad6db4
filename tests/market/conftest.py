from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from luxor_pipelines.market.observations import Observations
from market.facts import BY_TABLE, merge_observations

Table = Mapping[str, Mapping[str, float]]


@pytest.fixture(scope="session")
def observe() -> Callable[..., Observations]:
    """Build observations from literal tables: ``observe(hist_px_last={"spy": {"2024-01-31": 10.0}})``."""

    def build(keys: list[str] | None = None, **tables: Table) -> Observations:
        names = keys or list(dict.fromkeys(key for table in tables.values() for key in table))
        parts = []
        for table, series in tables.items():
            rows = [(names.index(key), d, p) for key, prices in series.items() for d, p in prices.items()]
            codes, dates, prices = zip(*rows, strict=True) if rows else ((), (), ())
            parts.append((BY_TABLE[table], codes, np.array(dates, "datetime64[D]"), prices))
        return merge_observations(names, parts)

    return build
