from __future__ import annotations

import copy
import datetime as dt
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luxor_pipelines.catalog import CONVENTIONS
from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.lake.types.frames import arrow_to_frame, frame_to_arrow
from luxor_pipelines.lake.types.keys import check_key, repeated_keys
from luxor_pipelines.lake.types.schema import (
    LAST_UPDATED,
    Column,
    TableSchema,
)
from luxor_pipelines.names import normal_name, normal_names

US = pa.timestamp("us")
UTC = pa.timestamp("us", "UTC")
BIG = 2**53 + 1
PRICES = TableSchema(
    "hist_px_last",
    3,
    (Column("Date", "date", nullable=False), Column("Asset", "text", nullable=False), Column("Last_Price", "number")),
    ("Date", "Asset"),
    "month",
)


def to_arrow(df, target=None, **options):
    return frame_to_arrow(df, table="t", target=target, keep_case=CONVENTIONS.keep_case, **options)


def column(values, dtype=None, **options):
    """The one column ``c`` of those values, as Arrow has it."""
    series = values if isinstance(values, pd.Series) else pd.Series(values, dtype=dtype)
    return to_arrow(pd.DataFrame({"c": series}), **options)["c"]


def fitted(values, kind, dtype=None):
    return column(values, dtype, target=pa.schema([("c", kind)]))


# --- declared schemas ----------------------------------------------------------------------------


def test_a_schema_declares_types_and_ends_with_the_stamp():
    assert PRICES.arrow() == pa.schema(
        [
            pa.field("Date", US, nullable=False),
            pa.field("Asset", pa.string(), nullable=False),
            pa.field("Last_Price", pa.float64()),
            pa.field(LAST_UPDATED, UTC),
        ]
    )
    assert PRICES.metadata() == {
        b"luxor.schema": b"hist_px_last",
        b"luxor.schema_version": b"3",
        b"luxor.key": b"Date\nAsset",
        b"luxor.encoding": b"typed",
    }
    both = TableSchema("x", 1, (Column("f", "flag"), Column("s", "stamp")), ("f",)).arrow()
    assert both.types == [pa.bool_(), UTC, UTC]


# --- what pandas columns become ------------------------------------------------------------------

DAY = dt.datetime(2026, 10, 31)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        *(([DAY, None], f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")),
        ([dt.date(2026, 10, 31), None], object),
        ([DAY, pd.NaT], object),
        ([pd.Timestamp(DAY), np.nan], object),
        ([np.datetime64("2026-10-31"), pd.NA], object),
        ([DAY, None], "category"),
        ([DAY, None], pd.ArrowDtype(pa.timestamp("s"))),
        ([dt.date(2026, 10, 31), None], pd.ArrowDtype(pa.date32())),
    ],
)
def test_dates_of_every_kind(values, dtype):
    got = column(values, dtype)
    assert got.type == US
    assert got.to_pylist() == [DAY, None]


def test_dates_and_datetimes_mix():
    assert column([dt.date(2026, 1, 1), dt.datetime(2026, 1, 2, 3)], object).to_pylist() == [
        dt.datetime(2026, 1, 1),
        dt.datetime(2026, 1, 2, 3),
    ]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([5.0, None], "float64"),
        ([5.0, None], "float32"),
        ([5, None], "Float64"),
        ([Decimal("5.00"), pd.NA], object),
        ([Decimal(5), Decimal("NaN")], object),
        ([5.0, None], "category"),
        ([5.0, None], pd.ArrowDtype(pa.float32())),
        ([Decimal("5.00"), None], pd.ArrowDtype(pa.decimal128(9, 2))),
    ],
)
def test_numbers_of_every_kind(values, dtype):
    got = column(values, dtype)
    assert got.type == pa.float64()
    assert got.to_pylist() == [5.0, None]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([5, None], "Int64"),
        ([5, None], "UInt8"),
        ([5, None], object),
        ([np.int64(5), np.nan], object),
        ([5, None], "category"),
        ([5, None], pd.ArrowDtype(pa.int16())),
        ([5, None], pd.ArrowDtype(pa.uint64())),
    ],
)
def test_whole_numbers_stay_whole(values, dtype):
    got = column(values, dtype)
    assert got.type == pa.int64()
    assert got.to_pylist() == [5, None]
    assert fitted(values, pa.float64(), dtype).to_pylist() == [5.0, None]


def test_numbers_fit_a_column_of_whole_numbers_where_they_are_whole():
    assert fitted([5.0, None, -3.0], pa.int64()).to_pylist() == [5, None, -3]
    with pytest.raises(SchemaError, match=r"2 of 3 cells do not fit int64, .*1\.5"):
        fitted([1.5, 2.0, 2.0**63], pa.int64())


@pytest.mark.parametrize(("values", "dtype"), [([1, BIG], "int64"), ([1, BIG], object), ([BIG, None], "Int64")])
def test_whole_numbers_fit_a_column_of_numbers_where_it_holds_them(values, dtype):
    with pytest.raises(SchemaError, match=f"1 of 2 cells are whole numbers .* {BIG}"):
        fitted(values, pa.float64(), dtype)


def test_decimals_become_the_nearest_number():
    values = [Decimal("0.1"), Decimal("123456.789"), Decimal("1E-7")]
    assert column(values, object).to_pylist() == [0.1, 123456.789, 1e-7]
    assert column(values, pd.ArrowDtype(pa.decimal128(30, 10))).to_pylist() == [0.1, 123456.789, 1e-7]


def test_numbers_of_several_kinds_mix():
    assert column([1, 2.5, Decimal("3.5"), None], object).to_pylist() == [1.0, 2.5, 3.5, None]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([True, None], "boolean"),
        ([True, None], object),
        ([np.True_, pd.NA], object),
        ([True, None], "category"),
        ([True, None], pd.ArrowDtype(pa.bool_())),
    ],
)
def test_flags_of_every_kind(values, dtype):
    got = column(values, dtype)
    assert got.type == pa.bool_()
    assert got.to_pylist() == [True, None]
    assert column([True, False]).to_pylist() == [True, False]


@pytest.mark.parametrize(
    "dtype",
    ["string", "string[python]", "string[pyarrow]", object, "category", None]
    + [pd.ArrowDtype(kind) for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))],
)
def test_text_of_every_kind(dtype):
    got = column(pd.Series(["a", None, "b", "a"], dtype=dtype))
    assert got.type == pa.string()
    assert got.to_pylist() == ["a", None, "b", "a"]


def test_every_missing_value_is_a_null():
    got = column(["a", None, np.nan, pd.NaT, pd.NA, "nan", ""], object)
    assert got.to_pylist() == ["a", None, None, None, None, "nan", ""]
    inside = pd.arrays.FloatingArray(np.array([1.0, np.nan, 2.0]), np.array([False, False, True]))
    assert column(pd.Series(inside)).null_count == 2
    assert column(pd.Series(pa.array([1.0, math.nan]).to_pandas(types_mapper=pd.ArrowDtype))).null_count == 1


def test_digits_are_dates_where_dates_are_wanted():
    assert fitted([20261031, None], US, "Int64").to_pylist() == [DAY, None]


def test_a_column_without_a_value_has_no_type_or_the_one_that_is_asked_for():
    assert column([np.nan, np.nan]).type == pa.null()
    for values in ([None, None], [np.nan, pd.NA], [pd.NaT, None]):
        assert column(values, object).type == pa.null()
        for kind in (US, pa.float64(), pa.bool_(), UTC):
            assert fitted(values, kind, object).type == kind
    assert fitted([np.nan, np.nan], pa.string()).null_count == 2
    assert to_arrow(pd.DataFrame({"c": []}), pa.schema([("c", US)])).schema.types == [US]


def test_an_unused_category_does_not_matter():
    series = pd.Series(["a", 5, "b"], dtype="category")
    assert column(series[series != 5].reset_index(drop=True)).to_pylist() == ["a", "b"]
    with pytest.raises(SchemaError, match=r"1 of 3 cells are numbers .* for instance 5"):
        column(series)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([1.0, np.inf, -np.inf], None, "2 of 3 cells are infinite; for instance inf"),
        ([1, Decimal("-Infinity")], object, "1 of 2 cells are infinite; for instance -inf"),
        ([2**64 - 1], "uint64", "1 of 1 cells are whole numbers"),
        ([10**400, 1], object, "1 of 2 cells are whole numbers that int64 does not hold"),
        ([10**400, 1.5], object, "1 of 2 cells are larger than float64 holds"),
        (["a", 1, "b"], object, "1 of 3 cells are numbers in a column that mixes 2 text and 1 numbers; for instance 1"),
        ([True, 2, 3], object, "1 of 3 cells are flags .* for instance True"),
        ([DAY, "2026-10-31", DAY], object, "1 of 3 cells are text .* for instance '2026-10-31'"),
        ([b"a", None], object, "1 of 2 cells are bytes, which is not stored"),
        ([[1], {"a": 1}], object, "1 of 2 cells are list"),
        ([dt.time(1)], object, "cells are time"),
        ([1j], None, "complex128, which is not stored"),
        ([pd.Timedelta(1, "D")], None, "which is not stored"),
        ([pd.Period("2026-10")], None, "which is not stored"),
        ([[1], [2]], pd.ArrowDtype(pa.list_(pa.int64())), "which is not stored"),
        (["\ud800"], object, "no Unicode"),
        ([pd.Timestamp("2026-10-31 00:00:00.000000001"), DAY], "datetime64[ns]", "1 of 2 cells have more than micro"),
        ([pd.Timestamp("2026-10-31 00:00:00.000000001"), None], object, "1 of 2 cells have more than microseconds"),
        (
            [np.datetime64("400000-01-01", "s"), np.datetime64("2026-01-01", "s")],
            None,
            "1 of 2 cells are beyond .*4000",
        ),
        ([pd.Timestamp(DAY, tz="UTC"), None], None, "1 of 2 cells have a time zone"),
        ([DAY.replace(tzinfo=dt.UTC), None], object, "1 of 2 cells have a time zone"),
        ([DAY.replace(tzinfo=dt.UTC), DAY], object, "1 of 2 cells have a time zone, others none"),
    ],
)
def test_cells_that_no_type_holds(values, dtype, message):
    if isinstance(values[0], np.datetime64):
        values = np.array(values)
    with pytest.raises(SchemaError, match=rf"Table t, column 'c': .*{message}"):
        column(values, dtype)


def test_large_whole_numbers_are_taken_and_as_numbers_where_they_fit():
    large = [2**53 + 1, 2**63 - 1, -(2**63)]
    assert column(large).to_pylist() == column(large, object).to_pylist() == large
    assert fitted([2**53, 2**60, -(2**62)], pa.float64()).to_pylist() == [2.0**53, 2.0**60, -(2.0**62)]
    assert column([1e300, 2**60], object).to_pylist() == [1e300, 2.0**60]


def test_a_zone_is_dropped_by_the_caller_only():
    zoned = pd.Series([pd.Timestamp("2026-10-31 22:00", tz="America/Sao_Paulo")])
    with pytest.raises(SchemaError) as error:
        fitted(zoned, US)
    assert "tz_localize(None)" in error.value.hint
    assert fitted(zoned, UTC)[0].as_py() == dt.datetime(2026, 11, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(SchemaError, match="dates where the table has stamps"):
        fitted([DAY], UTC)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'"),
        (pd.DataFrame([[1, 2]], columns=["a", 5]), "column names are text, but the frame has 5"),
        (pd.DataFrame([[1, 2]]), "has 0, 1"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])), "2 levels"),
    ],
)
def test_columns_that_cannot_be_named(frame, message):
    with pytest.raises(SchemaError, match=message):
        to_arrow(frame)


def test_only_frames_are_rows():
    with pytest.raises(UsageError, match="Series"):
        to_arrow(pd.Series([1]))


# --- fitting a target ----------------------------------------------------------------------------


def prices(**columns):
    return pd.DataFrame(
        {"Asset": [" AAPL us "], "Last_Price": [1], "Date": [dt.date(2026, 1, 2)], LAST_UPDATED: ["x"]} | columns
    )


def test_columns_come_in_the_order_of_the_target():
    got = to_arrow(prices(), PRICES.arrow())
    assert got.schema == pa.schema(list(PRICES.arrow())[:3])
    assert got.to_pylist() == [{"Date": dt.datetime(2026, 1, 2), "Asset": "aapl us", "Last_Price": 1.0}]


def test_a_stamp_of_the_caller_is_left_out():
    assert LAST_UPDATED not in to_arrow(prices()).column_names


def test_unknown_and_missing_columns_are_listed():
    with pytest.raises(SchemaError) as error:
        to_arrow(prices().rename(columns={"Last_Price": "Price"}), PRICES.arrow())
    message = str(error.value)
    assert "unknown: 'Price'" in message
    assert "missing: 'Last_Price'" in message
    assert "'Date', 'Asset', 'Last_Price'" in message


def test_text_fits_dates_only_as_iso():
    texts = ["2026-10-31", " 2026-10-31 18:30 ", None, "2026-10-31T18:30:00.5"]
    want = [DAY, DAY.replace(hour=18, minute=30), None, DAY.replace(hour=18, minute=30, microsecond=500000)]
    for dtype in (None, object, "category"):
        assert fitted(texts, US, dtype).to_pylist() == want
    bad = ["2026-10-31", "31/10/2026", "31/10/2026", "2026-02-30", None, "nan"]
    with pytest.raises(SchemaError, match=r"4 of 6 cells are no ISO dates .* instance '31/10/2026'"):
        fitted(bad, US)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["1.5", "2", None], pa.float64(), "2 of 3 cells are text where the table has numbers; for instance '1.5'"),
        ([1.5, None], pa.string(), "1 of 2 cells are numbers where the table has text"),
        ([1, 0], pa.bool_(), "numbers where the table has flags"),
        ([True], pa.float64(), "flags where the table has numbers"),
        ([DAY], pa.float64(), "dates where the table has numbers; .*2026-10-31 00:00:00"),
        ([DAY], pa.string(), "dates where the table has text"),
        ([20261031.0], US, "numbers where the table has dates"),
        ([20261031, 20261301, 46326], US, "2 of 3 cells are no dates like 20261031; for instance 20261301"),
        (["a"], pa.binary(), "text where the table has binary"),
    ],
)
def test_one_type_is_not_made_another(values, kind, message):
    with pytest.raises(SchemaError, match=message):
        fitted(values, kind)


def test_cells_that_must_be_there():
    frame = prices(Asset=[None])
    with pytest.raises(SchemaError, match=r"'Asset': 1 of 1 cells are missing, in a column that must"):
        to_arrow(frame, PRICES.arrow())


def test_the_index_is_stored_on_request_only():
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index(["A", "B"], name="fund"))
    assert to_arrow(frame).column_names == ["x"]
    assert to_arrow(frame, index=True).to_pydict() == {"index": ["a", "b"], "x": [1.0, 2.0]}
    assert to_arrow(frame, index=True, index_name="Fund").column_names == ["Fund", "x"]
    with pytest.raises(SchemaError, match="name of a column"):
        to_arrow(frame, index=True, index_name="x")
    with pytest.raises(SchemaError, match="several levels"):
        to_arrow(frame.set_index("x", append=True), index=True)


def test_an_index_with_repeated_labels_does_no_harm():
    frame = pd.DataFrame({"x": ["a", None, "b"]}, index=[7, 7, 7])
    assert to_arrow(frame)["x"].to_pylist() == ["a", None, "b"]


# --- keys ----------------------------------------------------------------------------------------


def test_a_key_may_occur_once():
    days = pa.array([DAY, DAY, DAY, None, None, DAY], US)
    table = pa.table({"Date": days, "Asset": ["a", "b", "a", "a", "a", "a"], "x": range(6)})
    with pytest.raises(SchemaError) as error:
        check_key(table, ("Date", "Asset"), "hist")
    assert "Table hist: 2 keys (Date, Asset) occur in 5 rows" in str(error.value)
    assert "('2026-10-31 00:00:00', 'a')" in str(error.value)
    check_key(table, ("Date", "Asset", "x"), "hist")
    check_key(table.slice(0, 2), ("Date", "Asset"), "hist")
    check_key(table.slice(0, 0), ("Asset",), "hist")
    with pytest.raises(SchemaError, match="1 keys"):
        check_key(pa.table({"x": [0.0, -0.0, 1.0]}), ("x",), "hist")
    with pytest.raises(SchemaError, match="1 keys"):
        check_key(table.set_column(1, "Asset", table["Asset"].dictionary_encode()), ("Asset",), "hist")


# --- text ----------------------------------------------------------------------------------------


def test_text_is_trimmed_and_lowered_but_for_four_columns():
    frame = pd.DataFrame({name: [" Ab C "] for name in ("Name", "Class", "Vehicles", "Segment", "Asset", "name")})
    assert to_arrow(frame).to_pylist() == [
        dict.fromkeys(("Name", "Class", "Vehicles", "Segment"), " Ab C ") | {"Asset": "ab c", "name": "ab c"}
    ]
    assert to_arrow(frame, normalize=False)["Asset"].to_pylist() == [" Ab C "]


def test_missing_text_stays_missing():
    assert column([" A", None], object).to_pylist() == ["a", None]


# Every script of the reference currency areas and the letters whose lower case is peculiar.
_LETTERS = st.characters(max_codepoint=0x2FFF, exclude_categories=("Cs", "Cn"))


@settings(deadline=None)
@given(st.lists(st.none() | st.text(_LETTERS | st.sampled_from("AÇÃİIıΣΑς\x1c\x85\xa0\u2003\u200b\ufeff"))))
def test_a_column_of_text_is_normalised_as_each_name_is(texts):
    got = normal_names(pa.chunked_array([texts], pa.string())).to_pylist()
    assert got == [None if text is None else normal_name(text) for text in texts]


def test_text_gets_the_one_normal_form():
    frame = pd.DataFrame({"Asset": ["PETR4\u00a0BZ Equity ", "Ac\u0327a\u0303o", "NaN"]})
    assert to_arrow(frame)["Asset"].to_pylist() == ["petr4 bz equity", "ação", "nan"]


# --- the caller's frame --------------------------------------------------------------------------


def all_sorts():
    return pd.DataFrame(
        {
            "Date": pd.Series(["2026-01-01", None, "2026-01-03"], dtype="datetime64[ns]"),
            "Text": [" A ", None, "B"],
            "Object": pd.Series([" A ", np.nan, "B"], dtype=object),
            "Category": pd.Series(["X", None, "Y"], dtype="category"),
            "Int": pd.Series([1, None, 3], dtype="Int64"),
            "Float": [1.0, np.nan, -0.0],
            "Flag": pd.Series([True, None, False], dtype="boolean"),
            "Day": pd.Series([dt.date(2026, 1, 1), None, dt.date(2026, 1, 3)], dtype=object),
            LAST_UPDATED: [1, 2, 3],
        },
        index=[5, 5, 7],
    )


@pytest.mark.parametrize("bad", [None, "inf", "object"])
def test_the_frame_is_never_changed(bad):
    frame = all_sorts()
    if bad == "inf":
        frame["Float"] = [1.0, np.inf, 2.0]
    elif bad:
        frame["Object"] = pd.Series([1, "a", b"b"], dtype=object, index=frame.index)
    before = copy.deepcopy(frame)
    if bad:
        with pytest.raises(SchemaError):
            to_arrow(frame)
    else:
        to_arrow(frame, index=True)
    pd.testing.assert_frame_equal(frame, before)
    assert frame.columns.tolist() == before.columns.tolist()


def test_the_columns_do_not_share_the_frames_memory():
    frame = pd.DataFrame({"x": [1.0, 2.0], "d": pd.to_datetime(["2026-01-01", "2026-01-02"]).as_unit("us")})
    table = to_arrow(frame)
    frame.loc[0, "x"] = 99.0
    frame.loc[0, "d"] = pd.Timestamp("1999-01-01")
    assert table["x"].to_pylist() == [1.0, 2.0]
    assert table["d"][0].as_py() == dt.datetime(2026, 1, 1)


# --- readers' frames -----------------------------------------------------------------------------


def stored():
    return pa.table(
        {
            "Date": pa.array([DAY, None], US),
            "Asset": pa.array(["a", None]),
            "Key": pa.array(["k", None]).dictionary_encode(),
            "Price": pa.array([1.5, None]),
            "Flag": pa.array([True, None]),
            LAST_UPDATED: pa.array([DAY, None], UTC),
            "Count": pa.array([1, 2]),
        }
    )


def test_a_readers_frame_has_the_types_of_pandas():
    frame = arrow_to_frame(stored())
    text = pd.Series(["a"]).dtype
    assert [str(dtype) for dtype in frame.dtypes] == [
        "datetime64[us]",
        *(str(text), str(text)),
        *("float64", "boolean", "datetime64[us]", "int64"),  # stamps are UTC, without the zone
    ]
    assert isinstance(frame.index, pd.RangeIndex)
    assert frame.loc[0].tolist()[:5] == [pd.Timestamp(DAY), "a", "k", 1.5, True]
    assert frame.loc[1].isna().tolist() == [True] * 6 + [False]


def test_pandas_metadata_of_a_foreign_file_is_not_followed():
    foreign = pa.Table.from_pandas(pd.DataFrame({"x": [1.0]}, index=pd.Index(["r"], name="i")))
    frame = arrow_to_frame(foreign)
    assert frame.columns.tolist() == ["x", "i"]
    assert frame.index.tolist() == [0]


def test_tables_without_rows_or_columns():
    frame = arrow_to_frame(stored().slice(0, 0))
    assert len(frame) == 0
    assert str(frame["Date"].dtype) == "datetime64[us]"
    assert arrow_to_frame(stored().select([])).shape == (2, 0)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1.0, 2.0]),
        pa.array(np.array([1.0, 2.0])),
        pa.array([1, 2]),
        pa.array([DAY, DAY], US),
        pa.array([DAY, DAY], UTC),
        pa.array([True, False]),
        pa.array(["a", "b"]),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_a_readers_frame_is_writable_and_its_own(array, others):
    table = pa.table({"c": array} | {f"o{i}": array for i in range(others)})
    before = copy.deepcopy(table.to_pylist())
    frame = arrow_to_frame(table)
    frame.loc[0, "c"] = frame.loc[1, "c"]
    frame["c"].array[0] = frame["c"].array[1]
    for values in (frame["c"].array, getattr(frame["c"].array, "_data", None)):
        if isinstance(values, np.ndarray):
            assert values.flags.writeable
    assert frame.loc[0, "c"] == frame.loc[1, "c"]
    assert table.to_pylist() == before


# --- there and back ------------------------------------------------------------------------------

_dates = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
_numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(st.tuples(*(st.none() | kind for kind in (_dates, _texts, _numbers, st.booleans())))))
def test_there_and_back(cells):
    kinds = (US, pa.string(), pa.float64(), pa.bool_())
    columns = [pa.array([row[i] for row in cells], kind) for i, kind in enumerate(kinds)]
    table = pa.table(columns, names=["d", "t", "n", "f"])
    frame = arrow_to_frame(table)
    before = frame.copy(deep=True)
    assert to_arrow(frame, table.schema, normalize=False).equals(table)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(arrow_to_frame(to_arrow(frame, table.schema, normalize=False)), before)


def test_keys_are_compared_across_the_dictionaries_of_row_groups() -> None:
    groups = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
    table = pa.table({"Asset": pa.chunked_array(groups), "Day": [1, 2, 2, 3]})
    assert repeated_keys(table, ("Asset", "Day")).to_pylist() == [{"Asset": "b", "Day": 2, "count_all": 2}]
    assert not len(repeated_keys(table.slice(0, 2), ("Asset", "Day")))
