"""Descriptions of tables: columns, rows, dates and layout, from the files' footers as far as these have them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from luxor_pipelines.catalog import TABLES, known_key
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.types.schema import stored_key
from luxor_pipelines.notebook import html_facts

__all__ = ["TableDescription", "describe"]


@dataclass(frozen=True)
class TableDescription:
    """A table as `LuxorQuery.describe` tells of it.

    Attributes
    ----------
    columns
        A row a column: ``Column``, ``Type`` and ``Null_Share``, a fraction of the rows.
    key
        The columns that tell rows apart; empty where they are not known.
    first, last
        The first and the last date; the labels of the first and last partition where there are partitions.
    size
        In bytes.
    encoding
        ``typed``, or ``text`` for a table of the old system.
    written, program
        When the newest file was written, and by which program.
    writer
        The pipeline, workbook or person that the table comes from; None where the library does not know it.
    schema
        The declared schema that the files name, and its version; None where they name none.
    """

    table: str
    columns: pd.DataFrame
    key: tuple[str, ...]
    rows: int
    first: str | None
    last: str | None
    layout: str
    files: int
    size: int
    encoding: str
    written: datetime
    program: str
    writer: str | None
    schema: str | None

    def facts(self) -> dict[str, object]:
        """Return the facts about the table as a whole, by name."""
        return {
            "Rows": self.rows,
            "First": self.first,
            "Last": self.last,
            "Key": ", ".join(self.key) or None,
            "Layout": self.layout,
            "Files": self.files,
            "Bytes": self.size,
            "Encoding": self.encoding,
            "Last load (UTC)": f"{self.written:%Y-%m-%d %H:%M:%S}",
            "By the program": self.program,
            "Comes from": self.writer,
            "Schema": self.schema,
        }

    def __str__(self) -> str:
        facts = "\n".join(f"{name}: {'–' if value is None else value}" for name, value in self.facts().items())
        return f"{self.table}\n{facts}\n\n{self.columns.to_string(index=False)}"

    def _repr_html_(self) -> str:
        shares = {"Null_Share": "{:.1%}".format}
        return html_facts(self.table, self.facts()) + str(self.columns.to_html(index=False, formatters=shares))


def describe(lake: Lake, name: str) -> TableDescription:
    """Describe a table.

    Raises
    ------
    TableNotFoundError
    CorruptFileError
    """
    table = lake.table(name)
    snapshot = table.snapshot()
    codec, summary = table.codec(snapshot), table.summary(snapshot)
    nulls = table.null_counts(snapshot)
    columns = pd.DataFrame(
        {
            "Column": codec.schema.names,
            "Type": [_TYPES.get(str(kind), str(kind)) for kind in codec.schema.types],
            "Null_Share": [nulls[column] / summary.rows if summary.rows else 0.0 for column in codec.schema.names],
        }
    )
    metadata = codec.stored.metadata or {}
    schema = metadata.get(b"luxor.schema")
    return TableDescription(
        table=table.name,
        columns=columns,
        key=stored_key(codec.stored) or known_key(table.name, codec.schema.names),
        rows=summary.rows,
        first=summary.first,
        last=summary.last,
        layout=summary.layout,
        files=summary.files,
        size=summary.bytes,
        encoding="text" if codec.legacy else "typed",
        written=summary.written,
        program=summary.writer,
        writer=TABLES[table.name].written_by if table.name in TABLES else None,
        schema=None if schema is None else schema.decode(),
    )


_TYPES = {
    "timestamp[us]": "date",
    "string": "text",
    "double": "number",
    "int64": "whole",
    "bool": "flag",
    "timestamp[us, tz=UTC]": "stamp",
}
"""The names of the stored types, as pipelines declare them."""
