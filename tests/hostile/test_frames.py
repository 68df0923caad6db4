"""Frames that no table should take, and odd ones that it should."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from luxor_pipelines.errors import SchemaError, UsageError
from luxor_pipelines.ingest import incremental_load, save_table

DAYS = pd.to_datetime(["2026-10-30", "2026-10-31"])


def with_price(values: Any) -> pd.DataFrame:
    return pd.DataFrame({"Date": DAYS, "Asset": ["a", "b"], "Last_Price": values})


def with_date(values: Any) -> pd.DataFrame:
    return pd.DataFrame({"Date": values, "Asset": ["a", "b"], "Last_Price": [1.0, 2.0]})


def with_asset(values: Any) -> pd.DataFrame:
    return pd.DataFrame({"Date": DAYS, "Asset": values, "Last_Price": [1.0, 2.0]})


def objects(*values: Any) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def renamed(names: Any) -> pd.DataFrame:
    return with_price([1.0, 2.0]).set_axis(names, axis=1)


ODD_NAMES = pd.Index(["Asset", "\ud800"], dtype=object)


class Liar(str):
    """Text that calls itself something else."""

    def __str__(self) -> str:
        return "other"


WRONG = {
    "mixed-numbers-and-text": (lambda: with_price(objects(1.0, "x")), "'Last_Price'"),
    "mixed-flags-and-numbers": (lambda: with_price(objects(1.0, True)), "'Last_Price'"),
    "text-for-numbers": (lambda: with_price(["1,5", "2"]), "'Last_Price'"),
    "infinity": (lambda: with_price([1.0, np.inf]), "infinite"),
    "minus-infinity-float32": (lambda: with_price(np.array([1, -np.inf], "f4")), "infinite"),
    "infinity-of-arrow": (lambda: with_price(pd.array([1.0, float("inf")], "double[pyarrow]")), "infinite"),
    "decimal-infinity": (lambda: with_price(objects(Decimal(1), Decimal("Infinity"))), "infinite"),
    "decimal-signalling-nan": (lambda: with_price(objects(Decimal(1), Decimal("sNaN"))), "'Last_Price'"),
    "int-2-to-63": (lambda: with_price(np.array([1, 2**63], "u8") + np.uint64(1)), "int64"),
    "int-beyond-float64": (lambda: with_price(objects(1, 10**400)), "int64"),
    "int-2-to-53-plus-1": (lambda: with_price([1, 2**53 + 1]), "float64"),
    "complex": (lambda: with_price([1 + 0j, 2j]), "'Last_Price'"),
    "complex-objects": (lambda: with_price(objects(1j, 2j)), "complex"),
    "interval": (lambda: with_price(pd.arrays.IntervalArray.from_breaks([0, 1, 2])), "'Last_Price'"),
    "period": (lambda: with_date(pd.period_range("2026-10", periods=2, freq="M")), "'Date'"),
    "timedelta": (lambda: with_price(pd.to_timedelta([1, 2], unit="D")), "'Last_Price'"),
    "dicts": (lambda: with_price(objects({"a": 1}, {})), "dict"),
    "lists": (lambda: with_price(objects([1.0], [])), "list"),
    "arrays": (lambda: with_price(objects(np.arange(2), np.arange(3))), "ndarray"),
    "sets": (lambda: with_price(objects({1}, set())), "set"),
    "bytes": (lambda: with_asset(objects(b"a", b"\xff")), "bytes"),
    "bytes-of-arrow": (lambda: with_asset(pd.array([b"a", b"b"], pd.ArrowDtype(pa.binary()))), "'Asset'"),
    "lists-of-arrow": (
        lambda: with_price(pd.array([[1.0], []], pd.ArrowDtype(pa.list_(pa.float64())))),
        "'Last_Price'",
    ),
    "structs-of-arrow": (
        lambda: with_price(pd.array([{"a": 1}, {"a": 2}], pd.ArrowDtype(pa.struct([("a", pa.int64())])))),
        "'Last_Price'",
    ),
    "maps-of-arrow": (
        lambda: with_price(pd.array([[("a", 1)], []], pd.ArrowDtype(pa.map_(pa.string(), pa.int64())))),
        "'Last_Price'",
    ),
    "times-of-day": (lambda: with_date(objects(dt.time(1), dt.time(2))), "'Date'"),
    "zone": (lambda: with_date(DAYS.tz_localize("America/Sao_Paulo")), "time zone"),
    "zone-objects": (
        lambda: with_date(objects(*(dt.datetime(2026, 10, d, tzinfo=ZoneInfo("UTC")) for d in (1, 2)))),
        "time zone",
    ),
    "zone-of-arrow": (
        lambda: with_date(pd.array(DAYS.tz_localize("UTC"), pd.ArrowDtype(pa.timestamp("us", "UTC")))),
        "time zone",
    ),
    "some-zones": (
        lambda: with_date(objects(dt.datetime(2026, 10, 1), dt.datetime(2026, 10, 2, tzinfo=dt.UTC))),
        "time zone",
    ),
    "null-dates": (lambda: with_date([DAYS[0], pd.NaT]), "null"),
    "null-asset": (lambda: with_asset(["a", None]), "null"),
    "dates-as-numbers": (lambda: with_date([20261030, 46326]), "20261031; for instance 46326"),
    "dates-30-february": (lambda: with_date(["2026-02-28", "2026-02-30"]), "2026-02-30"),
    "dates-slashes": (lambda: with_date(["30/10/2026", "31/10/2026"]), "30/10/2026"),
    "dates-year-10000": (lambda: with_date(np.array(["2026-10-30", "10000-01-01"], "M8[us]")), "10000"),
    "dates-before-christ": (lambda: with_date(np.array(["2026-10-30", "-0001-01-01"], "M8[us]")), "no year"),
    "dates-of-arrow-in-year-5-million": (
        lambda: with_date(pd.array(pa.array([1, 2**31 - 1], pa.int32()).cast(pa.date32()), pd.ArrowDtype(pa.date32()))),
        "'Date'",
    ),
    "dates-beyond-microseconds": (lambda: with_date(np.array(["2026-10-30", "300000-01-01"], "M8[s]")), "'Date'"),
    "dates-of-nanoseconds": (lambda: with_date(np.array(["2026-10-30T00:00:00.000000001"] * 2, "M8[ns]")), "'Date'"),
    "twice-the-column": (lambda: renamed(["Date", "Asset", "Asset"]), "'Asset'"),
    "columns-of-two-levels": (
        lambda: with_price([1.0, 2.0]).set_axis(pd.MultiIndex.from_product([["x"], ["Date", "Asset", "P"]]), axis=1),
        "levels",
    ),
    "column-named-by-number": (lambda: renamed(["Date", "Asset", 3]), "3"),
    "column-named-none": (lambda: renamed(pd.Index(["Date", "Asset", None], dtype=object)), "None"),
    "column-with-nul": (lambda: renamed(["Date", "Asset", "Last_Price\0"]), "Last_Price"),
    "column-in-other-case": (lambda: renamed(["date", "Asset", "Last_Price"]), "'date'"),
    "column-too-many": (lambda: with_price([1.0, 2.0]).assign(Extra=1), "'Extra'"),
    "column-too-few": (lambda: with_price([1.0, 2.0]).drop(columns="Asset"), "'Asset'"),
    "key-twice": (lambda: pd.concat([with_price([1.0, 2.0])] * 2), "occur"),
    "surrogate": (lambda: with_asset(pd.Series(objects("a", "\ud800"), dtype=object)), "Unicode"),
    "surrogate-in-a-category": (lambda: with_asset(pd.Categorical.from_codes([0, 0], ODD_NAMES[1:])), "Unicode"),
    "surrogate-in-a-column-name": (lambda: renamed(ODD_NAMES.insert(0, "Date")), "Unicode"),
    "category-of-numbers-for-text": (lambda: with_asset(pd.Categorical([1, 2])), "'Asset'"),
    "sparse-infinity": (lambda: with_price(pd.arrays.SparseArray([1.0, np.inf])), "infinite"),
    "masked-booleans-for-numbers": (lambda: with_price(pd.array([True, None], "boolean")), "'Last_Price'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_frames_that_do_not_fit_are_refused_by_place(case: str, lake: Any, refused: Any) -> None:
    make, words = WRONG[case]
    frame = make()
    lq = lake.query()
    with refused(lake, SchemaError, "hist_px_last", words):
        incremental_load(lq, "hist_px_last", frame, unique_columns=["Date", "Asset"])


@pytest.mark.parametrize("case", sorted(set(WRONG) - {
    # Without a stored table there is nothing these could not fit.
    "text-for-numbers", "column-in-other-case",
    "column-too-many", "column-too-few", "category-of-numbers-for-text", "masked-booleans-for-numbers",
    "null-dates", "null-asset", "key-twice", "column-with-nul",
}))  # fmt: skip
def test_nor_does_one_of_them_make_a_table(case: str, lake: Any, refused: Any) -> None:
    make, words = WRONG[case]
    frame = make()
    with refused(lake, SchemaError, "new_table", words):
        save_table("new_table", frame, lq=lake.query())


@pytest.mark.parametrize(
    "rows",
    [None, [1, 2], {"Date": 1}, "Date,Asset", pd.Series([1, 2]), np.ones((2, 3)), pa.record_batch({"Date": [1]})],
    ids=type,
)
def test_what_is_no_frame_is_refused(rows: Any, lake: Any, refused: Any) -> None:
    with refused(lake, UsageError, "DataFrame"):
        save_table("new_table", rows, lq=lake.query())
    with refused(lake, UsageError, "DataFrame"):
        incremental_load(lake.query(), "hist_px_last", rows)


@pytest.mark.parametrize("index", [pd.MultiIndex.from_tuples([(1, 1), (1, 2)]), pd.Index(["a", "b"], name="Date")])
def test_an_index_of_several_levels_is_not_stored(index: Any, lake: Any, refused: Any) -> None:
    frame = with_price([1.0, 2.0]).set_index(index)
    with refused(lake, SchemaError, "index"):
        save_table("new_table", frame, lq=lake.query(), index=True, index_name="Date")


@pytest.mark.parametrize("name", ["__index_level_0__", "__null_dask_index__"])
def test_a_column_that_no_reader_would_be_given_is_not_stored(name: str, lake: Any, refused: Any) -> None:
    frame = with_price([1.0, 2.0]).assign(**{name: 1})
    with refused(lake, SchemaError, name, "not read as a column"):
        save_table("new_table", frame, lq=lake.query())
    with refused(lake, SchemaError, name, "not read as a column"):
        incremental_load(lake.query(), "new_table", frame)


@pytest.mark.parametrize(
    "arguments",
    [{"increment_column": ["Date"]}, {"unique_columns": [["Date", "Asset"]]}, {"index": True, "index_name": ["Date"]}],
    ids=str,
)
def test_a_list_is_no_name_of_a_column(arguments: Any, lake: Any, refused: Any) -> None:
    with refused(lake, UsageError, "is no column's name"):
        incremental_load(lake.query(), "hist_px_last", with_price([1.0, 2.0]), **arguments)
    if "index" in arguments:
        with refused(lake, UsageError, "is no column's name"):
            save_table("new_table", with_price([1.0, 2.0]), lq=lake.query(), **arguments)


FITTING = {
    "categories": lambda: with_asset(pd.Categorical(["a", "b"])),
    "category-that-is-not-used": lambda: with_asset(pd.Categorical(["a", "b"], categories=["b", "z", "a"])),
    "categories-of-odd-case": lambda: with_asset(pd.Categorical([" A", "b"], categories=["a", "b", " A"])),
    "dates-as-categories-of-text": lambda: with_date(pd.Categorical(["2026-10-30", "2026-10-31"])),
    "sparse": lambda: with_price(pd.arrays.SparseArray([1.0, 2.0])),
    "nullable-floats": lambda: with_price(pd.array([1.0, 2.0], "Float64")),
    "nullable-whole-numbers": lambda: with_price(pd.array([1, 2], "Int64")),
    "whole-numbers-unsigned": lambda: with_price(np.array([1, 2], "u2")),
    "half-floats": lambda: with_price(np.array([1, 2], "f2")),
    "decimals": lambda: with_price(objects(Decimal("1.0"), Decimal(2))),
    "objects-of-numbers": lambda: with_price(objects(1, 2.0)),
    "big-endian": lambda: with_price(np.array([1.0, 2.0], ">f8")),
    "arrow-floats": lambda: with_price(pd.array([1.0, 2.0], "double[pyarrow]")),
    "arrow-decimals": lambda: with_price(pd.array([Decimal(1), Decimal(2)], pd.ArrowDtype(pa.decimal128(9, 2)))),
    "arrow-text": lambda: with_asset(pd.array(["a", "b"], "string[pyarrow]")),
    "arrow-large-text": lambda: with_asset(pd.array(["a", "b"], pd.ArrowDtype(pa.large_string()))),
    "arrow-dictionary": lambda: with_asset(
        pd.array(["a", "b"], pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())))
    ),
    "arrow-dates": lambda: with_date(pd.array([d.date() for d in DAYS], pd.ArrowDtype(pa.date32()))),
    "arrow-milliseconds": lambda: with_date(pd.array(DAYS, pd.ArrowDtype(pa.timestamp("ms")))),
    "python-dates": lambda: with_date(objects(*(d.date() for d in DAYS))),
    "iso-text": lambda: with_date(["2026-10-30", "2026-10-31 00:00:00"]),
    "seconds": lambda: with_date(DAYS.to_numpy().astype("M8[s]")),
    "text-of-a-subclass": lambda: with_asset(objects(Liar("a"), Liar("b"))),
    "an-index-twice": lambda: with_price([1.0, 2.0]).set_axis([7, 7]),
    "an-index-of-two-levels": lambda: with_price([1.0, 2.0]).set_index(pd.MultiIndex.from_tuples([(1, 1), (1, 2)])),
    "columns-in-another-order": lambda: with_price([1.0, 2.0])[["Last_Price", "Date", "Asset"]],
    "outer-space-and-case": lambda: with_asset([" A ", "B\n"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FITTING)
def test_frames_that_mean_the_same_are_stored_the_same(case: str, lake: Any) -> None:
    lq = lake.query()
    frame = FITTING[case]()
    before = frame.copy(deep=True)
    result = incremental_load(lq, "hist_px_last", frame, unique_columns=["Date", "Asset"])
    assert (result.inserted, result.updated) == (2, 0)
    stored = lq.get_table("hist_px_last", where={"Asset": ["a", "b"]}).sort_values("Asset", ignore_index=True)
    pd.testing.assert_frame_equal(stored, with_price([1.0, 2.0]).assign(Asset=stored["Asset"]), check_dtype=False)
    assert stored["Asset"].tolist() == ["a", "b"]
    assert stored["Date"].dtype == "datetime64[us]"
    pd.testing.assert_frame_equal(frame, before)
