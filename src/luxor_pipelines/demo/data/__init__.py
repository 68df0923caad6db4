"""The data of the demo lake: some years of exchange rates, currencies as its assets, and synthetic interest.

The rates are a slice of the European Central Bank's euro foreign exchange reference rates, in the
bank's own format, so that the pipeline ``fx_rates`` reads them like the genuine file. Source:
European Central Bank; free reuse with the source stated. ``SOURCE.md`` beside this file says which
slice it is and how it was made. The overnight rates are made up, and named accordingly.
"""

from __future__ import annotations

from datetime import date
from importlib.resources import files
from io import StringIO

import pandas as pd

from luxor_pipelines.analytics.interest import accumulate_rate

__all__ = ["demo_assets", "ecb_zip", "overnight_indexes"]

_OVERNIGHT = {"brl": ("demo cash brl", "bz", "business/252"), "usd": ("demo cash usd", "us", "actual/360")}
"""Each currency's interest index, its location, and how its rates become interest."""

_CURRENCIES = {
    "eur": "Euro",
    "jpy": "Japanese yen",
    "gbp": "Pound sterling",
    "chf": "Swiss franc",
    "cad": "Canadian dollar",
    "aud": "Australian dollar",
    "nzd": "New Zealand dollar",
    "sek": "Swedish krona",
    "nok": "Norwegian krone",
    "cny": "Chinese yuan",
    "inr": "Indian rupee",
    "krw": "South Korean won",
    "mxn": "Mexican peso",
    "zar": "South African rand",
    "brl": "Brazilian real",
}


def ecb_zip() -> bytes:
    """Return the slice of the bank's file, packed as the bank packs it; its place is ``raw/ecb/eurofxref-hist.zip``."""
    return files(__package__).joinpath("eurofxref-hist.zip").read_bytes()


def overnight_indexes(last_day: date) -> pd.DataFrame:
    """Return the synthetic interest indexes on weekdays, 100 on the first: ``Date``, ``Asset``, ``Last_Price``."""
    rates = files(__package__).joinpath("overnight_rates.csv").read_text(encoding="utf-8")
    table = pd.read_csv(StringIO(rates)).astype({"Date": "datetime64[us]"})
    parts = []
    for currency, (ticker, _, basis) in _OVERNIGHT.items():
        own = table[table["Currency"] == currency].set_index("Date")["Rate"] / 100
        days = pd.date_range(own.index.min(), last_day, freq="B", unit="us", name="Date")
        level = 100 * accumulate_rate(own.reindex(days, method="ffill"), basis)
        parts.append(pd.DataFrame({"Date": days, "Asset": ticker, "Last_Price": level.to_numpy()}))
    return pd.concat(parts, ignore_index=True)


def demo_assets() -> pd.DataFrame:
    """Return the demo's ``assets``: a unit each of fifteen currencies, priced in US dollars, and two interest indexes.

    Columns ``Key``, ``Name``, ``Asset``, ``Ticker``, ``Ticker_BBG``, ``Type``, ``Group`` and
    ``Location``, all text; the price series are those that ``fx_rates`` makes, ``<iso>usd curncy``, and those of
    `overnight_indexes`.
    """
    rows = [(code, f"{code}usd curncy", name, "fx", "us") for code, name in _CURRENCIES.items()]
    rows += [
        ("cash", ticker, f"Synthetic {iso.upper()} cash", "interest", location)
        for iso, (ticker, location, _) in _OVERNIGHT.items()
    ]
    names, tickers, titles, kinds, locations = map(list, zip(*rows, strict=True))
    return pd.DataFrame(
        {
            "Key": [f"{name}_{ticker}" for name, ticker in zip(names, tickers, strict=True)],
            "Name": titles,
            "Asset": names,
            "Ticker": tickers,
            "Ticker_BBG": tickers,
            "Type": kinds,
            "Group": kinds,
            "Location": locations,
        }
    )
