"""Finding pipelines, running them, and the records they leave."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import luxor_pipelines
from luxor_pipelines.catalog import HIST_FILE_PX_LAST, TABLES, open_lake
from luxor_pipelines.errors import (
    ConfigurationError,
    ConflictError,
    DataError,
    InvalidNameError,
    TableNotFoundError,
    UnknownPipelineError,
    UsageError,
)
from luxor_pipelines.ingest import incremental_load, save_table
from luxor_pipelines.operations import discovery, runs
from luxor_pipelines.operations.discovery import (
    declarations,
    declared_schemas,
    find_pipelines,
    get_pipeline,
    in_order,
    parse_params,
)
from luxor_pipelines.operations.records import RunReport, last_runs
from luxor_pipelines.operations.runs import run
from luxor_pipelines.operations.status import table_status

NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)

# A package of somebody else's, as it would be installed beside ours.
PLUGIN = '''
"""A curve, for tests.

More about it.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from luxor_pipelines.errors import DataError
from luxor_pipelines.ingest import incremental_load
from luxor_pipelines.pipelines import PipelineResult


def run(ref_date=None, *, lq=None, now=None, points: int = 2, api_key: str = "", fails: str | None = None,
        tenors: list[str] | None = None, share: float = 0.5, fast: bool = False, file: str = "",
        table: str = "") -> PipelineResult:
    records = [info for info in lq.lake.storage.list("system/runs/curves")]
    seen = [json.loads(lq.lake.storage.read(info.path).data)["status"] for info in records]
    if fails == "ours":
        raise DataError(f"The account said no to {api_key} (AccountKey=abc123def;x).", hint="Ask them.")
    if fails == "value":
        raise ValueError(f"bad \\"AccountKey=abc123def\\" in {now}")
    if fails == "interrupt":
        raise KeyboardInterrupt
    if fails in ("taken", "taken and lost"):
        lq.lake.storage.write(records[-1].path, b"{}")
        if fails == "taken and lost":
            raise DataError("what really happened")
    if fails == "nothing":
        return None
    if file:
        lq.lake.read(file)
    if table:
        lq.lake.cache.exists(table)
    frame = pd.DataFrame({"Date": pd.to_datetime(["2026-10-30", "2026-10-31"])[:points], "Rate": [0.1, 0.2][:points]})
    load = incremental_load(lq, "curves", frame)
    lq.get_table("curves")
    details = {"seen": seen, "nan": float("nan"), "count": np.int64(3), "when": now, "key_used": f"with {api_key}"}
    resolved = None if ref_date is None else ref_date.replace(day=28)
    return PipelineResult((load,), len(frame), details, ("look at this",), resolved)


def other(ref_date=None, *, lq=None, now=None, **anything) -> PipelineResult:
    if "fails" in anything:
        raise TypeError(anything["fails"])
    return PipelineResult((), 0, {"anything": anything})
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the package ``acme-curves``, whose pipelines are found by entry point."""
    site = tmp_path / "site"
    info = site / "acme_curves-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_curves.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-curves\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[luxor_pipelines.pipelines]\ncurves = acme_curves\nother = acme_curves:other\nAcme-other = acme_curves:other\n"
        "broken = acme_is_not_there\nfx_rates = acme_curves\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "acme_curves", raising=False)
    return site


@pytest.fixture
def lq(disk: Any, plugin: Path) -> Any:
    return disk.query()


def record(lq: Any, report: RunReport) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lq.lake.storage.read(report.path).data)
    return found


def only_record(lq: Any) -> tuple[dict[str, Any], str]:
    (info,) = lq.lake.storage.list("system/runs")
    text = lq.lake.storage.read(info.path).data.decode()
    return json.loads(text), text


# --- finding ----------------------------------------------------------------------------------


def test_our_pipelines_are_found_and_helpers_are_not() -> None:
    found = find_pipelines()
    assert {"fx_rates", "hist_returns", "holidays", "market_prices"} <= found.keys()
    assert not [name for name in found if name.startswith("_")]
    assert list(found) == sorted(found)


def test_a_description_is_the_first_paragraph_of_the_docstring() -> None:
    import luxor_pipelines.pipelines.holidays as module

    assert module.__doc__ is not None
    assert find_pipelines()["holidays"].description == module.__doc__.split("\n\n", maxsplit=1)[0].strip()


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, luxor_pipelines.operations.runs, luxor_pipelines.cli\n"
        "assert luxor_pipelines.cli.main(['list']) == 0\n"
        "print(sorted({'pandas', 'pyarrow', 'numpy', 'fsspec', 'azure', 'pydantic'} & set(sys.modules)))\n"
        "print([name for name in sys.modules if name.startswith('luxor_pipelines.pipelines.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]


def test_installed_packages_add_theirs(plugin: Path) -> None:
    found = find_pipelines()
    assert found["curves"].description == "A curve, for tests."
    assert (found["curves"].package, found["other"].target) == ("acme-curves", "acme_curves:other")
    assert "acme_curves" not in sys.modules, "described without being imported"


def test_no_package_can_replace_ours_which_is_told_once(plugin: Path, caplog: pytest.LogCaptureFixture) -> None:
    discovery._tell_unused.cache_clear()
    assert find_pipelines()["fx_rates"].package == "luxor-pipelines"
    find_pipelines()  # as a command does for each question about a pipeline
    assert [message.partition(" of ")[0] for message in caplog.messages] == ["The pipeline fx_rates"]
    assert "The pipeline fx_rates of acme-curves is not used" in caplog.text


def test_one_broken_package_stops_no_other(lq: Any) -> None:
    assert find_pipelines()["broken"].description == ""
    assert run("other", lq=lq).status == "done"
    with pytest.raises(ConfigurationError, match=r"broken .* of acme-curves\) cannot be imported"):
        run("broken", lq=lq)


def test_a_name_that_no_record_can_have_is_not_used(plugin: Path, caplog: pytest.LogCaptureFixture) -> None:
    (plugin / "acme_curves-1.0.dist-info" / "entry_points.txt").write_text(
        "[luxor_pipelines.pipelines]\nMy-Curves = acme_curves\na curve = acme_curves\n", encoding="utf-8"
    )
    assert "My-Curves" in find_pipelines()
    assert "a curve" not in find_pipelines()
    assert "The pipeline a curve of acme-curves is not used: its name is not of letters" in caplog.text


@pytest.mark.parametrize("fault", ["def run(:", "raise KeyError('x')", "raise SystemExit(0)"])
def test_a_package_that_fails_while_it_is_imported_stops_no_other(
    plugin: Path, lq: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    (plugin / "acme_is_not_there").mkdir()
    (plugin / "acme_is_not_there" / "__init__.py").write_text(fault, encoding="utf-8")
    entry_points = plugin / "acme_curves-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(entry_points.read_text(encoding="utf-8") + "below = acme_is_not_there.below\n")
    assert find_pipelines()["below"].description == ""
    assert {"curves", "hist_returns"} <= declarations().keys()
    assert "broken" not in declarations()
    assert in_order(["broken", "other"]) == ["broken", "other"]
    with pytest.raises(ConfigurationError, match=r"broken .* of acme-curves\) cannot be imported: \w+: "):
        run("broken", lq=lq)


@pytest.mark.parametrize("name", ["hist_returns", "hist-returns", " HIST_RETURNS "])
def test_names_are_forgiving(name: str) -> None:
    assert get_pipeline(name).name == "hist_returns"


def test_an_unknown_name_is_met_with_a_suggestion() -> None:
    with pytest.raises(UnknownPipelineError, match="no pipeline 'hist_retruns'") as caught:
        run("hist_retruns")
    assert caught.value.hint.startswith("Did you mean hist_returns? There are: ")
    assert "fx_rates" in caught.value.hint


# --- what is refused before anything happens --------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"ref_date": "31/10/2026"},
        {"ref_date": "2026-02-30"},
        {"ref_date": ""},
        {"ref_date": 20261031},
        {"ref_date": pd.NaT},
        {"now": datetime(2026, 11, 23)},
        {"lake": "memory://elsewhere"},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_a_wrong_call_leaves_no_record(lq: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run("curves", lq=lq, **arguments)
    assert lq.lake.storage.list("system") == []


def test_an_unknown_parameter_is_met_with_those_there_are(lq: Any) -> None:
    with pytest.raises(UsageError, match="curves has no parameter 'point'") as caught:
        run("curves", lq=lq, point=1)
    assert caught.value.hint.startswith("Did you mean points? It accepts: points, api_key, fails")


def test_without_a_lake_nothing_runs(plugin: Path) -> None:
    with pytest.raises(ConfigurationError, match="No lake is configured"):
        run("curves")


# --- a run and its record ---------------------------------------------------------------------


def test_a_run_leaves_one_record_on_every_kind_of_lake(rig: Any, plugin: Path) -> None:
    lq = rig.query()
    report = run("curves", lq=lq, ref_date="2026-10-31", points=2)
    assert report.path == f"system/runs/curves/20261123T183000Z-{report.id}.json"
    (info,) = lq.lake.storage.list("system/runs")
    assert info.path == report.path
    assert ":" not in info.path
    found = record(lq, report)
    assert found == report.as_dict()
    assert (found["status"], found["rows"], found["ref_date"]) == ("done", 2, "2026-10-28")
    assert found["schema_version"] == 1
    (load,) = found["loads"]
    assert (load["table"], load["inserted"], load["version_before"]) == ("curves", 2, None)
    assert found["inputs"] == {"curves": load["version_after"]}
    assert found["params"] == {"points": 2}
    assert found["error"] is None
    assert found["library_version"]
    assert found["warnings"] == ["look at this"]
    assert report.changed


def test_the_record_stands_while_the_run_is_under_way(lq: Any) -> None:
    assert run("curves", lq=lq).details["seen"] == ["running"]


def test_a_rerun_is_a_new_record_and_changes_nothing(lq: Any) -> None:
    first, again = run("curves", lq=lq), run("curves", lq=lq)
    assert first.path != again.path
    assert not again.changed
    assert (again.loads[0].unchanged, again.loads[0].inserted) == (2, 0)


def test_details_are_made_ready_for_json(lq: Any) -> None:
    details = record(lq, run("curves", lq=lq, now=NOW))["details"]
    assert (details["nan"], details["count"], details["when"]) == (None, 3, "2026-11-23T18:30:00+00:00")


@pytest.mark.parametrize(
    "given_date", ["2026-10-05", date(2026, 10, 5), datetime(2026, 10, 5, 23), pd.Timestamp("2026-10-05 12:00")]
)
def test_the_reference_date_can_be_given_in_many_ways(lq: Any, given_date: Any) -> None:
    assert run("curves", lq=lq, ref_date=given_date).ref_date == date(2026, 10, 28), "the one the pipeline resolved"
    assert run("other", lq=lq, ref_date=given_date).ref_date == date(2026, 10, 5), "the one it was given"


def test_the_moment_is_handed_on_in_utc_and_the_record_has_the_real_time_too(lq: Any) -> None:
    report = run("curves", lq=lq, now=datetime(2020, 1, 1, 9, tzinfo=timezone(timedelta(hours=-3))))
    assert report.now == datetime(2020, 1, 1, 12, tzinfo=UTC)
    assert report.details["when"] == "2020-01-01T12:00:00+00:00"
    assert report.started_at == NOW


@pytest.mark.parametrize(
    "lake",
    [
        lambda disk: {"lake": disk.arguments["lake"]},
        lambda disk: {"lake": Path(disk.storage().root)},
        lambda disk: {"lake": open_lake(disk.arguments["lake"])},
        lambda disk: {"lake": disk.query()},
        lambda disk: {"lq": disk.query()},
    ],
    ids=["address", "folder", "lake", "query as lake", "query"],
)
def test_a_lake_can_be_named_or_handed_over(disk: Any, plugin: Path, lake: Any) -> None:
    report = run("curves", "2026-10-05", **lake(disk))
    assert report.ref_date == date(2026, 10, 28)
    (found,) = last_runs(*lake(disk).values())
    assert found == report


def test_inputs_are_what_that_run_read(lq: Any) -> None:
    lq.lake.storage.write("raw/curves/a.csv", b"1")
    save_table("elsewhere", pd.DataFrame({"Date": pd.to_datetime(["2026-10-30"]), "Rate": [1.0]}), lq=lq)
    lq.get_table("elsewhere")
    first = run("curves", lq=lq)
    assert first.inputs.keys() == {"curves"}, "not what the query had read before"
    second = run("curves", lq=lq, file="raw/curves/a.csv", table="not_there")
    version = lq.lake.storage.stat("raw/curves/a.csv").version
    assert second.inputs == {"curves": first.inputs["curves"], "not_there": None, "raw/curves/a.csv": version}
    lq.get_table("curves")
    assert lq.versions().keys() == {"curves", "elsewhere"}, "the query has its own"
    assert last_runs(lq)[0] == second


def test_partitions_after_the_reference_date_are_no_inputs(disk: Any) -> None:
    fill_months(disk.query())
    before = run("hist_returns", "2026-09-30", lake=disk.query()).inputs
    assert before.keys() >= {"assets", "hist_file_px_last", "hist_px_last"}
    later = pd.DataFrame({"Date": pd.to_datetime(["2027-01-04"]), "Asset": ["fund"], "Last_Price": [120.0]})
    incremental_load(disk.query(), "hist_file_px_last", later)
    assert run("hist_returns", "2026-09-30", lake=disk.query()).inputs == before
    earlier = pd.DataFrame({"Date": pd.to_datetime(["2025-01-06"]), "Asset": ["fund"], "Last_Price": [90.0]})
    incremental_load(disk.query(), "hist_file_px_last", earlier)
    after = run("hist_returns", "2026-09-30", lake=disk.query()).inputs
    assert {name for name, version in after.items() if version != before[name]} == {"hist_file_px_last"}


def fill_months(lq: Any) -> None:
    save_table("assets", pd.DataFrame({"Key": ["fund"], "Name": ["Fund"], "Ticker_BBG": ["fund"]}), lq=lq)
    prices = {"Date": pd.to_datetime(["2026-08-31", "2026-09-30"]), "Asset": "fund", "Last_Price": [100.0, 110.0]}
    incremental_load(lq, "hist_file_px_last", pd.DataFrame(prices), schema=HIST_FILE_PX_LAST)


def test_runs_and_pipelines_can_be_asked_for_at_the_top(
    disk: Any, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUXOR_LAKE_URL", disk.arguments["lake"])
    report = luxor_pipelines.run("other")
    assert luxor_pipelines.last_runs() == [report]
    assert "curves" in luxor_pipelines.find_pipelines()


def test_any_parameter_goes_to_a_pipeline_that_takes_any(lq: Any) -> None:
    assert run("other", lq=lq, colour="blue").details == {"anything": {"colour": "blue"}}


# --- failures ---------------------------------------------------------------------------------


def test_a_failure_is_recorded_with_class_message_and_hint(lq: Any) -> None:
    with pytest.raises(DataError):
        run("curves", lq=lq, ref_date="2026-10-31", fails="ours", api_key="pa55phrase")
    found, text = only_record(lq)
    assert (found["status"], found["ref_date"]) == ("failed", "2026-10-31")
    assert found["error"] == {
        "class": "DataError",
        "message": "The account said no to *** (AccountKey=***;x).",
        "hint": "Ask them.",
    }
    assert found["params"] == {"fails": "ours", "api_key": "***"}
    assert "pa55phrase" not in text
    assert "abc123def" not in text
    assert found["ended_at"] is not None


def test_any_other_error_too_even_with_quotes_beside_a_secret(lq: Any) -> None:
    with pytest.raises(ValueError, match="bad"):
        run("curves", lq=lq, fails="value", now=NOW)
    found, _ = only_record(lq)
    assert found["error"]["class"] == "ValueError"
    assert found["error"]["message"] == 'bad "AccountKey=***" in 2026-11-23 18:30:00+00:00'


def test_an_interruption_is_a_failure(lq: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("curves", lq=lq, fails="interrupt")
    found, _ = only_record(lq)
    assert (found["status"], found["error"]["class"]) == ("failed", "KeyboardInterrupt")


def test_a_pipeline_that_returns_nothing_has_failed(lq: Any) -> None:
    with pytest.raises(TypeError, match="acme_curves returned a NoneType, not a PipelineResult"):
        run("curves", lq=lq, fails="nothing")
    assert only_record(lq)[0]["status"] == "failed"


def test_the_error_survives_a_record_that_cannot_be_written(lq: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="what really happened"):
        run("curves", lq=lq, fails="taken and lost")
    assert "that could not be recorded" in caplog.text


def test_a_record_somebody_else_changed_is_not_overwritten(lq: Any) -> None:
    with pytest.raises(ConflictError):
        run("curves", lq=lq, fails="taken")
    assert only_record(lq)[1] == "{}"


def test_secrets_in_what_a_pipeline_tells_are_masked(lq: Any) -> None:
    report = run("curves", lq=lq, api_key="pa55phrase")
    assert report.details["key_used"] == "with ***"
    assert "pa55phrase" not in lq.lake.storage.read(report.path).data.decode()


SECRETS = st.text("abcdefABCDEF0123456789+/=", min_size=8, max_size=40)


@given(
    secret=SECRETS,
    before=st.text("xyz \"'{\\", max_size=10),
    after=st.sampled_from(["", ";x", '"', "'", " x", '\\"', "\n"]),
)
def test_no_account_key_gets_into_a_record(secret: str, before: str, after: str) -> None:
    told = f"{before}AccountKey={secret}{after}"
    report = RunReport(
        id="1", pipeline="p", status="failed", ref_date=None, now=NOW, started_at=NOW, path="p", warnings=(told,),
        details={"deep": [{"er": told}], told: 1}, error={"class": "E", "message": told, "hint": ""},
    )  # fmt: skip
    text = json.dumps(report.as_dict())
    assert secret not in text
    assert json.loads(text)["pipeline"] == "p"


@pytest.mark.parametrize("secret", ["pa55", "pa55phras", "pa55phrase"])
@pytest.mark.parametrize("name", ["api_key", "API_KEY", "Password", "Connection_String"])
def test_a_parameter_that_is_a_secret_by_its_name_is_masked(lq: Any, name: str, secret: str) -> None:
    with pytest.raises(TypeError, match=secret):
        run("other", lq=lq, **{name: secret, "fails": f"with {secret}"})
    found, text = only_record(lq)
    assert found["params"] == {name: "***", "fails": "with ***"}
    assert found["error"]["message"] == "with ***"
    assert secret not in text


def test_a_secret_of_three_letters_garbles_no_text(lq: Any) -> None:
    report = run("other", lq=lq, api_key="the", note="the note")
    assert record(lq, report)["params"] == {"api_key": "***", "note": "the note"}


def test_the_record_says_how_long_the_run_took(lq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 101.23456])
    monkeypatch.setattr(runs, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    report = run("other", lq=lq)
    assert report.duration_s == 1.235
    assert record(lq, report)["duration_s"] == 1.235


def test_a_failed_run_says_the_date_it_had_resolved(disk: Any) -> None:
    lq = disk.query()
    with pytest.raises(TableNotFoundError):
        run("hist_returns", lq=lq, ref_date="2026-10-05")
    assert only_record(lq)[0]["ref_date"] == "2026-10-31"
    with pytest.raises(TableNotFoundError):
        run("hist_returns", lq=lq)
    assert {report.ref_date for report in last_runs(lq)} == {date(2026, 10, 31)}


# --- looking back -----------------------------------------------------------------------------


def test_runs_are_listed_newest_first(disk: Any, plugin: Path, clock: Any) -> None:
    lq = disk.query(clock=clock)
    made = []
    for step, name in enumerate(["curves", "other", "curves", "other"]):
        clock.now = NOW + timedelta(seconds=[0, 0.25, 0.5, 90][step])
        made.append(run(name, lq=lq))
    assert last_runs(lq) == made[::-1], "read back as they were"
    assert last_runs(lq, limit=2) == made[:1:-1]
    assert last_runs(lq, "curves") == [made[2], made[0]]
    assert last_runs(lq, "curves", limit=1) == [made[2]]


def test_runs_are_found_under_a_name_with_hyphens_and_capitals(lq: Any) -> None:
    report = run("Acme-other", lq=lq)
    assert last_runs(lq, "Acme-other") == [report]
    assert [each.last_run for each in table_status(lq) if each.pipeline == "Acme-other"] == [report]


@pytest.mark.parametrize("limit", [1, 3, None])
def test_runs_of_one_second_are_listed_in_the_order_they_began(
    disk: Any, plugin: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    lq = disk.query(clock=clock)
    names = iter("dbeac")
    monkeypatch.setattr(runs, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=next(names) * 12)))
    made = []
    for step in range(5):
        clock.now = NOW + timedelta(seconds=step / 8)
        made.append(run("other", lq=lq))
    assert len({report.path[:-17] for report in made}) == 1, "all of one second"
    assert last_runs(lq, limit=limit) == made[::-1][:limit]


def test_what_is_no_record_is_skipped_with_a_warning(lq: Any, caplog: pytest.LogCaptureFixture) -> None:
    report = run("other", lq=lq)
    for name, content in {"a": b"\xff{", "b": b"[]", "c": b"{}", "d": b'{"id": 1', "e.txt": b"x"}.items():
        lq.lake.storage.write(f"system/runs/other/20270101T000000Z-{name}{'' if '.' in name else '.json'}", content)
    assert last_runs(lq, limit=1) == [report], "and does not count"
    assert caplog.text.count("is not a run record and was skipped") == 4


DAMAGE: dict[str, Any] = {
    "id": 7,
    "status": None,
    "ref_date": "last month",
    "now": "2026-11-23T18:30:00",
    "started_at": "2026-11-23T18:30:00",
    "ended_at": 5,
    "duration_s": "long",
    "rows": "many",
    "loads": [{"table": "t"}],
    "warnings": "all",
    "details": [],
    "inputs": {"t": 1},
    "params": None,
    "error": {"class": "E"},
    "lock": 1,
    "unsettled": [1],
    "schema_version": "new",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_record_with_a_damaged_field_is_skipped(lq: Any, caplog: pytest.LogCaptureFixture, name: str) -> None:
    good = run("other", lq=lq)
    damaged = {**good.as_dict(), name: DAMAGE[name]}
    lq.lake.storage.write("system/runs/other/20270101T000000Z-x.json", json.dumps(damaged).encode())
    assert last_runs(lq) == [good]
    assert "20270101T000000Z-x.json is not a run record and was skipped" in caplog.text


@pytest.mark.parametrize("levels", [60, 100_000])
def test_a_record_that_is_nested_too_deeply_is_skipped(lq: Any, caplog: pytest.LogCaptureFixture, levels: int) -> None:
    good = run("other", lq=lq)
    text = json.dumps({**good.as_dict(), "details": {"deep": 1}})
    deep = text.replace('{"deep": 1}', '{"deep": ' * levels + "1" + "}" * levels)
    lq.lake.storage.write("system/runs/other/20270101T000000Z-x.json", deep.encode())
    assert last_runs(lq) == [good]
    assert "20270101T000000Z-x.json is not a run record and was skipped" in caplog.text


def test_a_record_of_a_later_version_can_be_read(lq: Any) -> None:
    report = run("other", lq=lq)
    later = {**report.as_dict(), "schema_version": 2, "weather": "fair"}
    lq.lake.storage.write(report.path, json.dumps(later).encode())
    (found,) = last_runs(lq)
    assert (found.id, found.schema_version) == (report.id, 2)


def test_no_runs_of_a_pipeline_there_is_and_of_one_there_is_not(lq: Any) -> None:
    assert last_runs(lq, "fx-rates") == []
    with pytest.raises(UnknownPipelineError, match="fx_rate"):
        last_runs(lq, "fx_rate")
    with pytest.raises(InvalidNameError):
        last_runs(lq, "../../enriched")


# --- parameters as text -----------------------------------------------------------------------


def test_parameters_are_read_by_their_declared_types(plugin: Path) -> None:
    texts = ["points=1", "share=0.25", "fast=Yes", "api-key=a=b", "tenors=1m, 2m,", "fails="]
    assert parse_params("curves", texts) == {
        "points": 1,
        "share": 0.25,
        "fast": True,
        "api_key": "a=b",
        "tenors": ["1m", "2m"],
        "fails": "",
    }
    assert parse_params("fx_rates", ["fetch=false"]) == {"fetch": False}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["points"], "key=value"),
        (["=1"], "key=value"),
        (["points=one"], "points does not take that value"),
        (["fast=perhaps"], "fast does not take that value"),
        (["points=1", "points=2"], "given twice"),
        (["lq=x"], "no parameter 'lq'"),
        (["ref_date=2026-10-31"], "no parameter 'ref_date'"),
    ],
)
def test_parameters_that_are_wrong_are_refused(plugin: Path, texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_params("curves", texts)


def test_runs_of_two_processes_keep_a_record_each(disk: Any, plugin: Path) -> None:
    lake = disk.arguments["lake"]
    code = f"from luxor_pipelines import run; run('other', lake={lake!r}, if_running='skip')"
    environment = {**os.environ, "PYTHONPATH": str(plugin)}
    start: Callable[[], subprocess.Popen[bytes]] = lambda: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", code], env=environment
    )
    both = [start(), start()]
    assert [process.wait(60) for process in both] == [0, 0]
    ended = sorted(report.status for report in last_runs(disk.query()))
    assert ended in (["done", "done"], ["done", "skipped"])  # one after the other, or at the same time


def test_steps_are_logged_and_secrets_are_not(lq: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "luxor_pipelines")
    report = run("curves", lq=lq, ref_date="2026-10-31", api_key="pa55phrase")
    messages = [entry.getMessage() for entry in caplog.records if entry.name == "luxor_pipelines.operations.runs"]
    assert messages[0] == "curves: reference date 2026-10-31"
    assert report.path in messages[-1]
    assert "pa55phrase" not in caplog.text


# --- what pipelines declare ---------------------------------------------------------------------


def test_what_our_pipelines_declare_is_what_they_do() -> None:
    declared = declarations()
    assert {name: [schema.name for schema in declared[name].outputs] for name in declared} == {
        "fx_rates": ["hist_ecb_px_last"],
        "hist_returns": ["hist_returns"],
        "holidays": ["holidays_exchange"],
        "market_prices": ["hist_file_px_last"],
    }
    assert declared["hist_returns"].dates == "month ends"
    assert str(declared["hist_returns"].due) == "16:00, the next business day (bz)"
    assert declared["market_prices"].inputs == ("raw/prices/", "assets")
    assert declared_schemas()["hist_returns"] is declared["hist_returns"].outputs[0]


def test_the_data_dictionary_and_the_first_page_name_the_tables_that_pipelines_declare() -> None:
    rows = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()
    for name, declaration in declarations().items():
        (row,) = [line for line in rows if line.startswith(f"| `{name}` |")]
        for schema in declaration.outputs:
            assert TABLES[schema.name].written_by == f"the pipeline `{name}`"
            assert f"`{schema.name}`" in row


def test_the_pipeline_that_contributing_shows_runs_as_it_stands(
    disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    module, package = (
        re.search(r"```python\n(.*?)```", page, re.DOTALL),
        re.search(r"```toml\n(.*?)```", page, re.DOTALL),
    )
    assert module is not None
    assert package is not None
    ((name, target),) = tomllib.loads(package[1])["project"]["entry-points"]["luxor_pipelines.pipelines"].items()
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[luxor_pipelines.pipelines]\n{name} = {target}\n", encoding="utf-8")
    (tmp_path / "my_package").mkdir()
    (tmp_path / f"{target.replace('.', '/')}.py").write_text(module[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    lq = disk.query()
    lq.lake.storage.write("raw/volumes/2026-10-30.csv", b"Date,Asset,Volume\n2026-10-30,a,5\n")
    assert find_pipelines()[name].description == "Each day's volume of every asset."
    report = run(name, "2026-10-30", lake=lq)
    assert (report.ref_date, report.rows, list(report.inputs)) == (
        date(2026, 10, 30),
        1,
        ["raw/volumes/2026-10-30.csv"],
    )
    assert not run(name, "2026-10-30", lake=lq).changed
    (table,) = [status for status in table_status(lq) if status.pipeline == name]
    assert table.newest == date(2026, 10, 30)


def test_packages_installed_beside_us_declare_the_same_way(plugin: Path, caplog: pytest.LogCaptureFixture) -> None:
    declared = declarations()
    assert declared["curves"].outputs == (), "nothing is declared"
    assert "What broken declares is not known" in caplog.text


def test_pipelines_are_put_in_the_order_of_their_inputs() -> None:
    assert in_order(["hist_returns", "fx-rates"]) == ["fx_rates", "hist_returns"]
    order = in_order(find_pipelines())
    assert order.index("hist_returns") > max(order.index("fx_rates"), order.index("market_prices"))
    with pytest.raises(UnknownPipelineError):
        in_order(["hist_return"])
