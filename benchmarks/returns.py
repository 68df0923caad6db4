"""`hist_returns`: from the lake to the frame of one month, every asset × 6 periods × 3 currencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from benchmarks import rates
from benchmarks.lakes import PRICES, REF, TABLES, Lakes
from benchmarks.measure import Case, Contender, Target, load
from luxor_pipelines.catalog import PERIODS as _PERIODS
from luxor_pipelines.market.periods import base_date

if TYPE_CHECKING:
    import pandas as pd

    from luxor_pipelines import LuxorQuery

PERIODS = list(_PERIODS)
BASES = [base_date(REF, period) for period in PERIODS]
DATES = sorted({REF, *BASES})
CURRENCIES = ["local", "usd", "brl"]
COLUMNS = [
    *("Date", "Key", "Currency", "Period", "Price_Key", "Local_Currency"),
    *("Return", "Status", "Base_Date", "End_Date", "Base_Price", "End_Price"),
]
KEY = ("Date", "Key", "Currency", "Period")


def open_lake(lake: str | None = None, connection: str | None = None, container: str | None = None) -> LuxorQuery:
    """A new `LuxorQuery`, which knows nothing yet: on Azurite, or else of a folder."""
    from luxor_pipelines import LuxorQuery
    from luxor_pipelines.settings import Settings

    if connection is not None:
        return LuxorQuery(adls_connection_string=connection, container_name=container, settings=Settings())
    return LuxorQuery(lake=lake, settings=Settings())


def luxor(**where: str) -> Callable[[], pd.DataFrame]:
    """Ours, from opening the lake to the frame."""
    from luxor_pipelines.pipelines import hist_returns

    return lambda: hist_returns.get_returns(open_lake(**where), REF)


def luxor_months(lake: str, months: int) -> Callable[[], pd.DataFrame]:
    """Ours for the last ``months`` month ends at once."""
    import pandas as pd

    dates = [day.date() for day in pd.date_range(end=pd.Timestamp(REF), periods=months, freq="ME")]
    return lambda: open_lake(lake).get_returns(dates, periods=PERIODS, currency=CURRENCIES)


def cases(lakes: Lakes) -> Iterable[Case]:
    typed, years = lakes.local(), lakes.years
    yield _against_all("returns", f"One month of `hist_returns`, typed file sorted by date, {years} years", typed,
                       Target("hist_returns compute, typed sorted file", "luxor", 1.0, "Polars"))  # fmt: skip
    target = Target("hist_returns compute, unsorted all-text file", "luxor", 1.0, "Polars")
    title = "The same from the legacy file: unsorted, all text"
    yield _against_all("returns-text", title, lakes.local("text"), target, text=True)
    yield _against_all("returns-months", "The same from a file a month", lakes.local("months"))
    target = Target("hist_returns compute, typed as luxor optimize leaves it", "luxor", 1.0, "Polars")
    yield _against_all("returns-optimized", "The same from our own layout", lakes.local("optimized"), target)
    quoted = lakes.local(kind="quoted")
    case = _against_all("returns-quoted", "The same where everything is quoted, and the windows answer all", quoted,
                        Target("hist_returns compute, everything quoted", "luxor", 1.0, "Polars"))  # fmt: skip
    lean = Contender("Polars, windows only: cannot tell stale from missing", "returns_polars:windows_only",
                     {"lake": quoted})  # fmt: skip
    yield Case(case.name, case.title, [*case.contenders, lean], case.targets, case.key)
    yield _history(lakes)
    if lakes.azurite:
        yield from (_azurite(lakes, kind) for kind in ("quoted", "real"))
    yield _all_months(lakes)


def _all_months(lakes: Lakes) -> Case:
    """Every month end of the history, in one call."""
    lake, months = lakes.local("optimized"), 12 * lakes.years
    every, one = f"luxor, {months} months", "luxor, 1 month"
    contenders = [
        Contender(every, "returns:luxor_months", {"lake": lake, "months": months}, None),
        Contender(one, "returns:luxor_months", {"lake": lake, "months": 1}, None),
    ]
    targets = [
        Target(f"all {months} months at once: time", every, 5.0, one),
        Target(f"all {months} months at once: memory", every, 600 * 10**6, what="peak"),
    ]
    return Case("returns-all", f"`get_returns` of all {months} months at once, our own layout", contenders, targets)


def _against_all(name: str, title: str, lake: str, *targets: Target, text: bool = False) -> Case:
    peers = [
        Contender(peer, f"returns_{peer.lower()}:hist_returns", {"lake": lake, "text": text})
        for peer in ("Polars", "DuckDB", "pandas")
    ]
    return Case(name, title, [Contender("luxor", "returns:luxor", {"lake": lake}), *peers], targets, KEY)


def _history(lakes: Lakes) -> Case:
    """The same work on ever longer histories."""
    contenders = []
    layouts = ("typed", "optimized")
    for years in (lakes.short, lakes.years, lakes.long):
        for layout in layouts:
            lake, where = lakes.local(layout, years=years), "" if layout == "typed" else ", own layout"
            contenders.append(Contender(f"luxor, {years} years{where}", "returns:luxor", {"lake": lake}, f"{years}"))
        arguments = {"lake": lakes.local(years=years)}
        contenders.append(Contender(f"Polars, {years} years", "returns_polars:hist_returns", arguments, f"{years}"))
    targets = [
        Target(f"hist_returns, history {lakes.short} → {lakes.long} years{where}",
               f"luxor, {lakes.long} years{where}", 1.2, f"luxor, {lakes.short} years{where}")
        for where in ("", ", own layout")
    ]  # fmt: skip
    return Case("returns-history", "The same as history grows", contenders, targets, KEY)


def _azurite(lakes: Lakes, kind: str) -> Case:
    folder = lakes.local("optimized", kind)
    words = {"quoted": "everything quoted", "real": "with stale and missing series"}[kind]
    contenders = [
        Contender("luxor, Azurite", "returns:luxor", lakes.remote(folder)),
        Contender("luxor, local copy", "returns:luxor", {"lake": folder}),
        Contender("Polars, local copy", "returns_polars:hist_returns", {"lake": folder}),
    ]
    targets = [
        Target(f"hist_returns over Azurite, {words}: time", "luxor, Azurite", 1.5, "Polars, local copy"),
        Target(f"hist_returns over Azurite, {words}: bytes ÷ row groups needed", "luxor, Azurite", 1.2, what="needed"),
    ]
    return Case(f"returns-azurite-{kind}", f"The same over Azurite, {words}", contenders, targets, KEY,
                needed=_needed(folder))  # fmt: skip


def _needed(folder: str) -> int:
    """Bytes of the three columns in the row groups that a window touches, or an observation of the answer."""
    answer: Any = load("returns:luxor")(lake=folder)()
    seen = {day.date() for name in ("Base_Date", "End_Date") for day in answer[name].dropna().unique()}
    spans = [*((day - timedelta(days=rates.LIMIT), day) for day in DATES), *((day, day) for day in seen)]
    tables = Path(folder) / TABLES
    metadata = pq.read_metadata(tables / f"{PRICES}.parquet")
    total = (tables / "assets.parquet").stat().st_size
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
        first, last = columns["Date"].statistics.min.date(), columns["Date"].statistics.max.date()
        if any(start <= last and first <= end for start, end in spans):
            total += sum(columns[name].total_compressed_size for name in ("Date", "Asset", "Last_Price"))
    return total
