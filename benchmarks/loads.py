"""Loads: one month of a table of many, and an upsert of 1 % of a table of ten million rows.

Every turn brings new numbers: what is the same already, ours does not write. All start from a pandas frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.azurite import storage_options
from benchmarks.lakes import PRICES, REF, TABLES, Lakes, market, measurements
from benchmarks.measure import Case, Contender, Target
from benchmarks.returns import open_lake

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from luxor_pipelines import LuxorQuery

TABLE = "measurements"


# --- one month -------------------------------------------------------------------------------------


def month(turn: int, assets: int, form: str = "frame", **_: Any) -> pd.DataFrame | bytes:
    """The newest month's rows, with the numbers of this turn; or the Parquet file they make."""
    frame = measurements(turn, assets, 1)
    return _parquet(frame) if form == "bytes" else frame


def luxor(**arguments: Any) -> Callable[[pd.DataFrame], Any]:
    from luxor_pipelines import incremental_load

    lq = _lake(arguments)
    return lambda batch: incremental_load(lq, TABLE, batch)


def put(container: str, connection: str, **_: Any) -> Callable[[bytes], Any]:
    """Only the upload of the month's bytes, with a client that is connected already."""
    from azure.storage.blob import BlobClient

    blob = BlobClient.from_connection_string(connection, container, "put/data.parquet")
    return lambda batch: blob.upload_blob(batch, overwrite=True)


def write(lake: str, **_: Any) -> Callable[[bytes], Any]:
    """Only the file of the month's bytes, as safely as it takes to survive a crash."""

    def run(batch: bytes) -> None:
        path = Path(lake, "put.tmp")
        with path.open("wb") as file:
            file.write(batch)
            file.flush()
            os.fsync(file.fileno())
        path.replace(path.with_suffix(".parquet"))

    return run


def delta(**arguments: Any) -> Callable[[pd.DataFrame], Any]:
    """A table partitioned by month, of which one is overwritten."""
    from deltalake import write_deltalake

    table = _delta(**arguments)
    label = f"{REF:%Y-%m}"

    def run(batch: pd.DataFrame) -> None:
        rows = batch.assign(month=label)
        write_deltalake(table, rows, mode="overwrite", predicate=f"month = '{label}'")

    return run


def single(**arguments: Any) -> Callable[[pd.DataFrame], Any]:
    """One file, which pandas reads, changes and writes back whole."""

    def run(batch: pd.DataFrame) -> None:
        stored = pd.read_parquet(_get(**arguments))
        kept = stored[~stored["Date"].isin(batch["Date"].unique())]
        _put(_parquet(pd.concat([kept, batch], ignore_index=True)), **arguments)

    return run


def stored_months(_: Any, **arguments: Any) -> pd.DataFrame:
    """The table as a contender has left it."""
    if arguments["form"] == "delta":
        return _delta(**arguments).to_pandas().drop(columns="month")
    if arguments["form"] == "single":
        return pd.read_parquet(_get(**arguments))
    return _lake(arguments).get_table(TABLE)


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
    return bytes(sink.getvalue().to_pybytes())


def _get(container: str = "", connection: str = "", lake: str = "", **_: Any) -> Any:
    if not connection:
        return Path(lake, "single.parquet")
    from azure.storage.blob import BlobClient

    blob = BlobClient.from_connection_string(connection, container, "single.parquet")
    return BytesIO(blob.download_blob(max_concurrency=4).readall())


def _put(data: bytes, container: str = "", connection: str = "", lake: str = "", **_: Any) -> None:
    if not connection:
        write(lake)(data)
        Path(lake, "put.parquet").replace(Path(lake, "single.parquet"))
        return
    from azure.storage.blob import BlobClient

    BlobClient.from_connection_string(connection, container, "single.parquet").upload_blob(data, overwrite=True)


def _lake(arguments: dict[str, Any]) -> LuxorQuery:
    return open_lake(**{name: arguments[name] for name in ("lake", "connection", "container") if name in arguments})


def _uri(container: str = "", connection: str = "", lake: str = "", **_: Any) -> tuple[str, dict[str, str]]:
    return (f"abfs://{container}/delta", storage_options(connection)) if connection else (f"{lake}/delta", {})


def _delta(**arguments: Any) -> DeltaTable:
    from deltalake import DeltaTable

    uri, options = _uri(**arguments)
    return DeltaTable(uri, storage_options=options)


def _months_case(name: str, title: str, lakes: Lakes, make: Callable[[str], dict[str, str]]) -> Case:
    """Each contender's table is made here, with the same numbers; ``make`` gives a place of its own."""
    from luxor_pipelines import save_table
    from luxor_pipelines.lake.types.schema import Column, TableSchema

    assets, months, remote = lakes.assets, lakes.months, name.endswith("azurite")
    full = measurements(0, assets, months)
    numbers = tuple(Column(column, "number") for column in full.columns[2:])
    columns = (Column("Date", "date", False), Column("Key", "text", False), *numbers)
    schema = TableSchema(TABLE, 1, columns, ("Date", "Key"), "month")
    one, many, rest = make("one"), make("many"), make("rest")
    for where, rows in ((one, full.tail(assets)), (many, full)):
        save_table(TABLE, rows, lq=_lake(where), schema=schema)
    _put(_parquet(full), **rest)
    contenders = [
        Contender("luxor, 1 month", "loads:luxor", {**one, "assets": assets}, None),
        Contender(f"luxor, {months} months", "loads:luxor", {**many, "assets": assets, "form": "luxor"}),
        Contender("bare put" if remote else "bare write, fsync, rename", "loads:put" if remote else "loads:write",
                  {**rest, "assets": assets, "form": "bytes"}, None),
        Contender("pandas, single file", "loads:single", {**rest, "assets": assets, "form": "single"}),
    ]  # fmt: skip
    ours, bare = contenders[1].name, contenders[2].name
    targets = [
        Target(f"{title}: history 1 → {months} months", ours, 1.1, contenders[0].name),
        Target(f"{title}: the bare put of the bytes", ours, 5.0, bare),
    ]
    if _has_delta():
        from deltalake import write_deltalake

        uri, options = _uri(**rest)
        labelled = full.assign(month=full["Date"].dt.strftime("%Y-%m"))
        write_deltalake(uri, labelled, partition_by=["month"], storage_options=options)
        contenders.insert(3, Contender("delta-rs", "loads:delta", {**rest, "assets": assets, "form": "delta"}))
        targets.append(Target(f"{title}: delta-rs", ours, 1.0, "delta-rs"))
    return Case(name, f"{title}: {assets:,} rows × 18 numbers", contenders, targets, ("Date", "Key"),
                "loads:month", "loads:stored_months")  # fmt: skip


def _has_delta() -> bool:
    try:
        import deltalake  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


# --- upsert ----------------------------------------------------------------------------------------


def part(turn: int, assets: int, years: int, where: str, **_: Any) -> pd.DataFrame:
    """1 % of the rows, spread over all months or the newest of them: prices of this turn, and a new asset."""
    rows = market("quoted", assets, years).prices
    count = len(rows) // 100
    chosen = np.arange(0, len(rows), 100) if where == "spread" else np.arange(len(rows) - count, len(rows))
    frame: pd.DataFrame = rows.take(pa.array(chosen)).to_pandas()
    first = frame["Asset"] == frame["Asset"].iloc[0]
    return frame.assign(
        Asset=frame["Asset"].mask(first, "new equity"), Last_Price=frame["Last_Price"] * (1 + turn / 1000)
    )


def luxor_upsert(lake: str, **_: Any) -> Callable[[pd.DataFrame], Any]:
    from luxor_pipelines import incremental_load

    lq = open_lake(lake)
    return lambda batch: incremental_load(lq, PRICES, batch, unique_columns=["Date", "Asset"])


def delta_merge(lake: str, **_: Any) -> Callable[[pd.DataFrame], Any]:
    """The months named in the condition let it pass over the files of all others: without, it reads them all."""
    table = _delta(lake=lake)
    same = "t.month = s.month AND t.Date = s.Date AND t.Asset = s.Asset"

    def run(batch: pd.DataFrame) -> None:
        labels = batch["Date"].dt.strftime("%Y-%m")
        rows = pa.Table.from_pandas(batch.assign(month=labels), preserve_index=False)
        among = ", ".join(f"'{label}'" for label in labels.unique())
        merge = table.merge(rows, f"{same} AND t.month IN ({among})", source_alias="s", target_alias="t")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    return run


def stored_prices(_: Any, lake: str, form: str, **__: Any) -> pa.Table:
    """Of what a contender has left: every twelfth month, and the newest three; and how many rows there are."""
    if form == "delta":
        data = ds.dataset(_delta(lake=lake).file_uris(), partitioning="hive")
    else:
        data = ds.dataset(Path(lake) / TABLES / PRICES, partitioning="hive", exclude_invalid_files=True)
    months = data.count_rows(), sorted({f"{day:%Y-%m}" for day in pd.date_range("1980-01-31", REF, freq="ME")})
    wanted = pa.array([*months[1][::-12], *months[1][-3:]])
    rows = data.to_table(["Date", "Asset", "Last_Price"], filter=pc.is_in(pc.field("month"), wanted))
    rows = rows.set_column(0, "Date", rows["Date"].cast(pa.timestamp("us")))
    return rows.append_column("Rows", pa.array([months[0]] * len(rows)))


def _upsert_cases(lakes: Lakes) -> Iterable[Case]:
    from deltalake import write_deltalake

    from luxor_pipelines import save_table
    from luxor_pipelines.lake.types.schema import Column, TableSchema

    size: dict[str, Any] = {"assets": lakes.assets, "years": lakes.years}
    rows = market("quoted", **size).prices
    columns = (Column("Date", "date", False), Column("Asset", "text", False), Column("Last_Price", "number"))
    schema = TableSchema(PRICES, 1, columns, ("Date", "Asset"), "month")
    ours, theirs = lakes.empty("upsert-luxor"), lakes.empty("upsert-delta")
    save_table(PRICES, rows.to_pandas(), lq=open_lake(ours), schema=schema)
    labels = pc.strftime(rows["Date"], "%Y-%m")
    write_deltalake(f"{theirs}/delta", rows.append_column("month", labels), partition_by=["month"])
    for where, words in (("newest", "all in the newest months"), ("spread", "spread over all months")):
        contenders = [
            Contender("luxor", "loads:luxor_upsert", {"lake": ours, "form": "luxor", "where": where, **size}),
            Contender("delta-rs merge", "loads:delta_merge", {"lake": theirs, "form": "delta", "where": where, **size}),
        ]
        target = Target(f"upsert of 1 %, {words}", "luxor", 1.0, "delta-rs merge")
        title = f"Upsert by key of 1 % of {len(rows):,} rows in months, {words}"
        yield Case(f"upsert-{where}", title, contenders, [target], ("Date", "Asset"), "loads:part",
                   "loads:stored_prices")  # fmt: skip


def cases(lakes: Lakes) -> Iterable[Case]:
    title = "`incremental_load` of one month"
    yield _months_case("load-disk", f"{title} on disk", lakes, lambda name: {"lake": lakes.empty(f"load-{name}")})
    if lakes.azurite is not None:
        server = lakes.azurite

        def make(name: str) -> dict[str, str]:
            return {"connection": server.connection_string, "container": server.container(f"load-{name}")}

        yield _months_case("load-azurite", f"{title} on Azurite", lakes, make)
    if _has_delta():
        yield from _upsert_cases(lakes)
