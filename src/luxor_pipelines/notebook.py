"""Small HTML tables, as which this library's objects are shown in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["html_facts"]

_MISSING = "–"


def html_facts(title: str, facts: Mapping[str, Any]) -> str:
    """Return a title and a table of two columns: names, and their values as text."""
    rows = "".join(f"<tr><th style='text-align: left'>{escape(name)}</th>{_cell(facts[name])}</tr>" for name in facts)
    return f"<p><b>{escape(title)}</b></p><table>{rows}</table>"


def _cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = _MISSING if value is None or value == "" else f"{value:,}" if number else str(value)
    return f"<td style='text-align: {'right' if number else 'left'}'>{escape(text)}</td>"
