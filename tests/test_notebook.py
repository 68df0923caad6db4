"""What a notebook shows of the library's objects and errors."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import luxor_pipelines
from luxor_pipelines import LuxorQuery, incremental_load, save_table
from luxor_pipelines.errors import SchemaError, conceal
from luxor_pipelines.operations.backfill import Backfill, PlannedDate
from luxor_pipelines.operations.records import RunReport
from luxor_pipelines.operations.runs import Outcome
from luxor_pipelines.reports.frames import styled

ROWS = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "Asset": ["a<b"], "Last_Price": [1.0]})


@pytest.fixture
def lq(disk: Any) -> LuxorQuery:
    lq: LuxorQuery = disk.query()
    save_table("t", ROWS, lq=lq)
    return lq


def test_a_query_shows_its_lake_and_what_was_read(lq: LuxorQuery) -> None:
    lq.get_table("t")
    text = lq._repr_html_()
    assert lq.lake.url in text
    assert "<td style='text-align: left'>t</td>" in text


def test_a_load_shows_its_counts(lq: LuxorQuery) -> None:
    changed = ROWS.assign(Last_Price=2.0)
    text = incremental_load(lq, "t", changed, unique_columns=["Date", "Asset"])._repr_html_()
    assert "Load of t" in text
    assert "Updated</th><td style='text-align: right'>1<" in text


def test_a_run_shows_its_outcome_and_error_as_text() -> None:
    now = datetime(2026, 11, 2, tzinfo=UTC)
    report = RunReport(
        id="abc", pipeline="hist_returns", status="failed", ref_date=date(2026, 10, 31), now=now, started_at=now,
        path="system/runs/x.json", rows=None,
        error={"class": "DataError", "message": "no <b>assets</b>", "hint": "Load them."},
    )  # fmt: skip
    text = report._repr_html_()
    assert "DataError: no &lt;b&gt;assets&lt;/b&gt;" in text
    assert "Load them." in text
    assert "Rows</th><td style='text-align: left'>–<" in text


def test_a_backfill_shows_how_many_dates_ended_how_and_what_went_wrong() -> None:
    days = [date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)]
    plan = tuple(PlannedDate(day, True, "missing") for day in days)
    outcomes = (
        Outcome(days[0], "done", 3),
        Outcome(days[1], "done", 3),
        Outcome(days[2], "failed", None, "no <assets>"),
    )
    text = Backfill("hist_returns", plan, outcomes)._repr_html_()
    assert "Done</th><td style='text-align: right'>2<" in text
    assert "2026-10-31 failed</th><td style='text-align: left'>no &lt;assets&gt;<" in text


def test_styled_returns_are_percentages_and_missing_ones_a_dash() -> None:
    frame = pd.DataFrame(
        {
            "Key": ["a", "b"],
            "Date": pd.to_datetime(["2026-10-31"] * 2),
            "mtd": [0.05, -0.0123],
            "12m": [None, 1.0],
            "End_Price": [1234.5678, 0.1],
        }
    )
    html = styled(frame).to_html()
    for text in ("5.00%", "-1.23%", "100.00%", "–", "1234.57", "2026-10-31"):
        assert f">{text}<" in html
    assert html.count("color: #b00020") == 1
    assert frame["mtd"].tolist() == [0.05, -0.0123], "the frame stays as it was"
    assert ">0.50%<" not in styled(frame, decimals=0).to_html()


def test_tab_completion_offers_questions_and_no_plumbing(lq: LuxorQuery) -> None:
    names = [name for name in dir(lq) if not name.startswith("_")]
    assert {"get_prices", "get_returns", "get_table", "list_tables", "lake"} <= set(names)
    assert not {"market", "forget", "settings", "versions", "blob_directory"} & set(names)


@pytest.mark.parametrize("work", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
def test_a_query_and_a_lake_say_why_they_cannot_be_copied(lq: LuxorQuery, work: Any) -> None:
    for thing in (lq, lq.lake):
        with pytest.raises(TypeError, match="Open") as caught:
            work(thing)
        assert lq.lake.url in str(caught.value)


def test_ipython_shows_the_call_and_the_message_only(lq: LuxorQuery) -> None:
    with pytest.raises(SchemaError) as caught:
        lq.get_table("t", columns=["Asst"])
    lines = "\n".join(caught.value._render_traceback_()).splitlines()
    assert len(lines) < 10
    assert Path(__file__).name in lines[0]
    assert "SchemaError" in lines[-3]
    assert "'Asst'" in lines[-3]
    inside = str(Path(luxor_pipelines.__file__).parent)
    assert not any(inside in line for line in lines)


def test_no_secret_is_shown_of_the_call() -> None:
    conceal("hidden-in-a-cell")
    with pytest.raises(SchemaError) as caught:
        raise SchemaError("hidden-in-a-cell", hint="hidden-in-a-cell")
    assert "hidden-in-a-cell" not in "".join(caught.value._render_traceback_())
