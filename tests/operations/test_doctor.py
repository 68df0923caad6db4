"""What `luxor doctor` finds out about a lake."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from conftest import ACCOUNT, KEY
from luxor_pipelines.cli import main
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.operations.doctor import check_lake
from luxor_pipelines.settings import Settings

NAMES = ["list", "write", "read", "conditional write", "clock", "delete"]


def outcomes(lake: Lake) -> dict[str, str]:
    return {check.name: check.outcome for check in check_lake(lake)}


def lake_of_rig(rig: Any, **options: Any) -> Lake:
    return Lake(rig.storage(), settings=rig.settings, **options)


def test_a_sound_lake_passes_and_nothing_is_left(rig: Any) -> None:
    lake = lake_of_rig(rig)
    assert outcomes(lake) == dict.fromkeys(NAMES, "ok")
    assert not lake.storage.list("system/doctor")


def test_a_clock_that_is_off_is_a_warning(disk: Any) -> None:
    lake = lake_of_rig(disk, clock=lambda: datetime.now(UTC) - timedelta(hours=3))
    (clock,) = [check for check in check_lake(lake) if check.name == "clock"]
    assert clock.outcome == "warning"
    assert "behind the storage's" in clock.detail


@pytest.mark.azurite
@pytest.mark.parametrize(
    ("permissions", "failed", "lacking"),
    [
        ({"read": True, "write": True}, "list", "Create and Delete and List"),
        ({"read": True, "list": True}, "write", "Create and Write and Delete"),
    ],
    ids=["no-list", "read-only"],
)
def test_a_signature_without_a_permission_is_told_as_that(
    azurite: Any, permissions: dict[str, bool], failed: str, lacking: str
) -> None:
    container = azurite.container()
    sas = generate_container_sas(
        ACCOUNT,
        container,
        account_key=KEY,
        permission=ContainerSasPermissions(**permissions),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    endpoint = f"BlobEndpoint={azurite.url}/{ACCOUNT};SharedAccessSignature={sas}"
    lake = Lake(connect(connection_string=endpoint, container=container, settings=Settings()))
    checks = {check.name: check for check in check_lake(lake)}
    assert checks[failed].outcome == "failed"
    assert f"does not permit {lacking}" in checks[failed].detail
    assert "List" in checks[failed].hint
    later = NAMES[NAMES.index(failed) + 1 :]
    assert {checks[name].outcome for name in later} == {"skipped"}


def test_the_command_prints_settings_and_checks(
    disk: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUXOR_RETRIES", "5")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=c2VjcmV0LXNlY3JldA==")
    assert main(["doctor", "--lake", disk.arguments["lake"], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in told["checks"]] == NAMES
    settings = {setting["variable"]: setting for setting in told["settings"]}
    assert settings["LUXOR_RETRIES"] == {"variable": "LUXOR_RETRIES", "value": 5, "origin": "environment"}
    assert settings["AZURE_STORAGE_CONNECTION_STRING"]["value"] == "***"
    assert "pyarrow" in told["versions"]

    assert main(["doctor", "--lake", disk.arguments["lake"]]) == 0
    printed = capsys.readouterr().out
    assert "conditional write" in printed
    assert "LUXOR_RETRIES" in printed
    assert "c2VjcmV0" not in printed


def test_without_a_lake_the_settings_are_told_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 3
    out, err = capsys.readouterr()
    assert "have their defaults" in out
    assert "No lake is configured" in err


def test_a_container_that_is_not_there_fails_the_first_check(azurite: Any) -> None:
    lake = Lake(connect(connection_string=azurite.connection_string, container="absent", settings=Settings()))
    (listed, *others) = check_lake(lake)
    assert listed.outcome == "failed"
    assert "no container" in listed.detail
    assert {check.outcome for check in others} == {"skipped"}
