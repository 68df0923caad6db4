"""What every command shows on a terminal of 80 and of 120 columns, held against files in ``tests/screens``.

``pytest tests/cli/test_screens.py --update-screens`` writes them anew; look at each before it is committed.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luxor_pipelines import LuxorQuery, cli, run, save_table
from luxor_pipelines.cli import main
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.operations import discovery

SCREENS = Path(__file__).parent / "screens"
MOMENT = 1_795_458_600  # 2026-11-23 18:30 UTC


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small lake in which everything that a command shows is the same each time."""
    folder = tmp_path_factory.mktemp("screens") / "lake"
    folder.mkdir()
    lq = LuxorQuery(lake=folder.as_uri())
    assets = pd.DataFrame(
        {
            "Key": ["alpha_alpha us equity", "beta_beta bz equity", "gamma_a venture fund with a long name", "caixa"],
            "Name": ["Alpha Corporation", "Beta S.A.", "Gamma Ventures Fund IV (Cayman) L.P.", "Caixa"],
            "Ticker": ["alpha us equity", "beta bz equity", "gamma", "caixa"],
            "Group": ["ações", "ações", "fundos", "caixa"],
            "Location": ["us", "bz", "us", "bz"],
        }
    )
    save_table("assets", assets, lq=lq)
    days = pd.date_range("2023-09-30", "2026-10-31", freq="ME")
    steps = np.arange(len(days))
    prices = [
        pd.DataFrame({"Date": days, "Asset": asset, "Last_Price": price})
        for asset, price in {
            "alpha us equity": 1234.5678 * 1.01**steps,
            "beta bz equity": 12.34 * 0.98**steps,
            "usdbrl curncy": 5.0 + 0.01 * steps,
        }.items()
    ]
    save_table("hist_px_last", pd.concat(prices, ignore_index=True), lq=lq)
    run("hist_returns", "2026-10-31", lq=lq)
    odd = pd.DataFrame(
        {
            "Name": ["a text that is so long that no terminal would show all of it in one line", None, "–1", "short"],
            "Tiny": [1.23456789e-7, -1.0, 0.0, None],
            "Large": [123456789.123, -0.1 - 0.2, 1e15, 12.0],
            "Count": [1, 20_000, 3, 4],
            "Instant": pd.to_datetime(["2026-10-31 18:30:01.5", None, "2026-10-30", "2026-10-29"], format="mixed"),
            "Flag": [True, False, None, True],
        }
    )
    save_table("odd values", odd, lq=lq)
    tables = folder / "enriched/parquet"
    (tables / "assets (1).parquet").write_bytes((tables / "assets.parquet").read_bytes())
    records = folder / "system/runs"
    for path in records.rglob("*.json"):
        path.unlink()
    for number, (status, error) in enumerate([("done", None), ("failed", "QualityError"), ("skipped", None)]):
        _record(records / "hist_returns", number, status, error)
    lease = folder / "system/locks/runs/hist_returns/2026-10-31.json"
    lease.parent.mkdir(parents=True, exist_ok=True)
    lease.write_text(json.dumps({"owner": "x", "ttl": 90, "about": {"run": "abc123", "process": 1, "host": "h"}}))
    for path in folder.rglob("*"):
        os.utime(path, (MOMENT, MOMENT))
    return folder


def _record(folder: Path, number: int, status: str, error: str | None) -> None:
    record: dict[str, Any] = {
        "schema_version": 1,
        "id": f"abc12{number}abcdef",
        "pipeline": "hist_returns",
        "status": status,
        "ref_date": "2026-10-31",
        "params": {},
        "now": f"2026-11-23T18:3{number}:00+00:00",
        "started_at": f"2026-11-23T18:3{number}:00+00:00",
        "ended_at": f"2026-11-23T18:3{number}:02+00:00",
        "duration_s": 2.0,
        "changed": status == "done",
        "rows": 12_345 if status == "done" else None,
        "loads": [],
        "details": {},
        "warnings": [],
        "inputs": {},
        "error": {"class": error, "message": "half of the assets of last month are gone", "hint": ""}
        if error
        else None,
        "library_version": "0.1.0",
        "lock": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"20261123T183{number}00Z-abc12{number}abcdef.json").write_text(json.dumps(record))


COMMANDS: dict[str, list[str]] = {
    "list": ["list"],
    "tables": ["tables"],
    "describe": ["describe", "assets"],
    "find": ["find", "a"],
    "show-assets": ["show", "assets"],
    "show-returns": ["show", "hist_returns", "--limit", "5"],
    "show-odd": ["show", "odd_values"],
    "show-odd-wide": ["show", "odd_values", "--wide"],
    "show-sorted": ["show", "hist_px_last", "--sort", "-Last_Price,Asset", "--limit", "3"],
    "show-tail": ["show", "hist_px_last", "--tail", "--limit", "3"],
    "returns": ["returns", "--currency", "usd"],
    "returns-sorted": ["returns", "--sort", "-12m", "--where", "12m!=", "--limit", "1"],
    "runs": ["runs"],
    "runs-failed": ["runs", "--failed"],
    "backfill": ["backfill", "hist_returns", "--from", "2026-07", "--to", "2026-10", "--dry-run"],
    "backfill-done": ["backfill", "hist_returns", "--from", "2026-09", "--to", "2026-10"],
    "run-dry": ["run", "hist_returns", "--ref-date", "2026-09", "--dry-run"],
    "check": ["check"],
    "optimize": ["optimize", "hist_px_last", "--dry-run"],
    "unlock": ["unlock"],
    "doctor": ["doctor", "--lake", "memory://screens"],
    "run": ["run", "hist_returns", "--ref-date", "2026-10-31"],
    "list-details": ["list", "--details"],
    "status": ["status"],
    "runs-show": ["runs", "show", "abc121"],
    "retry": ["retry", "abc121"],
    "sql": [
        "sql",
        "SELECT Asset, max(Date) Newest, avg(Last_Price) Mean FROM hist_px_last GROUP BY 1 ORDER BY 1",
    ],
    "init": ["init"],
    "put": ["put", "{files}/prices.csv", "{files}/funds.csv", "raw/prices"],
    "inspect": ["inspect", "{files}/prices.csv"],
    "load": ["load", "custom_prices", "{files}/prices.csv"],
    "add-column": ["add-column", "odd_values", "Note", "--type", "text"],
    "drop-column": ["drop-column", "odd_values", "Count", "--yes"],
    "archive": ["archive", "odd_values", "--yes"],
    "restore": ["restore", "odd_values"],
}
WITHOUT_THE_LAKE = {"list", "list-details", "doctor"}
RUNNING = {"run", "run-dry", "retry", "backfill-done"}
WRITING = {*RUNNING, "init", "put", "load", "add-column", "drop-column", "archive", "restore"}

TWO = {"fx_rates", "hist_returns"}

MASKS = [
    (r"\x1b\[[0-9;]*m", ""),
    (r"(?<= )\d,\d{3}(?=  |\n)", "0,000"),  # bytes, which are others with another version of Arrow
    (r"today is \d{4}-\d\d-\d\d", "today is 2026-11-23"),
    (r"system/doctor/[0-9a-f]{32}", "system/doctor/0123456789abcdef0123456789abcdef"),
    (r"20\d\d-\d\d-\d\d [\d:.]{15}\+00:00", "2026-11-23 18:30:00.123456+00:00"),
    (r"\d+ of \d+ settings", "20 of 20 settings"),
    (r"in \d+\.\d s", "in 0.0 s"),
    (r"\d{8}T\d{6}Z-[0-9a-f]+", "20261123T183000Z-abc123"),
    (r"(?m)^Versions: .*$", "Versions: …"),
    (r"(?m)^System: .*$", "System: …"),
    (r"file://\S*/lake", "file:///lake"),
    (r"/\S*/files/", "/files/"),
    (r"run=[0-9a-f]+", "run=abc123"),
]


VARYING = {
    *("id", "run", "path", "record", "started_at", "ended_at", "now", "duration_s", "library_version"),
    *("inputs", "version_before", "version_after", "bytes", "changed", "renewed", "overdue_s"),
    *("Bytes", "Last_Updated", "versions", "system"),
}
"""The names in JSON whose values are others each time."""


@pytest.fixture
def screen(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What a command writes to a terminal, and after it what it tells on stderr; with ``--json`` what it writes."""
    two = {name: pipeline for name, pipeline in discovery.find_pipelines().items() if name in TWO}

    files = tmp_path / "files"
    files.mkdir()
    (files / "prices.csv").write_text("Date,Asset,Last_Price\n2026-10-30,alpha,1.5\n2026-10-31,alpha,-1\n")
    (files / "funds.csv").write_text("Data;Fundo;Cota\n30/10/2026;fundo de nome comprido;1.234,56\n")

    def show(name: str, width: int, *, as_json: bool = False) -> str:
        terminal, folder = Terminal(), lake
        if name in WRITING:
            folder = tmp_path / "lake"
            if name != "init":
                shutil.copytree(lake, folder)
            if name == "run":
                shutil.rmtree(folder / "system")
        command = [argument.format(files=files) for argument in COMMANDS[name]] + ["--json"] * as_json
        arguments = [*command, *([] if name in WITHOUT_THE_LAKE else ["--lake", folder.as_uri()])]
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            patch.setenv("NO_COLOR", "1")
            patch.setenv("TERM", "xterm")
            patch.setattr("sys.stdout", terminal)
            patch.setattr(discovery, "find_pipelines", lambda: two)
            if name != "doctor":  # which looks at the clock itself
                patch.setattr(Lake, "now", lambda lake: datetime.fromtimestamp(MOMENT, UTC))
            if name == "restore":
                main(["archive", "odd_values", "--yes", "--quiet", "--lake", folder.as_uri()])
                terminal.truncate(0)
                terminal.seek(0)
            main(arguments)
        if as_json:
            capsys.readouterr()
            content = json.loads(terminal.getvalue())
            if name == "doctor":  # which also names those of the optional libraries that are installed
                content["versions"] = {library: content["versions"][library] for library in ("Python", "pandas")}
            return json.dumps(_steady(content), indent=1, ensure_ascii=False) + "\n"
        errors = "…\n" if name in RUNNING else capsys.readouterr().err  # a run's log is not the command line's
        text = f"{terminal.getvalue()}--- stderr\n{errors}"
        return _masked(text)

    return show


def _masked(text: str) -> str:
    for pattern, replacement in MASKS:
        text = re.sub(pattern, replacement, text)
    return text


def _steady(value: Any, *, varies: bool = False) -> Any:
    """JSON without what differs from run to run, or with another version of Arrow; names and types stay."""
    if isinstance(value, dict):
        return {_masked(name): _steady(cell, varies=varies or name in VARYING) for name, cell in value.items()}
    if isinstance(value, list):
        return [_steady(cell, varies=varies) for cell in value]
    if varies and not isinstance(value, bool | None):
        return "…" if isinstance(value, str) else 0
    return _masked(value) if isinstance(value, str) else value


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_screen_is_as_it_was_looked_at(
    name: str, width: int, screen: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    file = SCREENS / f"{name}-{width}.txt"
    text = screen(name, width)
    if request.config.getoption("--update-screens"):
        SCREENS.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
    if "wide" not in name:
        drawn = text.partition("--- stderr")[0].splitlines()
        assert [line for line in drawn if len(line) > width] == []


# Wide or not, JSON is the same.
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "show-odd-wide"])
def test_json_is_as_it_was_looked_at(name: str, screen: Callable[..., str], request: pytest.FixtureRequest) -> None:
    file = SCREENS / "json" / f"{name}.json"
    text = screen(name, 80, as_json=True)
    if request.config.getoption("--update-screens"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert next(iter(json.loads(text).items())) == ("schema_version", 1)
    assert text == file.read_text(encoding="utf-8")


def test_the_help_lists_every_command_in_its_place_and_none_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert main(["--help"]) == 0
    commands = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in commands if line.strip()] == list(cli._ORDER)
    assert not [line for line in commands if line.endswith("...")]
