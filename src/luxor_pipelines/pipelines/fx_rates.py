"""Exchange rates of the European Central Bank, as units per USD and USD per unit, into hist_ecb_px_last.

The bank publishes, for every business day since 1999, units of each currency per euro; dividing
through by the dollar's rate gives, for a currency ``iso`` (the euro included),

* ``usd<iso> curncy``: units of it per US dollar (the Canadian dollar's is ``cad curncy``, the
  name it has in the lake), ``rate(iso) / rate(usd)``;
* ``<iso>usd curncy``: US dollars per unit of it, ``rate(usd) / rate(iso)``.

The rates are reference rates of about 14:15 Central European Time, published for information.
Source: European Central Bank, euro foreign exchange reference rates.
"""

from __future__ import annotations

import http.client
import logging
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tenacity
from numpy.typing import NDArray

from luxor_pipelines.catalog import HIST_ECB_PX_LAST
from luxor_pipelines.errors import ConfigurationError, DataError, NotFoundError, UnreachableError, sample, shown
from luxor_pipelines.ingest import incremental_load
from luxor_pipelines.lake.storage.lease import fenced_replace
from luxor_pipelines.pipelines import JSON, Declaration, Due, PipelineResult
from luxor_pipelines.quality.gate import Finding, gate, half_gone
from luxor_pipelines.sources.cells import cell_text, parse_dates, parse_numbers
from luxor_pipelines.sources.raw import read_csv, too_large, unzip_csv

if TYPE_CHECKING:
    from luxor_pipelines.lake.storage.base import BlobInfo, Storage
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = ["DECLARATION", "SCHEMA", "EcbRates", "check_rates", "fetch_ecb", "parse_ecb", "run", "to_series"]

logger = logging.getLogger(__name__)

FOLDER = "raw/ecb"
FETCHED = f"{FOLDER}/eurofxref-hist.zip"

FILE_MAX = 50_000_000
"""Bytes of a file as it comes; the genuine one has less than a million."""
UNPACKED_MAX = 100_000_000
"""Bytes of a file once unpacked; the genuine one has two million."""
RESTATED_MAX = 2.0
"""Factor up to which a rate may differ from what is stored of the same day; the bank corrects digits, not more."""

SCHEMA = HIST_ECB_PX_LAST

DECLARATION = Declaration(outputs=(SCHEMA,), inputs=("raw/ecb/",), due=Due("20:00", days=1))


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


def run(
    ref_date: date | str | None = None,  # noqa: ARG001  every pipeline takes it
    *,
    lq: LuxorQuery | None = None,
    now: datetime | None = None,  # noqa: ARG001
    fetch: bool = False,
    force: bool = False,
) -> PipelineResult:
    """Load the newest file in ``raw/ecb`` into ``hist_ecb_px_last``: the whole of it, at every run.

    Of several files the one with the latest date in it is taken, and of those the last one put there.

    Parameters
    ----------
    ref_date, now
        Taken because every pipeline takes them; they have no influence on what is loaded.
    lq
        The lake; default the one the environment names.
    fetch
        Get the file from the European Central Bank first, and keep it in ``raw/ecb``.
        ``LUXOR_ECB_FETCH=true`` does so at every run.
    force
        Load the file even if it does not pass its checks; the result's warnings and details say so.

    Raises
    ------
    NotFoundError
        No file in ``raw/ecb`` and none to be fetched.
    DataError, CorruptFileError
        The file is not what the bank publishes; nothing has been written.
    QualityError
        The file lacks half the currencies that are stored, or contradicts them; nothing has been written.
    UnreachableError
        The bank did not answer.
    """
    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    if fetch or lq.settings.ecb_fetch:
        url = lq.settings.ecb_url
        data = fetch_ecb(url)
        file, found = FETCHED, parse_ecb(unzip_csv(data, _public(url), UNPACKED_MAX), _public(url))
        fenced_replace(lq.lake.storage, FETCHED, data)
    else:
        file, found = _newest(lq.lake.storage)
    frame = to_series(found)
    first, last = str(found.dates[0]), str(found.dates[-1])
    logger.info("%s: %d rates, %s to %s", file, len(frame), first, last)
    passed = gate(f"Rates of {file}", check_rates(lq, frame), force=force, command="luxor run fx_rates")
    load = incremental_load(lq, SCHEMA.name, frame, unique_columns=SCHEMA.key, schema=SCHEMA)
    details: dict[str, JSON] = {
        "file": file,
        "first_date": first,
        "last_date": last,
        "currencies": list[JSON](sorted({*found.currencies, "eur"})),
        **passed.details,
    }
    return PipelineResult((load,), len(frame), details, passed.warnings)


def check_rates(lq: LuxorQuery, frame: pd.DataFrame) -> list[Finding]:
    """What is odd about the rates, held against the last day that is stored: what is missing, what contradicts it."""
    table = SCHEMA.name
    last = lq.lake.cache.last_date(table) if lq.table_exists(table) else None
    if last is None:
        return []
    stored = lq.get_table(table, columns=["Asset", "Last_Price"], where={"Date": last})
    newest = frame.loc[frame["Date"] == frame["Date"].max()]
    findings = []
    there = stored["Asset"].isin(newest["Asset"])
    if half_gone(np.ones(len(stored), dtype=bool), there.to_numpy()):
        gone = stored.loc[~there, "Asset"]
        what = f"of the {len(stored):,} series stored for {last} have no rate on the file's last day"
        findings.append(Finding("error", table, "", what, len(gone), sample(gone)))
    both = frame[frame["Date"] == pd.Timestamp(last)].merge(stored, on="Asset", suffixes=("", "_stored"))
    factor = both["Last_Price"] / both["Last_Price_stored"]
    odd = both.loc[(factor > RESTATED_MAX) | (factor < 1 / RESTATED_MAX), "Asset"]
    if len(odd):
        what = f"of {len(both):,} rates of {last} differ from the stored ones by more than a factor of {RESTATED_MAX:g}"
        findings.append(Finding("error", table, "", what, len(odd), sample(odd)))
    return findings


def _newest(storage: Storage) -> tuple[str, EcbRates]:
    """The file in ``raw/ecb`` that has the latest date in it, and its content."""
    files = [
        info
        for info in storage.list(FOLDER)
        if info.path.count("/") == FOLDER.count("/") + 1 and info.path.lower().endswith((".zip", ".csv"))
    ]
    if not files:
        raise NotFoundError(
            f"There is no .zip or .csv file in {FOLDER} of {storage.url}.",
            hint="Put the European Central Bank's eurofxref-hist.zip there, or run with fetch=True "
            "(LUXOR_ECB_FETCH=true) to have it fetched.",
        )

    def recency(candidate: tuple[BlobInfo, EcbRates]) -> tuple[np.datetime64, datetime, str]:
        info, found = candidate
        return found.dates[-1], info.modified, info.path

    info, found = max(((info, _read(storage, info)) for info in files), key=recency)
    return info.path, found


def _read(storage: Storage, info: BlobInfo) -> EcbRates:
    if info.size > FILE_MAX:
        raise too_large(info.path, FILE_MAX)
    data = storage.read(info.path).data
    if info.path.lower().endswith(".zip"):
        data = unzip_csv(data, info.path, UNPACKED_MAX)
    return parse_ecb(data, info.path)


def parse_ecb(data: bytes, file: str) -> EcbRates:
    """Read the bank's csv text: ``Date``, a column per currency, ``N/A`` or nothing where not quoted.

    ``file`` is the name for messages. Rows may be in any order; a comma at the end of the lines, as
    the bank puts it, is let pass.

    Raises
    ------
    DataError, CorruptFileError
        Another structure, a date twice, a cell that is neither a positive number nor ``N/A``.
    """
    raw = read_csv(data, file)
    names, columns = [name.strip() for name in raw.names], raw.columns
    if names[-1] == "" and len(names) > 1 and not any(cell_text(columns[-1]).to_pylist()):
        names, columns = names[:-1], columns[:-1]
    _check_header(names, file)
    if raw.ragged:
        row, cells = next(iter(raw.ragged.items()))
        raise _refuse(
            f"{len(raw.ragged)} rows have another number of cells than the header's {len(raw.names)}; "
            f"row {row} has {len(cells)}, starting with {sample(cells)}",
            file,
        )
    dates = _dates(columns[0], raw.rows, file)
    rates = _rates(pa.concat_arrays(columns[1:]), names[1:], raw.rows, file)
    order = np.argsort(dates)
    return EcbRates(dates[order], [name.lower() for name in names[1:]], rates[order])


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
    dates, _ = parse_dates(column)
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
    """The cells of all currencies, one column after the other, as a matrix of rows by currencies."""
    numbers, blank = parse_numbers(cells)
    absent = blank | pc.equal(cell_text(cells), "N/A").to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~absent & ~((numbers > 0) & np.isfinite(numbers)))
    if bad.size:
        name = names[bad[0] // len(rows)]
        here = bad[bad // len(rows) == bad[0] // len(rows)]
        raise _refuse(_cells_at(cells, here, np.tile(rows, len(names)), name, "not positive numbers"), file)
    return np.where(absent, np.nan, numbers).reshape(len(names), len(rows)).T


def _cells_at(cells: pa.Array, at: NDArray[np.int64], rows: NDArray[np.int64], column: str, what: str) -> str:
    found = sample(cells.take(pa.array(at)).to_pylist())
    return f"in column {column!r}, {len(at)} cells are {what}, the first in row {rows[at[0]]}: {found}"


def _refuse(what: str, file: str) -> DataError:
    return DataError(
        f"{file} is not the European Central Bank's file of reference rates: {what}. Nothing was loaded.",
        hint="Get eurofxref-hist.zip from the bank again, or remove the file.",
    )


def to_series(found: EcbRates) -> pd.DataFrame:
    """The rates against the dollar, both ways round, as rows ``Date, Asset, Last_Price``.

    A date without a dollar rate gives no rows.

    Raises
    ------
    DataError
        Rates so far apart that their quotient is not a number.
    """
    others = [i for i, currency in enumerate(found.currencies) if currency != "usd"]
    currencies = ["eur", *(found.currencies[i] for i in others)]
    usd = found.rates[:, [found.currencies.index("usd")]]
    per_euro = np.hstack([np.ones_like(usd), found.rates[:, others]])
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
            "Date": found.dates[row].astype("datetime64[us]"),
            "Asset": np.array(names, dtype=object)[column],
            "Last_Price": price,
        }
    )


def fetch_ecb(url: str, *, timeout: float = 30.0, attempts: int = 3, pause: float = 1.0) -> bytes:
    """Get the file at ``url``, trying again when the failure may pass.

    Parameters
    ----------
    timeout
        Seconds without an answer, per attempt.
    attempts, pause
        How often, and the first pause in seconds; every further one is twice as long.

    Raises
    ------
    ConfigurationError
        Not an http or https address.
    UnreachableError
        No answer, an answer that is not the file, or more than 50 MB.
    """
    if not url.lower().startswith(("https://", "http://")):
        raise ConfigurationError(
            f"{shown(_public(url))} is not an address rates can be fetched from.",
            hint="Set LUXOR_ECB_URL to an https address.",
        )
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(pause, max=10),
        reraise=True,
    )
    logger.info("fetching %s", _public(url))
    try:
        data: bytes = retrying(_get, url, timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(
            f"The European Central Bank's rates could not be fetched from {_public(url)}: {error!r}.",
            hint="Try again later, or put eurofxref-hist.zip into raw/ecb by hand and run without fetch.",
        ) from error
    if len(data) > FILE_MAX:
        raise too_large(_public(url), FILE_MAX)
    return data


def _public(url: str) -> str:
    """The address without what may be secret in it: a password, a query."""
    before, _, after = url.partition("?")[0].rpartition("@")
    return f"{before.partition('//')[0]}//{after}" if before else after


def _get(url: str, timeout: float) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "luxor-pipelines"})  # noqa: S310  checked
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            data: bytes = answer.read(FILE_MAX + 1)
    except urllib.error.HTTPError as error:
        error.close()  # an answer too, with a connection of its own
        raise
    return data


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in {408, 429}
    return isinstance(error, OSError | http.client.HTTPException)
