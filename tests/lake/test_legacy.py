from __future__ import annotations

import datetime as dt

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luxor_pipelines.catalog import CONVENTIONS
from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.lake.table.merge import merge
from luxor_pipelines.lake.types.codec import codec_of, overridden
from luxor_pipelines.lake.types.frames import arrow_to_frame, frame_to_arrow
from luxor_pipelines.lake.types.legacy import spell
from luxor_pipelines.lake.types.parsing import NULL_WORDS
from luxor_pipelines.lake.types.schema import LAST_UPDATED

US = pa.timestamp("us")
UTC = pa.timestamp("us", "UTC")
DAY = dt.datetime(2026, 10, 31)


def codec(schema, table="t", overrides=None):
    """The codec of a file with these columns."""
    return codec_of(schema, table, CONVENTIONS, overridden(overrides))


def is_text(schema):
    return codec(schema).legacy


def types(table, names, overrides=None):
    """The types that columns of these names have in a legacy file."""
    typed = codec(pa.schema([(name, pa.string()) for name in names]), table, overrides).schema
    return dict(zip(typed.names, typed.types, strict=True))


def decode(rows, table="t", overrides=None):
    return codec(rows.schema, table, overrides).decode(rows, rows.column_names)


def as_read(rows, overrides=None):
    texts = pa.schema([(name, pa.string()) for name in rows.column_names])
    return codec(texts, overrides=overrides).as_read(rows)


def read(name, values, table="t", kind=None, **options):
    """The one column of those texts, decoded."""
    return decode(pa.table({name: pa.array(values, kind or pa.string())}), table, **options)[name]


def write(values, kind, like=None):
    """The one column of those values, as text."""
    stored = None if like is None else pa.table({"c": pa.array(like, pa.string())})
    return spell(pa.table({"c": pa.array(values, kind)}), like=stored)["c"].to_pylist()


# --- which files, which columns ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"Date": pa.string(), "x": pa.large_string(), "y": pa.dictionary(pa.int32(), pa.string())}, True),
        ({"Date": pa.string(), "x": pa.float64()}, False),
        ({"Date": pa.string(), "x": pa.null()}, False),
        ({"x": pa.string(), "__index_level_0__": pa.int64()}, True),
        ({"x": pa.dictionary(pa.int32(), pa.int64())}, False),
        ({}, False),
    ],
)
def test_a_file_is_legacy_when_every_column_is_text(schema, expected):
    assert is_text(pa.schema(schema)) is expected
    assert is_text(pa.schema(schema, {"pandas": "{}"})) is expected
    assert is_text(pa.schema(schema, {"luxor.encoding": "typed"})) is False


NUMBERS = [
    "Last_Price",
    "Price",
    "px_last",
    "Quota",
    "#",
    "Avg_price",
    "Variation",
    "Variation_tot",
    "%_MoM",
    "PL",
    "AUM",
    "%_pl",
    "Market_Value",
    "P&L_MoM",
    "P&L_YTD",
    "Debt",
    "Kd",
    "Return_Multiplier",
    "Weight",
    "%_YTD",
    "Net_Debt/Ebitda",
    "adr_adr_per_sh",
    "Volume",
    "Total",
    "Liquidity_Rule",
    "Daily_Return",
    "Amount",
    "Adjust",
    "Year",
    "Daily_Adm_Fee",
    "Timestamp",
    "Pnl",
    "Attribution",
]
DATES = ["Date", "last_update_dt", "Query_Time", "update_time", "Update_Time", "Settlement Date", "Today"]
FLAGS = ["Ignore Flag", "Disable BDP", "Hist_Price", "Historical_Data"]


def test_columns_are_known_by_their_exact_names():
    assert len(NUMBERS) == 33
    assert set(types("t", NUMBERS).values()) == {pa.float64()}
    assert set(types("t", DATES).values()) == {US}
    assert set(types("t", FLAGS).values()) == {pa.bool_()}
    others = ["last_price", "date", "PRICE", "Pct_Change", "Start_Date", "Ticker_BBG", LAST_UPDATED]
    assert set(types("t", others).values()) == {pa.string()}


def test_two_tables_are_special():
    assert types("last_all_flds", ["Price", "Query_Time", "Hist_Price"]) == {
        "Price": pa.string(),
        "Query_Time": US,
        "Hist_Price": pa.bool_(),
    }
    assert types("hist_risk_metrics", ["Date", "Fund", "var_95", "Today", LAST_UPDATED]) == {
        "Date": US,
        "Fund": pa.string(),
        "var_95": pa.float64(),
        "Today": pa.float64(),
        LAST_UPDATED: pa.string(),
    }


def test_a_caller_adds_names():
    overrides = {"float": {"Pct_Change"}, "date": ["Start_Date"], "bool": {"Last_Data": 1}, "str_nan_format": "Weight"}
    names = ["Pct_Change", "Start_Date", "Last_Data", "Weight", "Price"]
    kinds = [pa.float64(), US, pa.bool_(), pa.string(), pa.float64()]
    assert list(types("t", names, overrides).values()) == kinds
    assert types("last_all_flds", ["Value"], {"float": iter(["Value"])}) == {"Value": pa.float64()}
    with pytest.raises(UsageError, match="no kind 'int'") as error:
        types("t", names, {"int": {"x"}})
    assert "'float', 'date', 'bool', 'str_nan_format'" in error.value.hint


def test_a_typed_file_means_what_it_says():
    fields = {"Price": pa.string(), "Weight": pa.float64(), "x": pa.string()}
    assert codec(pa.schema(fields)).schema.types == [pa.float64(), pa.float64(), pa.string()]
    marked = pa.schema(fields, {"luxor.encoding": "typed"})
    assert codec(marked).schema.types == [pa.string(), pa.float64(), pa.string()]
    assert codec(marked, overrides={"float": ["Price", "Weight"]}).schema.types == [pa.float64()] * 2 + [pa.string()]
    assert not codec(marked).legacy


# --- reading -------------------------------------------------------------------------------------


def test_a_table_with_every_rule():
    text = pa.table(
        {
            "Date": ["2025-01-31", "2025-01-31 18:30:00", "NaT", "2025-02-28T00:00:00"],
            "Settlement Date": ["2025-02-03", "", "<NA>", "None"],
            "Asset": ["aapl us equity", "none", "nan", "NAN"],
            "Name": ["Apple ", "None", "nat", ""],
            "Price": ["5.0", "nan", "None", "-1e-07"],
            "#": ["1", "", "NaT", "1e+16"],
            "Disable BDP": ["True", "falso", "nan", "0.0"],
            "Ticker_BBG": ["a", "None", "<NA>", ""],
            "Pct_Change": ["0.1", "nan", "0.3", "0.4"],
            LAST_UPDATED: ["2025-01-31 18:30:00.123456", "nan", "2025-02-01", "x"],
        }
    )
    assert is_text(text.schema)
    assert decode(text).to_pydict() == {
        "Date": [dt.datetime(2025, 1, 31), dt.datetime(2025, 1, 31, 18, 30), None, dt.datetime(2025, 2, 28)],
        "Settlement Date": [dt.datetime(2025, 2, 3), None, None, None],
        "Asset": ["aapl us equity", "none", None, "NAN"],
        "Name": ["Apple ", None, "nat", None],
        "Price": [5.0, None, None, -1e-7],
        "#": [1.0, None, None, 1e16],
        "Disable BDP": [True, False, None, False],
        "Ticker_BBG": ["a", None, None, None],
        "Pct_Change": ["0.1", None, "0.3", "0.4"],
        LAST_UPDATED: ["2025-01-31 18:30:00.123456", None, "2025-02-01", "x"],
    }


TEXT_KINDS = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_the_five_null_words_are_nulls_in_every_column(kind):
    values = [*NULL_WORDS, None]
    for name in ("Price", "Date", "Hist_Price", "Asset", "Name", "Ticker_BBG", LAST_UPDATED):
        column = read(name, values, kind=kind)
        assert column.null_count == 6
        assert column.to_pylist() == [None] * 6


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_null_words_in_another_case_are_text(kind):
    words = ["NaN", "none", "nat", "<na>", " ", "NONE"]
    assert read("Asset", words, kind=kind).to_pylist() == words


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_dates_mix_forms(kind):
    values = ["2026-10-31", "2026-10-31 18:30:00", "2026-10-31T18:30", "2026-10-31 18:30:00.123456", "nan", None]
    assert read("Date", values, kind=kind).to_pylist() == [
        DAY,
        *([DAY.replace(hour=18, minute=30)] * 2),
        DAY.replace(hour=18, minute=30, microsecond=123456),
        None,
        None,
    ]


def test_what_is_finer_than_microseconds_is_cut_off():
    values = ["2026-10-31 18:30:00.123456789", "2026-10-31 18:30:00.123456000", "2026-10-31 00:00:00.0000009"]
    got = read("Query_Time", values).to_pylist()
    assert [moment.microsecond for moment in got] == [123456, 123456, 0]


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("Date", ["2026-10-31", "31/10/2026", "nan", "31/10/2026"], "2 of 4 cells are no ISO dates .*'31/10/2026'"),
        ("Date", ["2026-02-30"], "1 of 1 cells are no ISO dates"),
        ("Date", ["2026-10-31 10:00:00+00:00", "2026-10-31"], "1 of 2 cells are no ISO dates"),
        ("Date", ["none"], "1 of 1 cells are no ISO dates .* for instance 'none'"),
        ("Price", ["1.0", "1,5", "None", "abc"], "2 of 4 cells are no numbers; for instance '1,5'"),
        ("Price", ["none"], "1 of 1 cells are no numbers"),
        ("Hist_Price", ["True", "maybe", "nan", "2"], "2 of 4 cells are neither true nor false; for instance 'maybe'"),
    ],
)
def test_a_bad_cell_is_an_error_that_says_where(kind, name, values, message):
    with pytest.raises(SchemaError, match=rf"Table prices, column '{name}': {message}") as error:
        read(name, values, "prices", kind)
    assert "str_nan_format" in error.value.hint
    assert read(name, values, "prices", overrides={"str_nan_format": [name]}).null_count == sum(
        value in NULL_WORDS for value in values
    )


def test_a_bad_word_that_no_cell_uses_does_no_harm():
    words = pa.array(["2026-10-31", "bad"])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 0]), words)
    assert decode(pa.table({"Date": column}))["Date"].to_pylist() == [DAY, DAY]


def test_chunks_with_different_dictionaries():
    chunks = [pa.array(values).dictionary_encode() for values in (["2026-10-31", "nan"], [], ["nan", "2026-10-31"])]
    dictionary = pa.chunked_array([chunk.cast(chunks[0].type) for chunk in chunks])
    got = decode(pa.table({"Date": dictionary, "Asset": dictionary}))
    assert got["Date"].to_pylist() == [DAY, None, None, DAY]
    assert got["Asset"].to_pylist() == ["2026-10-31", None, None, "2026-10-31"]
    assert pa.types.is_dictionary(got["Asset"].type)


@pytest.mark.parametrize("name", ["Price", "Date", "Hist_Price", "Asset"])
def test_no_rows(name):
    assert len(read(name, [])) == 0
    assert len(decode(pa.table({name: pa.chunked_array([], pa.string())}))) == 0


def test_numbers_in_unusual_spelling():
    values = [" 5.0", "1E5", "+2", ".5", "1.", "NaN", "inf"]
    assert read("Price", values).to_pylist() == [5.0, 1e5, 2.0, 0.5, 1.0, None, float("inf")]
    assert read("Price", values[1:]).to_pylist() == [1e5, 2.0, 0.5, 1.0, None, float("inf")]


def test_flags_in_two_languages():
    yes = ["True", "verdadeiro", "1", "1.0", "yes", "sim", "TRUE", " Sim "]
    no = ["False", "falso", "0", "0.0", "no", "não", "FALSE", "NÃO"]
    assert read("Hist_Price", yes + no).to_pylist() == [True] * 8 + [False] * 8


def test_a_typed_file_with_a_listed_column_as_text():
    mixed = pa.table({"Date": ["2026-10-31", "nan"], "Asset": ["nan", ""], "Price": [1.0, 2.0]})
    got = decode(mixed)
    assert got["Date"].to_pylist() == [DAY, None]
    assert got["Asset"].to_pylist() == ["nan", ""]  # genuine text here
    assert got["Price"] is mixed["Price"] or got["Price"].equals(mixed["Price"])


def test_some_columns_of_a_file_are_read_as_in_the_whole():
    part = pa.table({"Asset": ["nan", ""]})
    assert decode(part)["Asset"].to_pylist() == [None, None]
    whole = codec(pa.schema([("Asset", pa.string()), ("Price", pa.float64())]))
    assert whole.decode(part)["Asset"].to_pylist() == ["nan", ""]
    marked = part.replace_schema_metadata({"luxor.encoding": "typed"})
    assert decode(marked).equals(marked, check_metadata=True)


def test_text_in_a_legacy_file_is_not_what_it_stores():
    """Among its cells are words for null, so that a condition on it is decided after they are read."""
    legacy = codec(pa.schema([("Asset", pa.string()), ("Price", pa.string())]))
    assert not legacy.is_plain("Asset")
    mixed = codec(pa.schema([("Asset", pa.string()), ("Price", pa.string()), ("n", pa.float64())]))
    assert [mixed.is_plain(name) for name in mixed.schema.names] == [True, False, True]


# --- writing -------------------------------------------------------------------------------------


def test_numbers_are_written_as_python_does():
    values = [5.0, 0.1, 1e16, 123456789012.5, 1e-5, -0.0, 239245.0, 2.0**60]
    assert write(values, pa.float64()) == [repr(float(value)) for value in values]
    assert write([5.0], pa.float64()) == ["5.0"]


def test_dates_are_written_short_unless_one_has_a_time():
    assert write([DAY, None], US) == ["2026-10-31", "NaT"]
    assert write([DAY, DAY.replace(hour=9)], US) == ["2026-10-31 00:00:00", "2026-10-31 09:00:00"]
    fine = DAY.replace(microsecond=5)
    assert write([DAY, fine], US) == ["2026-10-31 00:00:00.000000", "2026-10-31 00:00:00.000005"]


def test_dates_are_written_as_the_stored_ones_are():
    assert write([DAY], US, like=["2025-01-01", "nan"]) == ["2026-10-31"]
    assert write([DAY], US, like=["2025-01-01", "2025-01-01 10:00:00"]) == ["2026-10-31 00:00:00"]
    assert write([DAY], US, like=["2025-01-01 10:00:00.5"]) == ["2026-10-31 00:00:00.000000"]
    assert write([DAY], US, like=[]) == ["2026-10-31"]


def test_flags_text_and_stamps():
    assert write([True, False, None], pa.bool_()) == ["True", "False", "nan"]
    assert write(["a", None], pa.string()) == ["a", "nan"]
    dictionary = spell(pa.table({"c": pa.array(["a", None]).dictionary_encode()}))["c"]
    assert dictionary.type == pa.string()
    assert dictionary.to_pylist() == ["a", "nan"]
    noon = dt.datetime(2026, 10, 31, 15, 30, tzinfo=dt.timezone(dt.timedelta(hours=-3)))
    stamps = pa.table({LAST_UPDATED: pa.array([noon], pa.timestamp("us", "-03:00"))})
    assert spell(stamps)[LAST_UPDATED].to_pylist() == ["2026-10-31 18:30:00"]
    midnight = pa.table({LAST_UPDATED: pa.array([DAY], UTC)})
    assert spell(midnight)[LAST_UPDATED].to_pylist() == ["2026-10-31 00:00:00"]


@pytest.mark.parametrize(
    ("stored", "word"),
    [
        (["None", "nan", "None", "5.0"], "None"),
        (["<NA>"], "<NA>"),
        (["", "", "nan"], ""),
        (["5.0", "none"], "nan"),
        ([None, None, "NaT"], None),
        ([], "nan"),
    ],
)
def test_nulls_are_written_as_the_stored_ones_are(stored, word):
    assert write([1.0, None], pa.float64(), like=stored) == ["1.0", word]


def test_columns_come_in_the_order_of_the_stored_ones():
    new = pa.table({"Price": [1.0], "Date": pa.array([DAY], US)})
    assert spell(new, like=pa.table({"Date": ["2025-01-01"], "Price": ["None"]})).to_pydict() == {
        "Date": ["2026-10-31"],
        "Price": ["1.0"],
    }
    with pytest.raises(SchemaError, match="no column 'Asset'; they have 'Price', 'Date'"):
        spell(new, like=pa.table({"Date": ["2025-01-01"], "Asset": ["a"]}))


# --- there and back ------------------------------------------------------------------------------

_NAMES = {"Date": US, "Asset": pa.string(), "Price": pa.float64(), "Hist_Price": pa.bool_(), "Today": US}
_word = st.text(st.characters(exclude_categories=("Cs",)), max_size=5).filter(lambda text: text not in NULL_WORDS)
_day = st.dates(dt.date(1, 1, 1)).map(lambda day: dt.datetime(day.year, day.month, day.day))
_moment = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
_cells = (_day, _word, st.floats(allow_nan=False), st.booleans(), _moment)
_rows = st.lists(st.tuples(*(st.none() | cell for cell in _cells)), max_size=10)


def typed(rows):
    columns = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(_NAMES.values())]
    return pa.table(columns, names=list(_NAMES))


@given(_rows, _rows)
def test_what_is_written_reads_as_it_was(rows, stored):
    table = typed(rows)
    for like in (None, spell(typed(stored))):
        text = spell(table, like=like)
        assert is_text(text.schema)
        assert not any(column.null_count for column in text.columns)
        assert decode(text).equals(table)
        categories = pa.table([column.dictionary_encode() for column in text.columns], names=text.column_names)
        decoded = decode(categories)
        assert decoded.to_pydict() == table.to_pydict()


@given(_rows)
def test_a_text_file_gives_the_same_frame_as_its_typed_twin(rows):
    table = typed(rows)
    pd.testing.assert_frame_equal(arrow_to_frame(decode(spell(table))), arrow_to_frame(table))


def test_text_that_pandas_made_reads_as_the_frame_it_was():
    frame = pd.DataFrame(
        {
            "Date": pd.to_datetime(["2026-01-01", None, "2026-01-03"]).as_unit("us"),
            "Price": [1.0, None, 1e-7],
            "Volume": pd.Series([1, None, 3], dtype="Int64"),
            "Asset": pd.Series(["a", None, "b"], dtype=object),
            "Hist_Price": pd.Series([True, None, False], dtype="boolean"),
        }
    )
    text = pa.table({name: [str(value) for value in frame[name].tolist()] for name in frame})
    text = text.set_column(0, "Date", pa.array([str(value)[:10] for value in frame["Date"]]))
    target = codec(text.schema).schema
    assert decode(text).equals(frame_to_arrow(frame, table="t", target=target).cast(target))


def test_a_batch_compares_as_it_will_read():
    batch = pa.table(
        {
            "Date": pa.array([DAY, DAY], US),
            "Asset": ["nan", "a"],
            "Pct_Change": [0.5, None],
            "Start_Date": pa.array([DAY, None], US),
            "Price": [1.0, None],
        }
    )
    comparable = as_read(batch)
    assert comparable.to_pydict() == {
        "Date": [DAY, DAY],
        "Asset": [None, "a"],
        "Pct_Change": ["0.5", None],
        "Start_Date": ["2026-10-31", None],
        "Price": [1.0, None],
    }
    stored = decode(spell(comparable))
    assert stored.equals(comparable)
    assert as_read(comparable).equals(comparable)
    for key in (None, ("Date", "Asset")):
        assert not merge(stored, comparable, mode="slices", key=key, increment="Date").changed
    overrides = {"float": {"Pct_Change"}}
    assert as_read(batch, overrides)["Pct_Change"].to_pylist() == [0.5, None]
