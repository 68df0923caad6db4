"""Timers: late, twice, and beside an HTTP run; and what they log when they fail."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest

from luxor_pipelines import hosting
from luxor_pipelines.errors import AccessError, ConfigurationError, DataError, QualityError
from luxor_pipelines.ingest import save_table
from luxor_pipelines.operations.records import RunReport, last_runs
from luxor_pipelines.pipelines import hist_returns

LAST_MONTH = hist_returns.reference_date(None, datetime.now(ZoneInfo("America/Sao_Paulo")).date())
KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
CONTEXT: Any = SimpleNamespace(invocation_id="an-invocation", trace_context=SimpleNamespace(trace_parent=None))


def timer(past_due: bool = False) -> func.TimerRequest:
    return TimerRequest(past_due=past_due)


def statuses(rig: Any) -> list[str]:
    return sorted(report.status for report in last_runs(rig.query(), "hist_returns"))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was logged, as text."""
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join(f"{record.levelname} {record.getMessage()} {record.exc_text}" for record in caplog.records)


def test_a_timer_that_is_past_due_runs(lake: Any, load: Any, mtd: Any, said: Callable[[], str]) -> None:
    assert load("run_hist_returns")(timer(past_due=True)) is None
    assert mtd(lake, LAST_MONTH) == [0.1]  # 110 / 100 - 1
    assert statuses(lake) == ["done"]
    log = said()
    assert "INFO run_hist_returns started (past due)" in log
    assert f"INFO run_hist_returns: hist_returns done, reference date {LAST_MONTH}, changed; record system/runs/" in log


def test_a_timer_that_fires_twice_changes_nothing_the_second_time(lake: Any, load: Any, mtd: Any, said: Any) -> None:
    main = load("run_hist_returns")
    main(timer())
    main(timer())
    assert mtd(lake, LAST_MONTH) == [0.1]
    assert statuses(lake) == ["done", "done"]
    assert [report.changed for report in last_runs(lake.query(), "hist_returns")].count(True) == 1
    assert "done, reference date" in said()
    assert "nothing changed" in said()


@pytest.mark.parametrize("link", ["__cause__", "__context__", "note", "argument"])
def test_a_timer_raises_no_chain_with_a_secret(link: str, said: Callable[[], str]) -> None:
    def broken() -> list[RunReport]:
        error, below = RuntimeError("no lake"), ValueError(f"AccountKey={KEY}")
        if link == "note":
            error.add_note(str(below))
        elif link == "argument":
            error.args = ("no lake", {"by": str(below)})
        else:
            setattr(error, link, below)
        raise error

    with pytest.raises(RuntimeError, match="no lake") as caught:
        hosting.on_timer(timer(), broken, CONTEXT)
    assert caught.value.__cause__ is caught.value.__context__ is None
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args) + said()
    assert KEY not in shown


def test_a_timer_raises_other_errors_as_they_are() -> None:
    error = RuntimeError("no lake")
    error.__cause__ = ValueError("no account")

    def broken() -> list[RunReport]:
        raise error

    with pytest.raises(RuntimeError) as caught:
        hosting.on_timer(timer(), broken, CONTEXT)
    assert caught.value is error
    assert str(caught.value.__cause__) == "no account"


def test_a_timer_that_meets_an_http_run_of_its_month_is_skipped(
    lake: Any, load: Any, mtd: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go = threading.Event(), threading.Event()
    compute = hist_returns.compute_returns

    def gated(*args: Any, **options: Any) -> Any:
        reached.set()
        assert go.wait(60)
        return compute(*args, **options)

    monkeypatch.setattr(hist_returns, "compute_returns", gated)
    monkeypatch.setenv("LUXOR_RUN_LOCK_TTL", "3")  # the timer watches until the lease is renewed, after a third
    by_hand, by_timer = load("run_pipeline"), load("run_hist_returns")
    body = f'{{"ref_date": "{LAST_MONTH.replace(day=5)}"}}'.encode()
    request = func.HttpRequest("POST", "/api", body=body, route_params={"name": "hist_returns"})
    answers: list[func.HttpResponse] = []
    thread = threading.Thread(target=lambda: answers.append(by_hand(request)))
    thread.start()
    try:
        assert reached.wait(60)
        assert by_timer(timer()) is None, "skipped is no failure: nothing is to be retried"
        assert by_hand(request).status_code == 409
    finally:
        go.set()
        thread.join(60)
    assert answers[0].status_code == 200
    assert mtd(lake, LAST_MONTH) == [0.1]
    assert statuses(lake) == ["done", "skipped"]
    assert f"hist_returns skipped, reference date {LAST_MONTH}; record" in said()


def test_rows_that_do_not_pass_their_checks_are_an_error_in_the_log(
    disk_lake: Any, load: Any, said: Callable[[], str]
) -> None:
    lq = disk_lake.query()
    prices = lq.get_table("hist_px_last")
    prices.loc[prices["Date"] == prices["Date"].max(), "Last_Price"] = 110_000.0  # 110.00
    save_table("hist_px_last", prices, lq=lq, mode="replace")
    with pytest.raises(QualityError):
        load("run_hist_returns")(timer())
    _, line = said().split("ERROR ")
    assert line.startswith(f"run_hist_returns failed: QualityError: hist_returns of {LAST_MONTH}: nothing was written")
    assert "returns are beyond what is plausible: 'fund local mtd 109,900.0 %'" in line
    assert statuses(disk_lake) == ["failed"]
    assert not lq.table_exists("hist_returns")


@pytest.mark.parametrize("name", ["fx_rates", "market_prices", "holidays"])
def test_the_other_timers_load_their_tables(disk_lake: Any, load: Any, name: str) -> None:
    assert load(f"run_{name}")(timer()) is None
    (report,) = last_runs(disk_lake.query(), name)
    assert report.status == "done"
    assert report.changed


def test_no_price_files_are_no_failure(disk_lake: Any, load: Any) -> None:
    disk_lake.storage().delete("raw/prices/a.csv")
    assert load("run_market_prices")(timer()) is None
    assert [report.status for report in last_runs(disk_lake.query())] == ["done"]


def test_without_settings_the_log_names_them(load: Any, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LUXOR_LAKE_URL", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError):
        load("run_hist_returns")(timer())
    _, line = said().split("ERROR ")
    assert line.startswith("run_hist_returns failed: ConfigurationError: ")
    assert "LUXOR_LAKE_URL" in line
    assert "AZURE_STORAGE_CONNECTION_STRING" in line


@pytest.mark.azurite
def test_a_wrong_key_is_told_without_the_key(make_rig: Any, load: Any, said: Any, monkeypatch: Any) -> None:
    right = make_rig("azurite").arguments
    account = [part for part in right["connection_string"].split(";") if not part.startswith("AccountKey")]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", ";".join([f"AccountKey={KEY}", *account]))
    monkeypatch.setenv("LUXOR_CONTAINER", right["container"])
    with pytest.raises(AccessError) as raised:
        load("run_hist_returns")(timer())
    assert "run_hist_returns failed: AccessError" in said()
    for text in (said(), str(raised.value)):
        assert KEY not in text
        assert "SharedKey" not in text


def test_a_failure_is_raised_again_and_the_earlier_steps_stay_done(disk_lake: Any, said: Any) -> None:
    import luxor_pipelines

    def run() -> list[RunReport]:
        return [luxor_pipelines.run("holidays"), luxor_pipelines.run("hist_returns", ref_date="2199-01-31")]

    with pytest.raises(ValueError, match="has not ended yet"):
        hosting.on_timer(timer(), run, CONTEXT)
    assert [(report.pipeline, report.status) for report in last_runs(disk_lake.query())] == [("holidays", "done")]
    assert "failed: UsageError: The month of 2199-01-31 has not ended yet" in said()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY};x"), RuntimeError),
        (OSError(f"GET https://a.blob.core.windows.net/c?sv=2024&sig={KEY}&se=2030"), RuntimeError),
        (DataError(f"AccountKey={KEY}"), DataError),
        (ValueError("plain"), ValueError),
    ],
)
def test_what_is_raised_and_logged_has_no_secret(error: Exception, kind: type[Exception], said: Any) -> None:
    def run() -> list[RunReport]:
        raise error

    with pytest.raises(kind) as raised:
        hosting.on_timer(timer(), run, CONTEXT)
    assert type(raised.value) is kind
    assert KEY not in str(raised.value) + repr(raised.value) + said()
    assert raised.value.__cause__ is None
    assert type(error).__name__ in said()
