"""Backfills killed three times at random: in the end the table is that of an uninterrupted one, every record true."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines import backfill, incremental_load, save_table
from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.operations.records import last_runs
from reliability.conftest import Scale
from reliability.processes import Child, Lake, open_lake

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="slow to start processes")

TTL_S = 0.5
NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
FIRST, LAST, MONTHS = "2024-11", "2026-10", 24
KILLS = 3


def fill(lq: Any) -> None:
    keys = [f"fund{n}" for n in range(3)]
    save_table("assets", pd.DataFrame({"Key": keys, "Name": keys, "Ticker_BBG": keys, "Location": "us"}), lq=lq)
    days = pd.bdate_range("2024-10-31", "2026-11-20")
    price = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, (len(days), 3)), axis=0))
    prices = {"Date": np.repeat(days, 3), "Asset": keys * len(days), "Last_Price": price.ravel()}
    incremental_load(lq, HIST_FILE_PX_LAST.name, pd.DataFrame(prices), schema=HIST_FILE_PX_LAST)


def backfill_missing(say: Callable[[Any], None], lake: Lake) -> None:
    lq = open_lake(lake, run_lock_ttl=TTL_S)
    done = backfill("hist_returns", FIRST, LAST, lake=lq, now=NOW, missing=True, told=lambda told: say(told.status))
    say(("ended", done.failed))


def content(rig: Any) -> pd.DataFrame:
    frame: pd.DataFrame = rig.query().get_table("hist_returns")
    return frame.sort_values(["Date", "Key", "Currency", "Period"], ignore_index=True)


@pytest.mark.parametrize("kind", ["disk", pytest.param("azurite", marks=pytest.mark.azurite)])
def test_a_backfill_killed_three_times_ends_like_one_that_was_not(
    make_rig: Any, kind: str, scale: Scale, figures: Counter[str]
) -> None:
    whole = make_rig(kind)
    fill(whole.query())
    assert not backfill("hist_returns", FIRST, LAST, lake=whole.query(), now=NOW).failed
    expected = content(whole)
    chance = random.Random(f"{scale.seed}/{kind}")
    for _ in range(scale.backfills):
        rig = make_rig(kind)
        fill(rig.query())
        for _ in range(KILLS):
            child = Child(backfill_missing, rig.lake)
            for _ in range(chance.randrange(1, 6)):
                if isinstance(child.hear(), tuple):
                    break
            time.sleep(chance.uniform(0, 0.2))  # the random moment
            child.kill()
            figures["kills"] += 1
        child = Child(backfill_missing, rig.lake)
        said = list(child.rest())
        assert said[-1] == ("ended", False)
        assert set(said[:-1]) <= {"done", "unchanged"}
        pd.testing.assert_frame_equal(content(rig), expected, check_exact=True)
        reports = last_runs(rig.query(), limit=None)
        by_month = Counter((report.ref_date, report.status) for report in reports)
        months = {report.ref_date for report in reports}
        assert len(months) == MONTHS
        # A month is done once; where a run was killed between its load and its record it is stored, and not run again.
        assert max(by_month[month, "done"] for month in months) == 1
        assert sum(report.status == "died" for report in reports) <= KILLS, "each kill hits one run at most"
        assert {report.status for report in reports} <= {"done", "died"}
        figures["runs that died"] += sum(report.status == "died" for report in reports)
        figures["backfills"] += 1
