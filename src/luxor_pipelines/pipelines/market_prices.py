"""Price files put into raw/prices (csv, Parquet, Excel; long or wide) into hist_file_px_last.

Rows that cannot be right do not stop the others: they are written, as found and with the reason, to
``raw/quarantine/prices/<file name>.csv``. To correct a price, put a file with the corrected rows
there, under a name that sorts after the first one's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING

import pandas as pd

from luxor_pipelines.catalog import HIST_FILE_PX_LAST
from luxor_pipelines.errors import CorruptFileError, DataError, InvalidNameError, NotFoundError
from luxor_pipelines.ingest import LoadResult, incremental_load
from luxor_pipelines.lake.storage.lease import fenced_replace
from luxor_pipelines.pipelines import JSON, Declaration, PipelineResult
from luxor_pipelines.quality.gate import Finding, gate
from luxor_pipelines.sources.price_files import (
    FILE_MAX,
    FileRows,
    Format,
    declared_formats,
    format_of,
    read_price_file,
    read_rows,
)
from luxor_pipelines.sources.raw import too_large

if TYPE_CHECKING:
    from luxor_pipelines.lake.storage.base import Storage, Unusable
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["DECLARATION", "SCHEMA", "merge_files", "misread", "price_files", "run"]

logger = logging.getLogger(__name__)

FOLDER = "raw/prices"
FORMATS = f"{FOLDER}/_formats.json"
QUARANTINE = "raw/quarantine/prices"

MISREAD_ROWS = 10
"""Rows that a file has at least, for it to be called misread when half of them are bad."""

SCHEMA = HIST_FILE_PX_LAST

DECLARATION = Declaration(outputs=(SCHEMA,), inputs=("raw/prices/",))


def run(
    ref_date: date | str | None = None,  # noqa: ARG001  every pipeline takes it
    *,
    lq: LuxorQuery | None = None,
    now: datetime | None = None,
    table: str | None = None,
    date_format: str = "iso",
    decimal: str = ".",
    separator: str = ",",
    known_assets_only: bool = False,
    force: bool = False,
) -> PipelineResult:
    """Load all files in ``raw/prices`` in one go, by key: nothing is deleted, a rerun changes nothing.

    Where two files have a price for the same date and asset, that of the later name wins. Names and
    folders that start with ``_`` or ``.`` are left alone. Text is read by ``date_format``,
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
        ``iso``, ``dd/mm/yyyy`` or ``mm/dd/yyyy``.
    decimal
        ``.`` or ``,``; beside a decimal comma, dots between thousands are let pass.
    separator
        The character between a csv file's cells: comma, semicolon, tab or ``|``.
    known_assets_only
        Quarantine rows of assets that are not the price key of any row of ``assets``.
    force
        Load the good rows even of files that seem to be misread; the result's warnings and details say so.

    Raises
    ------
    NotFoundError
        No files.
    DataError
        Files that could not be read at all: raised after the good rows of all others were loaded.
        Also for ``_formats.json`` not being as it should; then nothing has been loaded.
    QualityError
        Half of a file's rows or more cannot be read (see `misread`); nothing has been loaded.
    UsageError
        A format that is not known.
    SchemaError
        The target table has other columns; nothing has been loaded.
    """
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    default = Format(date_format, decimal, separator)
    unusable: list[Unusable] = []
    files = price_files(lq.lake.storage, unusable)
    if not files:
        raise NotFoundError(
            f"There are no price files in {FOLDER} of {lq.lake.storage.url}.",
            hint="Put .csv, .csv.gz, .parquet or .xlsx files there: columns Date, Asset, Last_Price, "
            "or Date and a column per asset.",
        )
    declared = declared_formats(lq.lake.storage.read(FORMATS).data, FORMATS) if lq.lake.storage.stat(FORMATS) else {}
    known = set(lq.market.assets.price_keys()) if known_assets_only else None

    read: dict[str, FileRows] = {}
    unread: dict[str, str] = {}
    for name in files:
        path = f"{FOLDER}/{name}"
        how = format_of(name, default, declared)
        try:
            info = lq.lake.storage.stat(path)
            if info is not None and info.size > FILE_MAX:
                raise too_large(path, FILE_MAX)
            raw = read_price_file(lq.lake.storage.read(path).data, path, how)
            read[name] = read_rows(raw, path, how, known)
        except (CorruptFileError, DataError, InvalidNameError) as error:
            logger.warning("%s", error)
            unread[name] = error.message
    findings = misread(lq, table or SCHEMA.name, read)
    passed = gate(f"Prices of {FOLDER}", findings, force=force, command="luxor run market_prices")
    frame = merge_files(rows.good for rows in read.values())
    quarantine = {name: kept for name, rows in read.items() if (kept := _quarantine(lq.lake.storage, name, rows.bad))}
    loads: tuple[LoadResult, ...] = ()
    if len(frame):
        schema = SCHEMA if table is None else None
        loads = (incremental_load(lq, table or SCHEMA.name, frame, unique_columns=SCHEMA.key, schema=schema),)
    logger.info("%d files: %d rows good, %d files with rows in quarantine", len(read), len(frame), len(quarantine))
    if unread:
        raise DataError(
            f"{len(unread)} of {len(files)} files in {FOLDER} could not be read; the {len(frame)} good "
            f"rows of the others are loaded. {' '.join(unread.values())}",
            hint="Replace those files by good copies, or move them to a folder that starts with _.",
        )
    reasons = Counter[str]()
    for rows in read.values():
        reasons.update(rows.bad["Reason"])
    details: dict[str, JSON] = {
        "files": list[JSON](read),
        "rows_good": len(frame),
        "rows_superseded": sum(len(rows.good) for rows in read.values()) - len(frame),
        "rows_quarantined": dict[str, JSON](sorted(reasons.items())),
        "quarantine_files": list[JSON](quarantine.values()),
        **passed.details,
    }
    notes = _warnings(read, quarantine, frame, lq.lake.today(now))
    notes += tuple(f"{entry.path} is passed over: {entry.reason}." for entry in unusable)
    return PipelineResult(loads, len(frame), details, (*passed.warnings, *notes))


def price_files(storage: Storage, unusable: list[Unusable] | None = None) -> list[str]:
    """The price files' names below ``raw/prices``, in the order in which they are applied.

    ``unusable`` receives the entries that are no files of the lake; see `Storage.list`.
    """
    names = (info.path.removeprefix(f"{FOLDER}/") for info in storage.list(FOLDER, unusable=unusable))
    return sorted(name for name in names if not any(part.startswith(("_", ".")) for part in name.split("/")))


def misread(lq: LuxorQuery, table: str, read: Mapping[str, FileRows]) -> list[Finding]:
    """The files of whose rows half or more cannot be read: the others may have been read, and wrongly.

    A file of days and months, say, read as months and days, is refused on the 13th of each month, and
    taken for another day's before. Rows of unknown assets do not count, nor do files whose good rows
    all are stored just so, since somebody has forced them.
    """
    findings = []
    for name, rows in read.items():
        bad = rows.bad.loc[rows.bad["Reason"] != "unknown asset", "Reason"]
        total = len(rows.good) + len(rows.bad)
        if total >= MISREAD_ROWS and 2 * len(bad) >= total and not _is_stored(lq, table, rows.good):
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in bad.value_counts().items())
            what = f"of the {total:,} rows of {FOLDER}/{name} cannot be read; are its formats declared rightly?"
            findings.append(Finding("error", table, "", what, len(bad), reasons))
    return findings


def _is_stored(lq: LuxorQuery, table: str, rows: pd.DataFrame) -> bool:
    """Whether loading ``rows`` would change nothing, as with no rows."""
    if rows.empty:
        return True
    if not lq.table_exists(table):
        return False
    days = {"Date": (rows["Date"].min(), rows["Date"].max())}
    stored = lq.get_table(table, force_reload=True, columns=list(rows.columns), where=days)
    return len(rows.merge(stored, on=list(rows.columns))) == len(rows)


def merge_files(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """All files' rows in one frame; of several rows with one key, the last file's."""
    merged = pd.concat(list(frames) or [pd.DataFrame(columns=list(SCHEMA.key))], ignore_index=True)
    return merged.drop_duplicates(list(SCHEMA.key), keep="last", ignore_index=True)


def _quarantine(storage: Storage, name: str, bad: pd.DataFrame) -> str | None:
    """Make the file's quarantine hold exactly ``bad``; return its path, None when there is nothing in it."""
    path = f"{QUARANTINE}/{name}.csv"
    fenced_replace(storage, path, None if bad.empty else bad.to_csv(index=False, lineterminator="\n").encode())
    return None if bad.empty else path


def _warnings(
    read: Mapping[str, FileRows], quarantine: Mapping[str, str], frame: pd.DataFrame, today: date
) -> tuple[str, ...]:
    notes = [note for rows in read.values() for note in rows.warnings]
    notes += [f"{name}: {len(read[name].bad)} rows are in quarantine, see {path}." for name, path in quarantine.items()]
    early = int((frame["Date"] > pd.Timestamp(today)).sum())
    if early:
        notes.append(f"{early} rows are dated after {today}, the last {frame['Date'].max():%Y-%m-%d}.")
    return tuple(notes)
