"""The normal form of names, one at a time and by column."""

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.names import normal_name, normal_names

TEXT = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \u00a0\u3000\t\x1fİΣςΑA\u0301\u212b\u017f")))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (" AAPL US Equity ", "aapl us equity"),
        ("petr4\u00a0bz\u202fequity", "petr4 bz equity"),
        ("\u3000x\u00a0", "x"),
        ("Ac\u0327a\u0303o", "a\u00e7\u00e3o"),
        ("A\u030angstro\u0308m", "\u00e5ngstr\u00f6m"),
        ("\u212b", "\u00e5"),
        ("NAN", "nan"),
        ("NAT", "nat"),
        ("a  b", "a  b"),
        ("", ""),
    ],
)
def test_trimmed_lower_composed_with_plain_spaces(name, expected):
    assert normal_name(name) == expected


@given(TEXT)
def test_the_form_is_its_own_and_composed(name):
    once = normal_name(name)
    assert normal_name(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert normal_name(unicodedata.normalize("NFD", name)) == normal_name(unicodedata.normalize("NFC", name))


@given(st.lists(st.none() | TEXT))
def test_a_column_is_what_its_cells_are(names):
    expected = [None if name is None else normal_name(name) for name in names]
    assert normal_names(pa.array(names, pa.string())).to_pylist() == expected
    half = len(names) // 2
    chunks = pa.chunked_array([names[:half], names[half:]], pa.large_string())
    assert normal_names(chunks).to_pylist() == expected
    assert normal_names(chunks).type == pa.large_string()
