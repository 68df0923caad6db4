"""The firm's facts lie in the catalogue, and nowhere else."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import luxor_pipelines
from luxor_pipelines import catalog
from luxor_pipelines.lake.lake import Lake

ROOT = Path(luxor_pipelines.__file__).parent
SCHEMAS = (catalog.HIST_RETURNS, catalog.HIST_FILE_PX_LAST, catalog.HIST_ECB_PX_LAST, catalog.HOLIDAYS_EXCHANGE)


def names() -> set[str]:
    """The names of all tables, columns and series that the catalogue has."""
    conventions, facts = catalog.CONVENTIONS, catalog.CURRENCY_FACTS
    tables = {*catalog.KEYS, *conventions.tables, *(table.name for table in catalog.PRICE_TABLES)}
    tables |= {schema.name for schema in SCHEMAS} | {catalog.QUOTA_ADJUSTMENTS}
    columns = {*conventions.columns, *conventions.keep_case}
    columns |= {column.name for schema in SCHEMAS for column in schema.columns}
    columns |= {column for key in catalog.KEYS.values() for column in key}
    columns |= {name for table in catalog.PRICE_TABLES for name in (table.key_column, table.price_column)}
    series = {*facts.series, *facts.unconvertible, *facts.rates.values(), catalog.USDBRL, facts.brl_spot}
    return (tables | columns | series) - {"Date", "Today"}  # the latter is also a word of what a lake shows


def test_the_lake_knows_none_of_the_firm_s_names() -> None:
    quoted = re.compile("|".join(f"[\"'`]{re.escape(name)}[\"'`]" for name in sorted(names())))
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sorted((ROOT / "lake").rglob("*.py"))
        for match in quoted.finditer(path.read_text("utf-8"))
    }
    assert found == set()
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "lake").rglob("*.py"))
    tables = [name for name in names() if "_" in name]
    assert [name for name in tables if re.search(rf"\b{re.escape(name)}\b", text)] == []


@pytest.mark.parametrize("name", [catalog.HIST_RETURNS.name, catalog.USDBRL])
def test_a_name_is_written_once(name: str) -> None:
    places = [
        path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value == name
    ]
    assert places == ["catalog.py"]


def test_open_lake_follows_the_firm_s_customs(tmp_path: Path) -> None:
    lake = luxor_pipelines.open_lake(tmp_path)
    assert isinstance(lake, Lake)
    assert lake.conventions is catalog.CONVENTIONS
    assert lake.table("anything").conventions is catalog.CONVENTIONS
    assert lake.fresh().conventions is catalog.CONVENTIONS
    assert Lake.open(tmp_path).conventions.columns == {}


def test_the_key_of_a_table() -> None:
    assert catalog.known_key("trades", ()) == ("ID",)
    assert catalog.known_key("all_funds_quotas", ("Date", "Fund", "Quota")) == ("Date", "Fund")
    assert catalog.known_key("all_funds_quotas", ("Date", "Asset", "Last_Price")) == ("Date", "Asset")
    assert catalog.known_key("lipizzaner_quotas", ("Date", "Quota", "#")) == ("Date",)
    assert catalog.known_key("lipizzaner_quotas", ("Date", "#")) == ()
    assert catalog.known_key("anything", ("Date",)) == ()


def test_the_data_dictionary_is_what_the_catalogue_says() -> None:
    spec = importlib.util.spec_from_file_location(
        "table_pages", Path(__file__).parent.parent / "tools" / "table_pages.py"
    )
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    assert pages.PAGE.read_text("utf-8") == pages.page(), "run python tools/table_pages.py"


def test_every_table_is_told_of() -> None:
    known = {schema.name for schema in SCHEMAS} | {table.name for table in catalog.PRICE_TABLES}
    assert (
        known | {catalog.ASSETS, catalog.PX_LAST, catalog.HOLIDAYS, catalog.QUOTA_ADJUSTMENTS} <= catalog.TABLES.keys()
    )
    for name, facts in catalog.TABLES.items():
        columns = {column.name: column for column in facts.columns}
        assert set(facts.key) <= columns.keys(), name
        types = catalog.CONVENTIONS.known_types(name, columns)
        odd = [column for column, kind in types.items() if columns[column].arrow != kind]
        assert odd == [], f"{name}: the dictionary and the conventions are of two minds"
