"""The European Central Bank's euro foreign exchange reference rates: fetched, found in the lake, read.

The bank publishes, for every business day since 1999, units of each currency per euro; they are reference rates of
about 14:15 Central European Time, published for information.
"""

from __future__ import annotations

import http.client
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tenacity
from numpy.typing import NDArray

from luxor_pipelines.errors import (
    ConfigurationError,
    DataError,
    NotFoundError,
    UnreachableError,
    conceal_address,
    sample,
    scrubbed,
    shown,
)
from luxor_pipelines.lake.lake import Lake
from luxor_pipelines.lake.storage.base import BlobInfo
from luxor_pipelines.sources.cells import cell_text, parse_dates, parse_numbers
from luxor_pipelines.sources.limits import Limits
from luxor_pipelines.sources.raw import RawFile, open_raw

__all__ = ["FOLDER", "EcbRates", "fetch_ecb", "newest_ecb", "public_address", "read_ecb", "to_series"]

logger = logging.getLogger(__name__)

FOLDER = "raw/ecb"

LIMITS = Limits(bytes=50_000_000, unpacked=100_000_000)
"""The genuine file has less than a million bytes, and two million once unpacked."""

_PIECE = 2**16


@dataclass(frozen=True)
class EcbRates:
    """Units of each currency per euro, as published.

    Attributes
    ----------
    dates
        datetime64[D], ascending, one for each row of ``rates``.
    currencies
        Lower-case ISO codes, one for each column of ``rates``.
    rates
        float64; NaN where there is no quotation.
    """

    dates: NDArray[np.datetime64]
    currencies: list[str]
    rates: NDArray[np.float64]


# --- the file -----------------------------------------------------------------------------------


def newest_ecb(lake: Lake) -> tuple[str, EcbRates]:
    """Return the path and the content of the file in ``raw/ecb`` that has the latest date in it.

    If several have that date, it is the one put there last.

    Raises
    ------
    NotFoundError
        No .zip or .csv file there.
    DataError, CorruptFileError
        A file is not what the bank publishes.
    """
    below = FOLDER.count("/") + 1
    files = [
        info
        for info in lake.storage.list(FOLDER)
        if info.path.count("/") == below and info.path.lower().endswith((".zip", ".csv"))
    ]
    if not files:
        raise NotFoundError(
            f"There is no .zip or .csv file in {FOLDER} of {lake.url}.",
            hint="Put the European Central Bank's eurofxref-hist.zip there, or have it fetched: "
            "`luxor run fx_rates --param fetch=true`, at every run by LUXOR_ECB_FETCH=true.",
        )

    def recency(candidate: tuple[BlobInfo, EcbRates]) -> tuple[np.datetime64, datetime, str]:
        info, rates = candidate
        return rates.dates[-1], info.modified, info.path

    info, rates = max(((info, _read(lake, info)) for info in files), key=recency)
    return info.path, rates


def _read(lake: Lake, info: BlobInfo) -> EcbRates:
    if info.size > LIMITS.bytes:
        raise LIMITS.refused(info.path, f"has {info.size:,} bytes; {LIMITS.bytes:,} are read at most", "bytes")
    return read_ecb(lake.read(info.path), info.path)


def read_ecb(data: bytes, file: str, name: str | None = None) -> EcbRates:
    """Read the bank's csv file, zipped or not: ``Date``, a column per currency, ``N/A`` or nothing if not quoted.

    Rows may be in any order; a comma at the end of the lines, as the bank puts it, is let pass.

    Parameters
    ----------
    data, file
        The file's bytes, and what messages call it.
    name
        Its name, ending in .zip or .csv, where ``file`` does not.

    Raises
    ------
    DataError, CorruptFileError
        Another structure, a date twice, a cell that is neither a positive number nor ``N/A``.
    """
    with open_raw(data, file, name=name, limits=LIMITS) as raw:
        if not raw.head or not any(raw.head[0]):
            raise _refuse("its first line is not a header", file)
        columns, rows = _columns(raw)
        names = [name.strip() for name in raw.head[0]]
    if names[-1] == "" and len(names) > 1 and pc.all(pc.equal(cell_text(columns[-1]), ""), min_count=0).as_py():
        names, columns = names[:-1], columns[:-1]
    _check_header(names, file)
    if raw.ragged:
        row, text = next(iter(raw.ragged.items()))
        raise _refuse(
            f"{len(raw.ragged)} rows have another number of cells than the header's {len(raw.head[0])}; "
            f"row {row} has {len(raw.cells(text))}, starting with {sample(raw.cells(text))}",
            file,
        )
    dates = _dates(columns[0], rows, file)
    rates = _rates(pa.concat_arrays(columns[1:]), names[1:], rows, file)
    order = np.argsort(dates)
    return EcbRates(dates[order], [name.lower() for name in names[1:]], rates[order])


def _columns(raw: RawFile) -> tuple[list[pa.Array], NDArray[np.int64]]:
    """Return all cells of the rows that are not blank from end to end."""
    width = len(raw.head[0])
    batches = list(raw.batches(range(width)))
    empty = pa.array([], pa.string())
    columns = [pa.concat_arrays([empty, *(batch.columns[i] for batch in batches)]) for i in range(width)]
    rows = np.concatenate([np.empty(0, np.int64), *(batch.rows for batch in batches)])
    filled = np.zeros(len(rows), dtype=bool)
    for column in columns:
        filled |= pc.not_equal(column, "").to_numpy(zero_copy_only=False)
    return [column.filter(pa.array(filled)) for column in columns], rows[filled]


def _check_header(names: list[str], file: str) -> None:
    if names[0] != "Date":
        raise _refuse(f"its first column is {names[0]!r}, not 'Date'", file)
    odd = [name for name in names[1:] if not re.fullmatch("[A-Z]{3}", name)]
    if odd:
        raise _refuse(f"{len(odd)} columns are not named by a currency code: {sample(odd)}", file)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refuse(f"columns occur more than once: {sample(twice)}", file)
    if "USD" not in names:
        raise _refuse("it has no column 'USD', through which all rates are computed", file)
    if "EUR" in names:
        raise _refuse("it has a column 'EUR', so its rates are not units per euro", file)


def _dates(column: pa.Array, rows: NDArray[np.int64], file: str) -> NDArray[np.datetime64]:
    dates = parse_dates(column).days
    if not len(dates):
        raise _refuse("it has a header but no rows", file)
    bad = np.flatnonzero(np.isnat(dates))
    if bad.size:
        raise _refuse(_cells_at(column, bad, rows, "Date", "not dates like 2026-10-30"), file)
    twice = np.flatnonzero(pd.Series(dates).duplicated())
    if twice.size:
        raise _refuse(_cells_at(column, twice, rows, "Date", "there already"), file)
    return dates


def _rates(cells: pa.Array, names: list[str], rows: NDArray[np.int64], file: str) -> NDArray[np.float64]:
    """Return the cells of all currencies, one column after the other, as a matrix of rows by currencies."""
    numbers, _ = parse_numbers(cells)
    absent = pc.is_in(cell_text(cells), pa.array(["", "N/A"])).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~absent & ~((numbers > 0) & np.isfinite(numbers)))
    if bad.size:
        name = names[bad[0] // len(rows)]
        column_cells = bad[bad // len(rows) == bad[0] // len(rows)]
        raise _refuse(_cells_at(cells, column_cells, np.tile(rows, len(names)), name, "not positive numbers"), file)
    return np.where(absent, np.nan, numbers).reshape(len(names), len(rows)).T


def _cells_at(cells: pa.Array, at: NDArray[np.int64], rows: NDArray[np.int64], column: str, fault: str) -> str:
    examples = sample(cells.take(pa.array(at)).to_pylist())
    return f"in column {column!r}, {len(at)} cells are {fault}, the first in row {rows[at[0]]}: {examples}"


def _refuse(fault: str, file: str) -> DataError:
    return DataError(
        f"{file} is not the European Central Bank's file of reference rates: {fault}. Nothing was loaded.",
        hint="Get eurofxref-hist.zip from the bank again, or remove the file.",
    )


# --- its rates ----------------------------------------------------------------------------------


def to_series(published: EcbRates) -> pd.DataFrame:
    """Return the rates against the dollar, both ways round, as rows ``Date, Asset, Last_Price``.

    For a currency ``iso``, the euro included, ``usd<iso> curncy`` is ``rate(iso) / rate(usd)``, the units of it per
    dollar (the Canadian dollar's is called ``cad curncy``), and ``<iso>usd curncy`` is ``rate(usd) / rate(iso)``, the
    dollars per unit of it. A date without a dollar rate gives no rows.

    Raises
    ------
    DataError
        Rates so far apart that their quotient is not a number.
    """
    columns = [i for i, currency in enumerate(published.currencies) if currency != "usd"]
    currencies = ["eur", *(published.currencies[i] for i in columns)]
    usd = published.rates[:, [published.currencies.index("usd")]]
    per_euro = np.hstack([np.ones_like(usd), published.rates[:, columns]])
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        prices = np.hstack([per_euro / usd, usd / per_euro])
    names = [f"usd{currency} curncy" if currency != "cad" else "cad curncy" for currency in currencies]
    names += [f"{currency}usd curncy" for currency in currencies]
    row, column = np.nonzero(~np.isnan(prices))
    price = prices[row, column]
    if not ((price > 0) & np.isfinite(price)).all():
        raise DataError("Rates are too far apart to be divided by each other.", hint="Check the file in raw/ecb.")
    return pd.DataFrame(
        {
            "Date": published.dates[row].astype("datetime64[us]"),
            "Asset": np.array(names, dtype=object)[column],
            "Last_Price": price,
        }
    )


# --- from the bank ------------------------------------------------------------------------------


class _Deadline(NamedTuple):
    """Until when, by the monotonic clock, and of how many seconds that is the end."""

    end: float
    seconds: float

    def left(self) -> float:
        return self.end - time.monotonic()


def fetch_ecb(
    url: str, *, timeout: float = 30.0, deadline: float = 120.0, attempts: int = 3, pause: float = 1.0
) -> bytes:
    """Get the file at ``url``, trying again when the failure may pass.

    Parameters
    ----------
    timeout
        Seconds without an answer, per attempt.
    deadline
        Seconds after which it ends, whatever has come by then.
    attempts, pause
        How often, and the first pause in seconds; every further one is twice as long.

    Raises
    ------
    ConfigurationError
        Not an http or https address.
    UnreachableError
        No answer in time, or one that is not the file.
    CorruptFileError
        More bytes than the genuine file can have.
    """
    conceal_address(url)
    address = public_address(url)
    if not url.lower().startswith(("https://", "http://")):
        raise ConfigurationError(
            f"{shown(address)} is not an address rates can be fetched from.",
            hint="Set LUXOR_ECB_URL to an https address.",
        )
    logger.info("fetching %s", address)
    until = _Deadline(time.monotonic() + deadline, deadline)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_after_delay(deadline),
        wait=tenacity.wait_exponential(pause, max=10),
        reraise=True,
    )
    data, failure = b"", None
    try:
        data = retrying(_get_in_time, url, timeout, until)
    except (OSError, http.client.HTTPException, ValueError) as error:
        failure = UnreachableError(
            f"The European Central Bank's rates could not be fetched from {address}: {error!r}.",
            hint="Try again later, or put eurofxref-hist.zip into raw/ecb by hand and run without fetch.",
        )
        failure.__cause__ = error
    if failure is not None:
        raise scrubbed(failure)
    if len(data) > LIMITS.bytes:
        raise LIMITS.refused(address, f"is larger than {LIMITS.bytes:,} bytes", "bytes")
    return data


def public_address(url: str) -> str:
    """Return the address without what may be secret in it: a password, a query."""
    before, _, after = url.partition("?")[0].rpartition("@")
    return f"{before.partition('//')[0]}//{after}" if before else after


def _get_in_time(url: str, timeout: float, until: _Deadline) -> bytes:
    """Try once, in a thread of its own: some of what it waits for, such as a name's address, has no time limit."""
    outcome: list[bytes | BaseException] = []

    def attempt() -> None:
        try:
            outcome.append(_get(url, timeout, until))
        except BaseException as error:  # noqa: BLE001  it is raised in the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=attempt, name="fetch rates", daemon=True)
    thread.start()
    thread.join(max(0.0, until.left()))
    result = outcome[0] if outcome else TimeoutError(f"no whole answer within {until.seconds:g} s")
    if isinstance(result, BaseException):
        raise result
    return result


def _get(url: str, timeout: float, until: _Deadline) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "luxor-pipelines"})  # noqa: S310  checked
    data = bytearray()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            while len(data) <= LIMITS.bytes and until.left() > 0 and (piece := answer.read1(_PIECE)):
                data += piece
            if until.left() > 0 and answer.length and len(data) <= LIMITS.bytes:
                raise http.client.IncompleteRead(bytes(data), answer.length)
    except urllib.error.HTTPError as error:
        error.close()  # an answer too, with a connection of its own
        raise
    return bytes(data)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in {408, 429}
    return isinstance(error, OSError | http.client.HTTPException)
