"""Price files put into raw/prices (csv, Parquet, Excel; long or wide) into hist_file_px_last.

Files of other shapes are declared in ``raw/prices/_formats.json``; see docs/price-files.md. Rows that cannot be right
do not stop the others: they are written, as found and with the reason, to ``raw/quarantine/prices/<file name>.csv``.
To correct a price, put a file with the corrected rows there, under a name that sorts after the first one's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Set
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luxor_pipelines.catalog import ASSETS, HIST_FILE_PX_LAST
from luxor_pipelines.errors import DataError, sample
from luxor_pipelines.ingest import LoadResult, incremental_load
from luxor_pipelines.lake.parquet.predicates import Where
from luxor_pipelines.lake.storage.lease import fenced_replace
from luxor_pipelines.lake.types.schema import TableSchema, with_codes
from luxor_pipelines.lazy import pd
from luxor_pipelines.names import normal_names
from luxor_pipelines.pipelines import JSON, Declaration, PipelineResult
from luxor_pipelines.quality.gate import Finding, gate
from luxor_pipelines.quality.series import check_batch
from luxor_pipelines.sources.formats import Format
from luxor_pipelines.sources.limits import Limits
from luxor_pipelines.sources.price_files import (
    FOLDER,
    FileRows,
    Prices,
    merge_files,
    read_price_files,
)

if TYPE_CHECKING:
    from luxor_pipelines.lake.storage.base import Storage
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["DECLARATION", "SCHEMA", "misread", "restated", "run"]

logger = logging.getLogger(__name__)

QUARANTINE = "raw/quarantine/prices"

MISREAD_ROWS = 10
"""Rows that a file has at least, for it to be called misread when half of them are bad."""
FACTOR_ROWS = 5
"""Rows of a series, at least, that differ from the stored ones by one factor."""
FACTOR_MAX = 0.005
"""The relative difference that rounding makes between equal factors."""
LOAD_ROWS = 1_000_000
"""Rows after which a load begins another, of the next years: each row takes some 300 bytes while it is loaded."""

SCHEMA = HIST_FILE_PX_LAST

DECLARATION = Declaration(outputs=(SCHEMA,), inputs=("raw/prices/", ASSETS))


def run(
    ref_date: date | str | None = None,  # noqa: ARG001  every pipeline takes it
    *,
    lq: LuxorQuery | None = None,
    now: datetime | None = None,
    table: str | None = None,
    date_format: str = "iso",
    decimal: str = ".",
    separator: str | None = None,
    known_assets_only: bool = False,
    force: bool = False,
) -> PipelineResult:
    """Load all files in ``raw/prices`` in one go, by key: nothing is deleted, a rerun changes nothing.

    If two files have a price for the same date and asset, that of the later name wins. Files and
    folders whose names start with ``_`` or ``.`` are skipped. Text is read by ``date_format``,
    ``decimal`` and ``separator``, unless ``raw/prices/_formats.json`` declares otherwise for a file.

    Parameters
    ----------
    ref_date
        Taken because every pipeline takes it; the files are loaded whole.
    lq
        The lake; default the one the environment names.
    now
        The moment of the run, default the present: rows dated after it are loaded, with a warning.
    table
        Load into this table instead of ``hist_file_px_last``; it must have the same columns.
    date_format
        ``iso``, ``dd/mm/yyyy``, ``mm/dd/yyyy``, or one of %d, %m, %b, %Y and %y, such as ``%d.%m.%Y``.
    decimal
        ``.`` or ``,``; beside a decimal comma, dots between thousands are let pass.
    separator
        The character between a text file's cells: comma, semicolon, tab or ``|``; default a tab in .tsv, else a comma.
    known_assets_only
        Quarantine rows of assets that are not the price key of any row of ``assets``.
    force
        Load the good rows even of files that seem to be misread; the result's warnings and details say so.

    Raises
    ------
    DataError
        Files that could not be read at all: raised after the good rows of all others were loaded.
        Also for ``_formats.json`` not being as it should; then nothing has been loaded.
    QualityError
        None of a file's rows can be read, or half of ten or more cannot (see `misread`), or rows are the stored ones
        times a factor (see `restated`); nothing has been loaded.
    UsageError
        A format that is not known.
    SchemaError
        The target table has other columns; nothing has been loaded.
    """
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    target = table or SCHEMA.name
    price_keys = _price_keys(lq)
    files = read_price_files(
        lq.lake,
        Format(date_format, decimal, separator),
        price_keys,
        only_assets=known_assets_only,
        limits=Limits.of(lq.settings),
    )
    prices = merge_files(rows.prices for rows in files.read.values())
    days = prices.days.astype("M8[D]")
    findings = [
        *misread(lq, target, files.read),
        *restated(lq, target, files.read, prices),
        *check_batch(lq.lake, target, list(prices.names), prices.assets, days, prices.prices),
    ]
    passed = gate(f"Prices of {FOLDER}", findings, force=force, command="luxor run market_prices")
    quarantine = _update_quarantine(lq.lake.storage, files.read, files.refused)
    loads = _load(lq, target, prices, SCHEMA if table is None else None)
    logger.info(
        "%d files: %d rows good, %d files with rows in quarantine", len(files.read), len(prices), len(quarantine)
    )
    if files.refused:
        others = f"the {len(prices)} good rows of the others are loaded" if len(prices) else "nothing was loaded"
        advice = dict.fromkeys(error.hint for error in files.refused.values())
        raise DataError(
            f"{len(files.refused)} of {len(files.refused) + len(files.read)} files in {FOLDER} could not be read; "
            f"{others}. {' '.join(error.message for error in files.refused.values())}",
            hint=f"{' '.join(advice)} Until they are mended or replaced by good copies, files can be moved to a folder "
            "that starts with _.",
        )
    reasons = sum((rows.reasons for rows in files.read.values()), Counter[str]())
    details: dict[str, JSON] = {
        "files": list[JSON](files.read),
        "rows_good": len(prices),
        "rows_superseded": sum(len(rows.prices) for rows in files.read.values()) - len(prices),
        "rows_quarantined": dict[str, JSON](sorted(reasons.items())),
        "quarantine_files": list[JSON](quarantine.values()),
        **passed.details,
    }
    warnings = (
        *passed.warnings,
        *files.warnings,
        *_warnings(files.read, quarantine, prices, price_keys, lq.lake.today(now)),
    )
    return PipelineResult(loads, len(prices), details, warnings)


def _price_keys(lq: LuxorQuery) -> set[str] | None:
    """Return the price keys of ``assets``; None where the lake has no such table."""
    if not lq.table_exists("assets"):
        return None
    return set(lq.market.assets.price_keys())


def misread(lq: LuxorQuery, table: str, files: Mapping[str, FileRows]) -> list[Finding]:
    """Return the files of which no row, or less than half of ten or more, can be read: the others may be read wrongly.

    A file of days and months, say, read as months and days, is refused on the 13th of each month, and
    taken for another day's before. Rows of unknown assets do not count, nor do files whose good rows
    all are stored just so, since somebody has forced them.
    """
    findings = []
    for name, rows in files.items():
        reasons = {reason: count for reason, count in rows.reasons.most_common() if reason != "unknown asset"}
        bad, total = sum(reasons.values()), len(rows.prices) + rows.reasons.total()
        seems_misread = bad == total or (total >= MISREAD_ROWS and 2 * bad >= total)
        if bad and seems_misread and not (len(rows.prices) and _is_stored(lq, table, rows.prices)):
            listed = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
            what = f"of the {total:,} rows of {FOLDER}/{name} cannot be read; are its formats declared rightly?"
            findings.append(Finding("error", table, "", what, bad, listed))
    return findings


def restated(lq: LuxorQuery, table: str, files: Mapping[str, FileRows], prices: Prices) -> list[Finding]:
    """Return the series of which some rows are the stored ones times one factor, while earlier rows stay the same.

    Such is a history adjusted for a split or a dividend, of which only the last months were downloaded: loaded, it
    would jump where it begins.
    """
    if not len(prices) or not lq.table_exists(table):
        return []
    names = pa.array(prices.names, pa.string())
    columns = ("Date", "Asset", "Last_Price")
    compared = []
    for part in _parts(prices):
        span = tuple(day.astype("M8[D]").astype("M8[us]").item() for day in part.days[[0, -1]])
        where = (Where("Date", (span,)),)
        stored = lq.lake.cache.scan(table, columns, where, dictionary=("Asset",), keep=False)
        words_of, words = with_codes(stored["Asset"])
        code_of_word = pc.fill_null(pc.index_in(normal_names(words), names), -1).to_numpy()
        code = np.append(code_of_word, -1)[words_of]  # the last is for a null, whose word is -1
        day = stored["Date"].to_numpy().astype("M8[D]").astype(np.int32)
        row = np.where(code >= 0, part.positions(day, code), -1)
        in_both = row >= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = part.prices[row[in_both]] / stored["Last_Price"].to_numpy()[in_both]
        compared.append((code[in_both].astype(np.int32), day[in_both], ratio))
    code, day, ratio = (np.concatenate(pieces) for pieces in zip(*compared, strict=True))
    differs = ~(np.abs(ratio - 1) < 1e-9)
    near = _near_one_factor(code[differs], ratio[differs], len(names))[code]
    rows = pd.DataFrame({"code": code[near], "day": day[near], "ratio": ratio[near], "differs": differs[near]})
    odd = (
        rows[rows["differs"]]
        .groupby("code")
        .agg(count=("day", "size"), first=("day", "min"), last=("day", "max"), factor=("ratio", "median"))
    )
    of_row = odd.reindex(rows["code"])
    inside = (rows["day"] >= of_row["first"].to_numpy()) & (rows["day"] <= of_row["last"].to_numpy())
    odd["whole"] = (rows["differs"] | ~inside).groupby(rows["code"]).all()
    deviation = (rows["ratio"] / of_row["factor"].to_numpy() - 1).abs().where(rows["differs"])
    odd["spread"] = deviation.groupby(rows["code"]).max()
    one_factor = odd["spread"] <= np.minimum(FACTOR_MAX, (odd["factor"] - 1).abs() / 4)
    odd = odd[(odd["count"] >= FACTOR_ROWS) & odd["whole"] & one_factor]
    findings = []
    for code, count, first, last, factor in odd.drop(columns=["whole", "spread"]).itertuples():
        name = prices.names[code]
        if _has_stored_before(lq, table, name, int(first)):
            file = [file for file, read in files.items() if name in read.prices.names][-1]
            days = " to ".join(f"{pd.Timestamp(day, unit='D'):%Y-%m-%d}" for day in (first, last))
            example = f"{name} in {file}, by {factor:.6g}, {days}; load its full history"
            what = "stored rows are multiplied, older ones are not"
            findings.append(Finding("error", table, "", what, int(count), example))
    return findings


def _near_one_factor(code: NDArray[np.int32], ratio: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Return which of ``count`` series have ratios so close together that they may be of one factor.

    Most corrections are not, and need no closer look.
    """
    low, high = np.full(count, np.inf), np.zeros(count)
    np.fmin.at(low, code, ratio)
    np.fmax.at(high, code, ratio)
    is_near: NDArray[np.bool_] = np.isfinite(low) & (high * (1 - FACTOR_MAX) <= low * (1 + FACTOR_MAX))
    return is_near


def _has_stored_before(lq: LuxorQuery, table: str, name: str, day: int) -> bool:
    """Return whether a series has stored rows before a day, counted from 1970-01-01."""
    before = np.datetime64(day - 1, "D").astype("M8[us]").item()
    where = (Where("Asset", values=(name,), folded=True), Where("Date", ((None, before),)))
    return len(lq.lake.cache.scan(table, ("Date",), where, keep=False)) > 0


def _is_stored(lq: LuxorQuery, table: str, prices: Prices) -> bool:
    """Return whether loading the rows would change nothing."""
    if not lq.table_exists(table):
        return False
    rows = prices.frame()
    days = {"Date": (rows["Date"].min(), rows["Date"].max())}
    stored = lq.get_table(table, force_reload=True, columns=list(rows.columns), where=days)
    stored["Asset"] = normal_names(pa.chunked_array([pa.array(stored["Asset"], pa.string())])).to_pandas()
    return len(rows.merge(stored, on=list(rows.columns))) == len(rows)


def _load(lq: LuxorQuery, table: str, prices: Prices, schema: TableSchema | None) -> tuple[LoadResult, ...]:
    """Load the rows, `LOAD_ROWS` or fewer at a time, and as far as it goes whole years."""
    frames = (part.frame() for part in _parts(prices))
    loads = [incremental_load(lq, table, frame, unique_columns=SCHEMA.key, schema=schema) for frame in frames]
    return (LoadResult.total(loads),) if loads else ()


def _parts(prices: Prices) -> Iterator[Prices]:
    if not len(prices):
        return
    first, last = prices.days[[0, -1]].astype("M8[D]").astype("M8[Y]")
    years = np.arange(first, last + 1).astype("M8[D]").astype(np.int32)
    starts = [*np.searchsorted(prices.days, years), len(prices)]
    start = 0
    while start < len(prices):
        ends = [end for end in starts if start < end <= start + LOAD_ROWS]
        end = ends[-1] if ends else start + LOAD_ROWS
        yield prices.take(slice(start, end))
        start = end


def _update_quarantine(storage: Storage, read: Mapping[str, FileRows], refused: Collection[str]) -> dict[str, str]:
    """Make each file's quarantine hold exactly its bad rows, and remove those of files that are gone.

    The quarantine of a file that cannot be read stays as it is.
    """
    refused_paths = {f"{QUARANTINE}/{name}.csv" for name in refused}
    written: dict[str, str] = {}
    for name, rows in read.items():
        path = f"{QUARANTINE}/{name}.csv"
        if len(rows.bad):
            written[name] = path
            fenced_replace(storage, path, rows.bad.to_csv(index=False, lineterminator="\n").encode())
    for info in storage.list(QUARANTINE):
        if info.path not in refused_paths and info.path not in written.values():
            fenced_replace(storage, info.path, None)
    return written


def _warnings(
    files: Mapping[str, FileRows],
    quarantine: Mapping[str, str],
    prices: Prices,
    price_keys: Set[str] | None,
    today: date,
) -> tuple[str, ...]:
    warnings = [warning for rows in files.values() for warning in rows.warnings]
    warnings += [
        f"{name}: {len(files[name].bad)} rows are in quarantine, see {path}." for name, path in quarantine.items()
    ]
    empty = [name for name, rows in files.items() if not len(rows.prices) and not rows.reasons]
    warnings += [f"{FOLDER}/{name} gives no row." for name in empty]
    longer = {key.partition(" ")[0]: key for key in sorted(price_keys or ())}
    shorter = [name for name in prices.names if name in longer and name not in (price_keys or ())]
    if shorter:
        named = sample(f"{name} ({longer[name]})" for name in shorter)
        warnings.append(
            f"{len(shorter)} series are named by the beginning of a price key of assets, which prices no asset: "
            f"{named}. Declare the asset in _formats.json."
        )
    early = prices.days > np.datetime64(today).astype(int)
    if early.any():
        last = pd.Timestamp(prices.days.max(), unit="D")
        warnings.append(f"{early.sum()} rows are dated after {today}, the last {last:%Y-%m-%d}.")
    return tuple(warnings)
