"""The template and the workflows, as far as can be told without Azure: they agree with the app and its settings.

``RESOURCE_TYPES`` names a checkout of bicep-types-az, against which the template's resources are checked; CI compiles
the template.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pycep import BicepParser

from luxor_pipelines.operations.discovery import find_pipelines
from luxor_pipelines.settings import Settings

ROOT = Path(__file__).parents[2]
TYPES = os.environ.get("RESOURCE_TYPES")


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
    named = set(re.findall(r"name: '(LUXOR_\w+)'", template))
    assert named
    assert named <= {field.metadata["env"] for field in Settings.__dataclass_fields__.values()}
    assert "AzureWebJobsStorage__accountName" in template


def test_no_key_is_used_or_given_out(template: str) -> None:
    assert not re.search(r"listKeys|AccountKey|listAccountSas|@secure", template)


def test_the_app_may_write_to_the_lakes_container_and_nothing_else_there(template: str) -> None:
    grants = blocks(template, "Microsoft.Authorization/roleAssignments")
    scopes = [re.search(r"^ +scope: (\w+)$", grant, re.MULTILINE)[1] for grant in grants]  # type: ignore[index]
    assert sorted(scopes) == ["host", "insights", "lakeFound"]
    assert template.count("principalId: identity.properties.principalId") == len(grants), "one identity, and no other"
    (lake,) = [grant for grant, scope in zip(grants, scopes, strict=True) if scope == "lakeFound"]
    assert "blobDataContributor)" in lake
    # Storage Blob Data Contributor, and the container rather than the account.
    assert "var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'" in template
    assert re.search(r"resource lakeFound '.*/blobServices/containers@[\d-]+' existing", template)


def test_the_lake_has_a_hierarchical_namespace_and_the_hosts_account_is_another(template: str) -> None:
    lake, host = blocks(template, "Microsoft.Storage/storageAccounts")
    assert "isHnsEnabled: true" in lake
    assert "allowSharedKeyAccess: lakeSharedKeys" in lake
    assert "name: lakeAccount" in lake
    assert "name: hostAccount" in host
    assert "allowSharedKeyAccess: false" in host


# --- its resources ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    tree: dict[str, Any] = BicepParser().parse(text=(ROOT / "infra" / "main.bicep").read_text(encoding="utf-8"))
    return tree


def test_what_it_reads_is_there(parsed: dict[str, Any], template: str) -> None:
    files = re.findall(r"load(?:Json|Text)Content\('([^']+)'\)", template)
    assert len(files) == 3
    assert [name for name in files if not (ROOT / "infra" / name).is_file()] == []


def test_the_queues_are_those_of_the_functions(parsed: dict[str, Any], template: str) -> None:
    (name,) = re.findall(r"^var runQueue = '([^']+)'$", template, re.MULTILINE)
    functions = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "functions").glob("*/function.json")]
    used = {binding.get("queueName") for function in functions for binding in function["bindings"]} - {None}
    assert used == {name, f"{name}-poison"}
    assert "[runQueue, '${runQueue}-poison']" in template


class ResourceTypes:
    """The types of Azure's resources, from a checkout of bicep-types-az."""

    REQUIRED, READ_ONLY = 1, 2

    def __init__(self, checkout: Path) -> None:
        self._generated = checkout / "generated"

    def _files(self, provider: str, version: str) -> list[list[dict[str, Any]]]:
        paths = self._generated.glob(f"*/{provider.lower()}/{version}/types.json")
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def problems(self, resource: dict[str, Any], names: set[str]) -> Iterator[str]:
        """Yield a sentence for each part of a resource that its type does not allow."""
        kind, version = resource["type"], resource["api_version"]
        for types in self._files(kind.partition("/")[0], version):
            for entry in types:
                if entry["$type"] == "ResourceType" and entry["name"].lower() == f"{kind}@{version}".lower():
                    config = resource["config"]
                    config = config["config"] if "config" in config and "condition" in config else config
                    body = {key: value for key, value in config.items() if key not in ("parent", "scope", "dependsOn")}
                    yield from self._check(types, entry["body"], body, names, kind)
                    return
        yield f"{kind}@{version} is no resource type"

    def _check(self, types: Any, ref: Any, value: Any, names: set[str], where: str) -> Iterator[str]:
        entry = types[int(ref["$ref"].rpartition("/")[2])]
        kind = entry["$type"]
        if isinstance(value, str) and (value in names or "$" in value):
            return  # a name or an expression: its value is known when it is deployed
        if isinstance(value, dict) and value.keys() & {"operator", "function", "loop_type"}:
            return
        if kind in ("ObjectType", "DiscriminatedObjectType"):
            properties = entry.get("properties", entry.get("baseProperties"))
            if not isinstance(value, dict):
                yield f"{where} is no object: {value!r}"
                return
            if kind == "DiscriminatedObjectType":
                kind_of = entry["elements"][value[entry["discriminator"]]]["$ref"]
                properties = properties | types[int(kind_of.rpartition("/")[2])]["properties"]
            for name, item in value.items():
                known = properties.get(name)
                more = entry.get("additionalProperties")
                if known is None and more is None:
                    yield f"{where} has no property {name}"
                elif known is not None and known["flags"] & self.READ_ONLY:
                    yield f"{where}.{name} cannot be set"
                else:
                    yield from self._check(types, known["type"] if known else more, item, names, f"{where}.{name}")
            needed = {name for name, item in properties.items() if item["flags"] & self.REQUIRED}
            for name in needed - value.keys() - {"name"}:
                yield f"{where} lacks {name}"
        elif kind == "ArrayType":
            if not isinstance(value, list):
                yield f"{where} is no list: {value!r}"
                return
            for number, item in enumerate(value):
                yield from self._check(types, entry["itemType"], item, names, f"{where}[{number}]")
        elif kind == "UnionType":
            tries = [list(self._check(types, element, value, names, where)) for element in entry["elements"]]
            yield from min(tries, key=len)
        elif kind == "StringLiteralType" and value != entry["value"]:
            yield f"{where} is not {entry['value']!r}: {value!r}"
        elif kind == "StringType" and not isinstance(value, str):
            yield f"{where} is no text: {value!r}"
        elif kind == "IntegerType" and not (isinstance(value, int) and not isinstance(value, bool)):
            yield f"{where} is no number: {value!r}"
        elif kind == "BooleanType" and not isinstance(value, bool):
            yield f"{where} is neither true nor false: {value!r}"


@pytest.mark.skipif(TYPES is None, reason="needs a checkout of bicep-types-az: RESOURCE_TYPES")
def test_its_resources_have_the_properties_of_their_types(parsed: dict[str, Any]) -> None:
    types = ResourceTypes(Path(TYPES or ""))
    names = {name for kind in ("parameters", "variables", "resources") for name in parsed[kind]}
    new = [resource for resource in parsed["resources"].values() if not resource["existing"]]
    assert len(new) > 15
    assert [problem for resource in new for problem in types.problems(resource, names)] == []
    wrong = json.loads(json.dumps(parsed["resources"]["app"]))
    wrong["config"]["properties"]["functionAppConfig"]["runtime"] = {"name": "cobol", "version": "85", "flavour": "x"}
    assert {problem.rpartition(".")[2] for problem in types.problems(wrong, names)} >= {
        "runtime has no property flavour"
    }


# --- what is watched ----------------------------------------------------------------------------


def test_the_alert_on_late_pipelines_has_the_schedules_of_the_timers() -> None:
    query = (ROOT / "infra" / "late.kql").read_text(encoding="utf-8")
    rows = re.findall(r'^ +"(\w+)", "(\d+)", time\((\d\d):(\d\d):00\),$', query, re.MULTILINE)
    stated = {name: (days, int(hour), int(minute)) for name, days, hour, minute in rows}
    assert stated.keys() <= find_pipelines().keys()
    expected = {}
    for name in stated:
        function = json.loads((ROOT / "functions" / f"run_{name}" / "function.json").read_text(encoding="utf-8"))
        _, minute, hour, _, _, days = function["bindings"][0]["schedule"].split()
        first, _, last = days.partition("-")
        each_day = "".join(str(day) for day in range(int(first), int(last or first) + 1))
        expected[name] = (each_day, int(hour), int(minute))
    assert stated == expected
    assert {"fx_rates", "market_prices", "hist_returns", "holidays"} <= stated.keys()


@pytest.mark.parametrize("name", ["infra/late.kql", "infra/failed.kql", "docs/deploy.md"])
def test_queries_look_for_what_is_logged(name: str) -> None:
    """Each piece of a log line that a query looks for is in the code that logs it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    pieces = set(re.findall(r'message (?:has|startswith|contains) "([^"]+)"', text))
    assert pieces
    code = "".join(
        (ROOT / "src" / "luxor_pipelines" / path).read_text(encoding="utf-8")
        for path in ("operations/runs.py", "hosting.py", "telemetry.py")
    )
    code = re.sub(r"%s|\{[^}]*\}", "", code)
    folders = " ".join(path.name for path in (ROOT / "functions").iterdir())
    missing = [piece for piece in pieces if piece.removeprefix("post_run").strip() not in code and piece not in folders]
    assert missing == []


# --- how it is deployed -------------------------------------------------------------------------


def test_azd_deploys_the_zip_that_was_packaged() -> None:
    azd = yaml.safe_load((ROOT / "azure.yaml").read_text(encoding="utf-8"))
    assert (ROOT / azd["infra"]["path"] / f"{azd['infra']['module']}.bicep").is_file()
    assert "services" not in azd, "azd would pack the app itself, without bytecode, and build it in Azure"
    for system in ("posix", "windows"):
        assert azd["hooks"]["preprovision"][system]["run"] == "nox -s package"
        deploy = azd["hooks"]["postprovision"][system]["run"]
        assert "--build-remote false" in deploy
        assert "functionapp-*.zip" in deploy


def test_the_parameters_are_the_templates(parsed: dict[str, Any]) -> None:
    text = (ROOT / "infra" / "main.bicepparam").read_text(encoding="utf-8")
    given = set(re.findall(r"^param (\w+) = ", text, re.MULTILINE))
    assert given <= parsed["parameters"].keys()
    needed = {name for name, parameter in parsed["parameters"].items() if parameter["default"] is None}
    assert needed <= given
    outputs = set(parsed["outputs"])
    used = set(re.findall(r"AZURE_FUNCTION_\w+", (ROOT / "azure.yaml").read_text(encoding="utf-8")))
    assert used <= outputs


@pytest.mark.parametrize("name", ["ci", "deploy"])
def test_the_workflows_run_what_the_docs_say(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert not re.search(r"secrets\.(?!GITHUB_TOKEN)", text), "who deploys is known by OIDC"
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert all(re.search(r"@v\d+$", action) for action in actions)
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    if name == "ci":
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        (command,) = [line for line in readme.splitlines() if line.startswith("python3 -m venv") and "nox" in line]
        assert command in commands
        versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
        assert json.loads((ROOT / "functions" / "python.json").read_text(encoding="utf-8"))["version"] in versions
        assert versions == ["3.11", "3.12", "3.13"]
        assert "az bicep build" in commands
    else:
        assert workflow["jobs"]["deploy"]["permissions"] == {"id-token": "write", "contents": "read"}
        assert "nox -s package" in commands
        assert "--build-remote false" in commands
        assert "/api/health" in commands
