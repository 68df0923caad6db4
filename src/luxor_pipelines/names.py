"""The one normal form of names: what is compared and stored of assets, tickers, locations and keys.

``lake`` and ``market`` both use it, so it lies below them and knows neither.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from luxor_pipelines.errors import UsageError, shown

__all__ = ["as_names", "normal_name", "normal_names"]

_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
"""Unicode's space separators (class Zs) other than the plain one."""

_BLANKS = "".join(character for character in map(chr, range(128)) if character.isspace())
"""The ASCII characters that `str.strip` trims."""

_Names = TypeVar("_Names", pa.Array, pa.ChunkedArray)


def as_names(names: Any, argument: str) -> list[str]:
    """Return one name, or several, as a list; ``argument`` is what an error calls them.

    Raises
    ------
    UsageError
        They are neither text nor a list, such as a number or a frame.
    """
    if isinstance(names, str):
        return [names]
    # A frame gives the names of its columns in turn, which nobody means.
    if not isinstance(names, Iterable) or getattr(names, "ndim", 1) != 1:
        raise UsageError(f"{argument}={shown(names)} is neither text nor a list.", hint="Give one, or several.")
    return list(names)


def normal_name(name: str) -> str:
    r"""Return ``name`` trimmed, in lower case, in Unicode's form NFC and with plain spaces only.

    Two spellings that people cannot tell apart, or that differ in case alone, become one name. The form is its own
    normal form.

    Examples
    --------
    >>> normal_name(" PETR4\u00a0BZ Equity ")
    'petr4 bz equity'
    """
    if name.isascii():
        return name.strip().lower()
    return unicodedata.normalize("NFC", _SPACES.sub(" ", name).strip().lower())


def normal_names(names: _Names) -> _Names:
    """Return a column of text with each cell as `normal_name` has it; nulls stay."""
    plain = pc.utf8_lower(pc.ascii_trim(names, _BLANKS))
    ascii_only = pc.string_is_ascii(names)
    if pc.all(ascii_only, min_count=0).as_py():
        return plain
    odd = pc.fill_null(pc.invert(ascii_only), False)
    # A file has few distinct names, however many rows.
    cells = names.filter(odd).dictionary_encode()
    cells = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    words = pa.array([normal_name(word) for word in cells.dictionary.to_pylist()], names.type)
    if isinstance(plain, pa.ChunkedArray):
        plain, odd = plain.combine_chunks(), odd.combine_chunks()
        return pa.chunked_array([pc.replace_with_mask(plain, odd, words.take(cells.indices))])
    return pc.replace_with_mask(plain, odd, words.take(cells.indices))
