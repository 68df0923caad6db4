"""A small lake of public exchange rates, made and loaded by the pipelines themselves, and synthetic interest.

Its content does not depend on the day on which it is made: the pipelines get a time just after the last month that the
rates cover. Making it again changes no byte, except that there are new run records.
"""

from __future__ import annotations

import os
import shlex
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from luxor_pipelines.catalog import ASSETS, HIST_RETURNS
from luxor_pipelines.demo.data import demo_assets, ecb_zip, overnight_indexes
from luxor_pipelines.errors import AccessError, UsageError
from luxor_pipelines.ingest import save_table
from luxor_pipelines.market.periods import add_months, month_end
from luxor_pipelines.operations.runs import run
from luxor_pipelines.query.luxor_query import LuxorQuery

if TYPE_CHECKING:
    from luxor_pipelines.operations.records import RunReport

__all__ = ["last_covered_month", "next_steps", "run_demo"]

MARK = "luxor-demo.txt"
_ABOUT = """A lake to look around in, made by `luxor demo`. Delete the folder when done.

Exchange rates: European Central Bank, euro foreign exchange reference rates.
The interest indexes `demo cash brl` and `demo cash usd` are synthetic: made up, after no market.
"""
_RATES = "raw/ecb/eurofxref-hist.zip"
_INTEREST = "hist_non_bbg_px_last"
_MONTHS_BEFORE = 12


def run_demo(folder: Path) -> tuple[LuxorQuery, list[RunReport]]:
    """Make or complete the demo lake in ``folder``, and run the pipelines there.

    Raises
    ------
    UsageError
        ``folder`` is a file, or a folder with something else in it.
    AccessError
        It cannot be made or read.
    """
    folder = folder.expanduser()
    try:
        _check(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise UsageError(f"{folder} lies below a file.", hint="Name another folder.") from error
        raise AccessError(
            f"The folder {folder} cannot be made or read: {error.strerror}.", hint="Name another folder."
        ) from error
    lq = LuxorQuery(lake=folder.resolve().as_uri())
    for path, data in ((MARK, _ABOUT.encode()), (_RATES, ecb_zip())):
        if lq.lake.storage.stat(path) is None:
            lq.lake.storage.write(path, data, expected=None)
    save_table(ASSETS, demo_assets(), lq=lq, mode="skip")

    # Rates come first: they say which months there are.
    rates = run("fx_rates", lq=lq)
    last_day = date.fromisoformat(str(rates.details["last_date"]))
    last = last_covered_month(last_day)
    save_table(_INTEREST, overnight_indexes(last_day), lq=lq, mode="skip")
    now = datetime.combine(max(last, last_day) + timedelta(days=1), time(18, 30), UTC)
    reports = [rates, run("holidays", lq=lq, now=now)]
    reports += [
        run(HIST_RETURNS.name, ref_date=month_end(add_months(last, -back)), lq=lq, now=now)
        for back in range(_MONTHS_BEFORE, -1, -1)
    ]
    return lq, reports


def _check(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file.", hint="Name a folder that is new or empty.")
    content = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if content and MARK not in content:
        raise UsageError(
            f"The folder {folder} is not empty, and not a demo's.",
            hint="Name one that is new or empty, as in: luxor demo my-demo",
        )


def last_covered_month(last_day: date) -> date:
    """Return the end of the last month of which there are rates up to its last weekday.

    ========== ================ ==========
    last_day   what it is       result
    ========== ================ ==========
    2026-10-30 Friday           2026-10-31
    2026-10-29 Thursday         2026-09-30
    2026-09-30 Wednesday        2026-09-30
    ========== ================ ==========
    """
    end = month_end(last_day)
    last_weekday = end - timedelta(days=max(end.weekday() - 4, 0))
    return end if last_day >= last_weekday else month_end(add_months(end, -1))


def next_steps(folder: Path) -> str:
    """Return what to try on the demo lake: commands for this system's shell, and a notebook's first lines."""
    lake = f'"{folder}"' if os.name == "nt" else shlex.quote(str(folder))
    return f"""Next, look around:
  luxor tables --lake {lake}
  luxor show hist_ecb_px_last --where "Asset=usdbrl curncy" --limit 5 --lake {lake}
  luxor returns --currency usd --lake {lake}
  luxor show hist_returns --where "Status!=ok" --lake {lake}
  luxor runs --lake {lake}

In a notebook:
  from luxor_pipelines import LuxorQuery
  lq = LuxorQuery(lake={folder.resolve().as_uri()!r})
  lq.get_prices("eurusd curncy", recent_date="2026-10-31", period="ytd", currency="brl")
  lq.get_hist_returns(currency="brl", wide=True)"""
