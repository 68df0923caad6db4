"""Frames as people read them: returns in percent, nothing for what is missing."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING

from luxor_pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

__all__ = ["styled"]

_RETURNS = re.compile(r"return|pct_change|volatility|drawdowns?|mtd|qtr|ytd|wtd|inception|\d+[my]|year", re.IGNORECASE)
_PRICES = re.compile(r".*price", re.IGNORECASE)


def styled(frame: pd.DataFrame, *, decimals: int = 2) -> Styler:
    """Style a frame for a notebook: returns in percent, negative ones in red, prices with 6 significant digits.

    A column counts as returns by its name: ``Return``, ``Pct_Change``, ``Volatility``, ``Drawdowns``, ``Year``, or a
    period such as ``mtd`` or ``12m``. The frame itself stays as it is.

    Parameters
    ----------
    frame
        Any frame of `LuxorQuery`, such as ``lq.get_hist_returns(wide=True)``.
    decimals
        Digits after the point of a percentage.

    Raises
    ------
    ConfigurationError
        jinja2, which pandas styles with, is not installed.
    """
    numbers = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    returns: list[Hashable] = [name for name in numbers if _RETURNS.fullmatch(str(name))]
    prices: list[Hashable] = [name for name in numbers if _PRICES.fullmatch(str(name))]
    try:
        style = frame.style
    except ImportError as error:
        raise ConfigurationError(
            "Styled frames need jinja2, which is not installed.", hint="Install it: pip install 'luxor-pipelines[plot]'"
        ) from error
    dates = [name for name in frame.columns if frame[name].dtype.kind == "M"]
    formats = ((returns, f"{{:.{decimals}%}}"), (prices, "{:.6g}"), (dates, "{:%Y-%m-%d}"))
    style = style.format({name: text for names, text in formats for name in names}, na_rep="–")
    return style.map(lambda value: "color: #b00020" if value < 0 else "", subset=returns) if returns else style
