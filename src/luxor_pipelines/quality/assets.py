"""Checks of the asset master's rows before they are loaded."""

from __future__ import annotations

import difflib
import re

import pandas as pd

from luxor_pipelines.catalog import ASSETS, CURRENCY_FACTS, TABLES
from luxor_pipelines.errors import SchemaError, sample
from luxor_pipelines.lake.types.schema import LAST_UPDATED
from luxor_pipelines.names import normal_name
from luxor_pipelines.quality.gate import Finding

__all__ = ["check_assets"]


_MINOR_UNIT = re.compile("[A-Z]{2}[a-z]")
"""Bloomberg's spelling of the hundredth of a currency: GBp, ZAr, ILs."""


def check_assets(rows: pd.DataFrame) -> list[Finding]:
    """Return the oddities of rows of the asset master, each as a warning.

    Raises
    ------
    SchemaError
        There is neither a column ``Key`` nor both columns that a key is made of.
    """
    columns = list(map(str, rows.columns))
    if "Key" not in columns and not {"Asset", "Ticker"} <= set(columns):
        near = difflib.get_close_matches("Key", columns, 1)
        raise SchemaError(
            f"The asset master has no column 'Key'; the file has {sample(columns, 20)}.",
            hint=f"Rename {near[0]!r} to 'Key'." if near else "Add the column Key, <Asset>_<Ticker> in lower case.",
        )
    findings: list[Finding] = []

    def warn(oddity: str, values: list[str]) -> None:
        if values:
            findings.append(Finding("warning", ASSETS, "", oddity, len(values), sample(values)))

    declared = {column.name for column in TABLES[ASSETS].columns} | {LAST_UPDATED}
    unknown = [column for column in columns if column not in declared]
    warn("columns that the asset master does not know (see docs/tables.md)", unknown)
    names = _text(rows, "Key").where(_text(rows, "Key") != "", _text(rows, "Asset"))
    nameless = (_text(rows, "Ticker") == "") & (_text(rows, "Ticker_BBG") == "")
    warn("assets that name no price series: Ticker and Ticker_BBG are blank", names[nameless].tolist())
    location = _text(rows, "Location")
    placeless = ~location.isin(list(CURRENCY_FACTS.locations)) & (_text(rows, "Currency") == "")
    warn("assets of no known currency: fill Currency, or Location with bz, us, …", names[placeless].tolist())
    currencies = rows["Currency"].tolist() if "Currency" in columns else [None] * len(rows)
    minor = [isinstance(cell, str) and _MINOR_UNIT.fullmatch(cell.strip()) is not None for cell in currencies]
    warn(
        "assets whose currency is a hundredth, such as GBp (pence): stored as gbp it is the currency itself, prices "
        "in any other are then 100 times too high; write GBX, ZAC or ILA, and there are none",
        [str(name) for name, is_minor in zip(names, minor, strict=True) if is_minor],
    )
    return findings


def _text(rows: pd.DataFrame, column: str) -> pd.Series:
    """Return a column's names in their normal form; blank where it has none, or is not there."""
    cells = rows[column].tolist() if column in rows.columns else [None] * len(rows)
    names = [normal_name(cell) if isinstance(cell, str) else "" for cell in cells]
    return pd.Series(names, index=rows.index, dtype=object)
