"""The template, as far as text can tell: it agrees with the package and the settings, and grants no more than meant."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from luxor_pipelines.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def template() -> str:
    return (ROOT / "infra" / "main.bicep").read_text(encoding="utf-8")


def blocks(template: str, kind: str) -> list[str]:
    return re.findall(rf"^resource \w+ '{kind}@.*?^}}", template, re.MULTILINE | re.DOTALL)


def test_it_names_the_python_that_is_packaged(template: str, tool: ModuleType) -> None:
    assert "var python = loadJsonContent('../functions/python.json')" in template
    assert json.loads((ROOT / "functions" / "python.json").read_text(encoding="utf-8"))["version"] == tool.PYTHON
    assert "runtime: { name: 'python', version: python.version }" in template
    assert "sku: { tier: 'FlexConsumption', name: 'FC1' }" in template


def test_its_settings_are_settings(template: str) -> None:
    named = set(re.findall(r"'(LUXOR_\w+)'", template))
    assert named
    assert named <= {field.metadata["env"] for field in Settings.__dataclass_fields__.values()}
    assert "AzureWebJobsStorage__accountName" in template


def test_no_key_is_used_or_given_out(template: str) -> None:
    assert not re.search(r"listKeys|AccountKey|listAccountSas|@secure", template)


def test_the_app_may_write_to_the_lakes_container_and_nothing_else_there(template: str) -> None:
    grants = blocks(template, "Microsoft.Authorization/roleAssignments")
    scopes = [re.search(r"^ +scope: (\w+)$", grant, re.MULTILINE)[1] for grant in grants]  # type: ignore[index]
    assert sorted(scopes) == ["host", "insights", "lakeFound"]
    (lake,) = [grant for grant, scope in zip(grants, scopes, strict=True) if scope == "lakeFound"]
    assert "blobDataContributor)" in lake
    # Storage Blob Data Contributor, and the container rather than the account.
    assert "var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'" in template
    assert re.search(r"resource lakeFound '.*/blobServices/containers@[\d-]+' existing", template)


def test_the_lake_has_a_hierarchical_namespace_and_the_hosts_account_is_another(template: str) -> None:
    lake, host = blocks(template, "Microsoft.Storage/storageAccounts")
    assert "isHnsEnabled: true" in lake
    assert "name: lakeAccount" in lake
    assert "name: hostAccount" in host
    assert "allowSharedKeyAccess: false" in host
