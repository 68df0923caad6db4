"""Plots of prices, returns, drawdowns, rolling figures and correlations. Need the extra ``plot``.

Each function asks a `LuxorQuery`, draws on ``ax``, by default of a new figure, and returns the Axes, to be changed or
saved: ``plots.drawdown(lq, "spxt index", "2019-12-31").figure.savefig("drawdown.png")``. No display is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from luxor_pipelines.errors import ConfigurationError, DataError, UsageError
from luxor_pipelines.market.periods import DateLike
from luxor_pipelines.names import as_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["correlation", "drawdown", "prices", "returns", "rolling"]

# Okabe and Ito's colours, which people who see colours differently tell apart, without their yellow.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
INK, PALE, FAINT = "#333333", "#8a8a8a", "#e4e4e4"
_DARK = 0.62
"""The share of a heat map's reach beyond which a cell is so dark that its text is white."""

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100.0,
    "font.family": "sans-serif",
    "font.size": 10.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.color": PALE,
    "ytick.labelcolor": INK,
}


def prices(
    lq: LuxorQuery,
    tickers: str | Iterable[str],
    previous_date: DateLike,
    recent_date: DateLike | None = None,
    currency: str = "local",
    *,
    rebase: bool = True,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draw prices over time, by default rebased to 100 on each series' first date.

    ``options`` go to `LuxorQuery.get_prices`. Days without a price are gaps.
    """
    frame = lq.get_prices(tickers, recent_date, previous_date, currency=currency, **options)
    wide = _wide(frame, "Last_Price", tickers)
    if rebase:
        wide = wide / wide.bfill().iloc[0] * 100
    with _axes(ax) as axes:
        _lines(axes, wide)
        axes.set_title(_title(wide, f"prices{_in(currency)}") + (f", {wide.index[0]:%Y-%m-%d} = 100" if rebase else ""))
        axes.set_xlim(wide.index[0], wide.index[-1])
    return axes


def returns(
    lq: LuxorQuery,
    ticker: str,
    currency: str = "local",
    *,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draw the returns of a series by month and year as a heat map, each year's beside.

    Partial months, and so years, have an asterisk. ``options`` go to `LuxorQuery.returns_table`.
    """
    table = lq.returns_table(ticker, currency, **options)
    columns = [name for name in table.columns if name != "Partial"]
    months = columns[:12]
    values = table[columns].to_numpy(dtype=np.float64)
    partial = np.zeros(values.shape, dtype=bool)
    for row, words in enumerate(table["Partial"]):
        for word in filter(None, words.split(", ")):
            partial[row, [columns.index(word[:3]), columns.index("Year")]] = True
    reach = _reach(values[:, :12])
    shades = values.copy()
    shades[:, 12:] /= max(_reach(values[:, 12:]) / reach, 1)  # a year's shade among years
    places = [*range(12), *range(13, 1 + len(columns))]  # a gap parts the months from the year
    with _axes(ax, width=11, height=1.2 + 0.34 * len(table)) as axes:
        laid = np.insert(shades, 12, np.nan, axis=1)
        texts = {
            (row, places[at]): f"{round(100 * value, 1) + 0.0:.1f}{'*' if partial[row, at] else ''}"
            for (row, at), value in np.ndenumerate(values)
        }
        _heat_map(axes, laid, texts, reach)
        axes.set_aspect("auto")
        axes.set_xticks(places, [*months, *columns[12:]])
        axes.set_yticks(range(len(table)), [str(year) for year in table.index])
        axes.set_title(
            f"{ticker.strip()}: returns{_in(currency)}, %" + ("   (* part of the days)" if partial.any() else "")
        )
    return axes


def drawdown(
    lq: LuxorQuery,
    tickers: str | Iterable[str],
    previous_date: DateLike,
    recent_date: DateLike | None = None,
    currency: str = "local",
    *,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draw how far prices lie below their highest since ``previous_date``; of one series as an area.

    ``options`` go to `LuxorQuery.calculate_drawdown`.
    """
    frame = lq.calculate_drawdown(tickers, previous_date, recent_date, currency, **options)
    wide = _wide(frame.reset_index(), "Drawdowns", tickers)
    with _axes(ax) as axes:
        _lines(axes, wide)
        if wide.shape[1] == 1:
            axes.fill_between(wide.index, wide.iloc[:, 0], 0, color=COLORS[0], alpha=0.18, linewidth=0)
        axes.set_ylim(top=0)
        axes.set_xlim(wide.index[0], wide.index[-1])
        _percent(axes)
        axes.set_title(_title(wide, f"drawdown{_in(currency)}"))
    return axes


def rolling(
    lq: LuxorQuery,
    tickers: str | Iterable[str],
    previous_date: DateLike,
    recent_date: DateLike | None = None,
    currency: str = "local",
    *,
    what: Literal["returns", "volatility"] = "returns",
    months: int = 12,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draw returns or volatilities over the ``months`` up to each month end.

    ``options`` go to `LuxorQuery.rolling_returns` or `LuxorQuery.calculate_volatility`.
    """
    if what == "returns":
        wide = lq.rolling_returns(tickers, previous_date, recent_date, currency, period=f"{months}m", **options)
    elif what == "volatility":
        end = pd.Timestamp(recent_date or lq.today())
        back = (end.year - pd.Timestamp(previous_date).year) * 12 + end.month - pd.Timestamp(previous_date).month
        days = round(months * 365.25 / 12)
        frame = lq.calculate_volatility(tickers, max(back, 1), days, currency, recent_date=end, **options)
        wide = _wide(frame, "Volatility", tickers, name="Ticker")
    else:
        raise UsageError(f"{what!r} is not drawn", hint="Give returns or volatility.")
    wide = wide.dropna(how="all")
    if not len(wide):
        raise DataError(f"There is no {what} to draw.", hint="Give earlier dates, or fewer months.")
    with _axes(ax) as axes:
        _lines(axes, wide)
        _percent(axes)
        if what == "returns":
            axes.axhline(0, color=PALE, linewidth=0.8, zorder=1)
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(_title(wide, f"{what} over {months} months{_in(currency)}"))
    return axes


def correlation(
    lq: LuxorQuery,
    tickers: Iterable[str],
    previous_date: DateLike,
    recent_date: DateLike | None = None,
    currency: str = "local",
    *,
    ax: Axes | None = None,
    **options: Any,
) -> Axes:
    """Draw the correlation of each pair of series as a square of shades.

    ``options`` go to `LuxorQuery.correlation`.
    """
    square = lq.correlation(tickers, previous_date, recent_date, currency, **options)
    if isinstance(square, pd.Series):
        raise UsageError("A rolling correlation is no square.", hint="Leave window out.")
    values = square.to_numpy()
    size = 2.2 + 0.62 * len(square)
    with _axes(ax, width=size + 0.8, height=size) as axes:
        texts = {place: f"{round(value, 2) + 0.0:.2f}" for place, value in np.ndenumerate(values)}
        _heat_map(axes, values, texts, 1.0)
        axes.set_xticks(range(len(square)), square.columns, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(square)), square.index)
        axes.set_title(f"Correlation of {options.get('sample_frequency', 'monthly')} returns{_in(currency)}")
    return axes


@contextmanager
def _axes(ax: Axes | None, *, width: float = 8.0, height: float = 4.2) -> Iterator[Axes]:
    """Yield the axes to draw on, in the family's style: those given, or of a new figure."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "Plots need matplotlib, which is not installed.", hint="Install it: pip install 'luxor-pipelines[plot]'"
        ) from error
    with plt.rc_context(_STYLE):
        axes = plt.subplots(figsize=(width, height))[1] if ax is None else ax
        # Axes that are given were made in another style.
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[:].set_color(PALE)
        axes.grid(visible=True, color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(color=PALE, labelcolor=INK, labelsize=10)
        yield axes


def _lines(axes: Axes, wide: pd.DataFrame) -> None:
    """Draw a line a series; with several also a legend, in the order in which the lines end."""
    for at, name in enumerate(wide.columns):
        column = wide[name]
        style = ("-", "--", ":")[at // len(COLORS) % 3]
        axes.plot(
            column.index.to_numpy(), column.to_numpy(), label=str(name), color=COLORS[at % len(COLORS)], linestyle=style
        )
    if len(wide.columns) > 1:
        lines = axes.get_lines()
        last = wide.ffill().iloc[-1].to_numpy()
        order = np.argsort(-np.where(np.isfinite(last), last, -np.inf), kind="stable")
        axes.legend(
            [lines[n] for n in order], [str(wide.columns[n]) for n in order], loc="upper left", bbox_to_anchor=(1, 1)
        )


def _wide(frame: pd.DataFrame, value: str, tickers: str | Iterable[str], *, name: str = "Asset") -> pd.DataFrame:
    """Return one column a series, in the order of ``tickers``; series given by another name come last."""
    wide = frame.pivot(index="Date", columns=name, values=value).dropna(how="all", axis=1)
    if wide.empty:
        raise DataError(
            "There is nothing to draw: no series has a price on these dates.", hint="Check tickers and dates."
        )
    names = as_names(tickers, "tickers")
    first = [ticker for ticker in dict.fromkeys(name.strip().lower() for name in names) if ticker in wide.columns]
    return wide[[*first, *(name for name in wide.columns if name not in first)]]


def _heat_map(axes: Axes, values: np.ndarray[Any, Any], texts: Mapping[Any, str], reach: float) -> None:
    """Draw a table of values in shades from ``-reach`` to ``reach``, with a text in each cell that has a value."""
    axes.imshow(values, cmap=_diverging(), vmin=-reach, vmax=reach)
    for (row, column), text in texts.items():
        value = values[row, column]
        if np.isfinite(value):
            color = "white" if abs(value) > _DARK * reach else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}%".replace("-", "−"))


def _diverging() -> Any:
    """Return the colours of a heat map: losses in the family's orange, gains in its blue, white between."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        "losses and gains", ["#a63c00", "#f0a878", "#ffffff", "#7fb4dc", "#00507d"]
    )


def _reach(values: np.ndarray[Any, Any]) -> float:
    """Return the value at which shades end, so that all moves but the few largest can be told apart."""
    sizes = np.abs(values[np.isfinite(values)])
    return max(float(np.quantile(sizes, 0.95)), 1e-4) if len(sizes) else 1.0


def _title(wide: pd.DataFrame, subject: str) -> str:
    """Return the title, which names a single series, since that has no legend."""
    return f"{wide.columns[0]}: {subject}" if len(wide.columns) == 1 else subject[0].upper() + subject[1:]


def _in(currency: str) -> str:
    return "" if currency.strip().lower() == "local" else f" in {currency.strip().upper()}"
