"""Writes docs/tables.md, the data dictionary, from the catalogue: `python tools/table_pages.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from luxor_pipelines.catalog import TABLES, TableFacts

PAGE = Path(__file__).parent.parent / "docs" / "tables.md"

HEAD = """# The tables

<!-- Written by tools/table_pages.py from src/luxor_pipelines/catalog.py: change that, then run it. -->

These are the tables of the lake that the library knows. Those of pipelines have exactly these columns; the firm's
other systems may store more, which are read as they are. Types: date (`timestamp[us]`, without a zone), text, number
(`float64`), whole (`int64`), flag, stamp (UTC). Every table may have `Last_Updated`, when the row was last changed.
In legacy tables, whose cells are all text, the types are those that the columns' names stand for. A fund's own quotas,
`<fund>_quotas`, are `Date`, `Quota` and `#` by `Date`.
"""


def page() -> str:
    """Return the page."""
    sections = ("\n".join(_section(name, facts)) for name, facts in sorted(TABLES.items()))
    return HEAD + "".join(f"\n{section}\n" for section in sections)


def _section(name: str, facts: TableFacts) -> Iterator[str]:
    yield f"## `{name}`"
    yield ""
    key = f"One row per {', '.join(f'`{column}`' for column in facts.key)}. " if facts.key else ""
    yield f"{facts.about} {key}Written by {facts.written_by}."
    yield ""
    yield "| column | type | | example |"
    yield "|---|---|---|---|"
    for column in facts.columns:
        needed = "" if column.nullable else "; never missing"
        example = f"`{column.example}`" if column.example else ""
        about = f"{column.about}{needed}".removeprefix("; ")
        yield f"| `{column.name}` | {column.type} | {about} | {example} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8", newline="\n")
