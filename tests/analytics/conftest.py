from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def shares(shared_data: Path) -> pd.DataFrame:
    """Daily prices of twenty shares, 1990 to 2022."""
    return pd.read_csv(shared_data / "sp500_20_stocks_daily.csv.gz", index_col=0, parse_dates=True)


@st.composite
def price_frames(draw: st.DrawFn, least: int = 2, most: int = 40, columns: int = 3) -> pd.DataFrame:
    """Prices on weekdays, with some missing; each column has one at least."""
    rows = draw(st.integers(least, most))
    price = st.floats(0.01, 1e4)
    cells = st.one_of(price, price, price, st.none())
    data = {
        name: draw(st.lists(cells, min_size=rows, max_size=rows).filter(lambda values: any(values)))
        for name in "abcdef"[:columns]
    }
    index = pd.bdate_range("2023-11-27", periods=rows, unit="us", name="Date")
    return pd.DataFrame(data, index=index, dtype=np.float64)
