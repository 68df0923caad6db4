"""What the demo lake is made of: some years of exchange rates, and currencies as its assets.

The rates are a slice of the European Central Bank's euro foreign exchange reference rates, in the
bank's own format, so that the pipeline ``fx_rates`` reads them like the genuine file. Source:
European Central Bank; free reuse with the source stated. ``SOURCE.md`` beside this file says which
slice it is and how it was made.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

__all__ = ["demo_assets", "ecb_zip"]

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
    """The slice of the bank's file, packed as the bank packs it; its place is ``raw/ecb/eurofxref-hist.zip``."""
    return files(__package__).joinpath("eurofxref-hist.zip").read_bytes()


def demo_assets() -> pd.DataFrame:
    """The demo's ``assets``: one unit each of fifteen currencies, priced in US dollars.

    Columns ``Key``, ``Name``, ``Asset``, ``Ticker``, ``Ticker_BBG``, ``Type``, ``Group`` and
    ``Location``, all text; the price series are those that ``fx_rates`` makes, ``<iso>usd curncy``.
    """
    codes = list(_CURRENCIES)
    tickers = [f"{code}usd curncy" for code in codes]
    return pd.DataFrame(
        {
            "Key": [f"{code}_{ticker}" for code, ticker in zip(codes, tickers, strict=True)],
            "Name": list(_CURRENCIES.values()),
            "Asset": codes,
            "Ticker": tickers,
            "Ticker_BBG": tickers,
            "Type": "fx",
            "Group": "fx",
            "Location": "us",
        }
    )
