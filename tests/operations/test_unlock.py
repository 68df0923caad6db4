"""`luxor unlock`: who holds which lease, and releasing one whose holder has died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from luxor_pipelines.cli import main
from luxor_pipelines.lake.storage.lease import Lease, holder_of

PATH = "system/locks/runs/hist_returns/2026-10-31.json"
ABOUT = {"run": "abc", "process": 7, "host": "box"}
DEAD = -5.0
"""Seconds of a promise that was over when it was made."""


def luxor(lake: Any, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(["unlock", *args, "--lake", lake.arguments["lake"]])
    return code, *capsys.readouterr()


def hold(lake: Any, ttl: float) -> Lease:
    lease = Lease(lake.storage(), PATH, ttl=ttl, about=ABOUT)
    assert lease.acquire() is None
    return lease


def test_leases_are_listed(disk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert luxor(disk, capsys)[2].strip() == "Nobody holds a lease."
    hold(disk, DEAD)
    code, out, _ = luxor(disk, capsys)
    assert code == 0
    header, row = out.splitlines()
    assert header.split("  ")[0] == "Lease"
    assert row.split()[:3] == ["runs/hist_returns/2026-10-31", "expired", "abc"]
    listed = json.loads(luxor(disk, capsys, "--json")[1])
    assert list(listed) == ["schema_version", "leases"]
    (lease,) = listed["leases"]
    assert (lease["holder"], lease["state"], lease["lost"]) == (ABOUT, "expired", [])
    assert lease["overdue_s"] > 0


def test_a_pipelines_name_alone_is_answered_with_its_leases(disk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hold(disk, DEAD)
    code, _, err = luxor(disk, capsys, "hist_returns", "--yes")
    assert code == 1
    assert "There is no lease hist_returns" in err
    assert "Name one of runs/hist_returns/2026-10-31." in err


@pytest.mark.parametrize("name", ["hist_returns/2026-10-31", "runs/hist_returns/2026-10-31", PATH])
def test_the_lease_of_a_dead_holder_is_released_and_then_forgotten(
    disk: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    hold(disk, DEAD)
    code, out, _ = luxor(disk, capsys, name, "--yes")
    assert (code, out) == (0, "runs/hist_returns/2026-10-31 is released\n")
    assert luxor(disk, capsys, name, "--yes")[1] == "runs/hist_returns/2026-10-31 was released already\n"
    assert luxor(disk, capsys)[1].splitlines()[1].split() == [
        "runs/hist_returns/2026-10-31",
        "released",
        "–",
        "–",
        "abc",
    ]
    assert luxor(disk, capsys, name, "--ended", "--yes")[0] == 0
    assert not disk.storage().list("system/locks/runs")


def test_the_lease_of_a_live_holder_is_a_conflict(disk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(disk, 3600.0):
        code, _, err = luxor(disk, capsys, "hist_returns/2026-10-31", "--ended", "--yes")
        assert code == 4
        assert "is held: run abc, process 7 on box renewed it at" in err
        assert holder_of(disk.storage(), PATH) is not None


def test_a_lease_that_is_not_there(disk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = luxor(disk, capsys, "hist_returns/2026-11-30", "--yes")
    assert code == 1
    assert "There is no lease hist_returns/2026-11-30" in err


def test_without_a_yes_nothing_is_released(disk: Any) -> None:
    hold(disk, DEAD)
    done = subprocess.run(
        [sys.executable, "-m", "luxor_pipelines", "unlock", "hist_returns/2026-10-31"],
        env={**os.environ, "LUXOR_LAKE_URL": disk.arguments["lake"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Releasing a lease needs a yes" in done.stderr
    assert disk.storage().stat(PATH) is not None
