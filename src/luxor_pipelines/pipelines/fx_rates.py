"""Exchange rates of the European Central Bank, as units per USD and USD per unit, into hist_ecb_px_last.

For each currency ``iso`` that the bank publishes, the euro included, the table has ``usd<iso> curncy``, the units of it
per US dollar (the Canadian dollar's is ``cad curncy``, the name it has in the lake), and ``<iso>usd curncy``, the US
dollars per unit of it. Source: European Central Bank, euro foreign exchange reference rates.
"""

from __future__ import annotations

import logging
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np

from luxor_pipelines.catalog import HIST_ECB_PX_LAST
from luxor_pipelines.errors import sample
from luxor_pipelines.ingest import incremental_load
from luxor_pipelines.lake.storage.lease import fenced_replace
from luxor_pipelines.lazy import pd
from luxor_pipelines.pipelines import JSON, Declaration, Due, PipelineResult
from luxor_pipelines.quality.gate import Finding, gate, half_gone
from luxor_pipelines.quality.series import check_batch

if TYPE_CHECKING:
    from luxor_pipelines.query.luxor_query import LuxorQuery
    from luxor_pipelines.sources.ecb import EcbRates

__all__ = ["DECLARATION", "SCHEMA", "check_rates", "run"]

logger = logging.getLogger(__name__)

FETCHED = "eurofxref-hist.zip"
"""The name that a fetched file is kept under."""
RESTATED_MAX = 2.0
"""Factor up to which a rate may differ from what is stored of the same day; the bank corrects digits, not more."""

SCHEMA = HIST_ECB_PX_LAST

DECLARATION = Declaration(outputs=(SCHEMA,), inputs=("raw/ecb/",), due=Due("20:00", days=1))


def run(
    ref_date: date | str | None = None,  # noqa: ARG001  every pipeline takes it
    *,
    lq: LuxorQuery | None = None,
    now: datetime | None = None,  # noqa: ARG001
    fetch: bool = False,
    force: bool = False,
) -> PipelineResult:
    """Load the newest file in ``raw/ecb`` into ``hist_ecb_px_last``: the whole of it, at every run.

    If there are several files, the one with the latest date in it counts, and among those the last one put there.

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
    from luxor_pipelines.sources.ecb import newest_ecb, to_series

    if lq is None:
        from luxor_pipelines.query.luxor_query import LuxorQuery

        lq = LuxorQuery()
    file, published = _fetched(lq) if fetch or lq.settings.ecb_fetch else newest_ecb(lq.lake)
    frame = to_series(published)
    first, last = str(published.dates[0]), str(published.dates[-1])
    logger.info("%s: %d rates, %s to %s", file, len(frame), first, last)
    passed = gate(f"Rates of {file}", check_rates(lq, frame), force=force, command="luxor run fx_rates")
    load = incremental_load(lq, SCHEMA.name, frame, unique_columns=SCHEMA.key, schema=SCHEMA)
    details: dict[str, JSON] = {
        "file": file,
        "first_date": first,
        "last_date": last,
        "currencies": list[JSON](sorted({*published.currencies, "eur"})),
        **passed.details,
    }
    return PipelineResult((load,), len(frame), details, passed.warnings)


def _fetched(lq: LuxorQuery) -> tuple[str, EcbRates]:
    """Fetch the bank's file, keep it in ``raw/ecb`` if it can be read, and return its path and rates."""
    from luxor_pipelines.sources.ecb import FOLDER, fetch_ecb, public_address, read_ecb

    url, path = lq.settings.ecb_url, f"{FOLDER}/{FETCHED}"
    data = fetch_ecb(url, deadline=lq.settings.request_timeout)
    rates = read_ecb(data, public_address(url), FETCHED)
    fenced_replace(lq.lake.storage, path, data)
    info = lq.lake.storage.stat(path)
    lq.lake.note([info] if info is not None else [])
    return path, rates


def check_rates(lq: LuxorQuery, frame: pd.DataFrame) -> list[Finding]:
    """Compare the rates with those of the last stored day: find series that are missing or contradict it."""
    table = SCHEMA.name
    last = lq.lake.cache.last_date(table) if lq.table_exists(table) else None
    if last is None:
        return []
    stored = lq.get_table(table, columns=["Asset", "Last_Price"], where={"Date": last})
    newest = frame.loc[frame["Date"] == frame["Date"].max()]
    findings = []
    remain = stored["Asset"].isin(newest["Asset"])
    if half_gone(np.ones(len(stored), dtype=bool), remain.to_numpy()):
        gone = stored.loc[~remain, "Asset"]
        what = f"of the {len(stored):,} series stored for {last} have no rate on the file's last day"
        findings.append(Finding("error", table, "", what, len(gone), sample(gone)))
    both = frame[frame["Date"] == pd.Timestamp(last)].merge(stored, on="Asset", suffixes=("", "_stored"))
    factor = both["Last_Price"] / both["Last_Price_stored"]
    odd = both.loc[(factor > RESTATED_MAX) | (factor < 1 / RESTATED_MAX), "Asset"]
    if len(odd):
        what = f"of {len(both):,} rates of {last} differ from the stored ones by more than a factor of {RESTATED_MAX:g}"
        findings.append(Finding("error", table, "", what, len(odd), sample(odd)))
    assets = pd.Categorical(frame["Asset"])
    days, prices = frame["Date"].to_numpy(), frame["Last_Price"].to_numpy()
    return findings + check_batch(lq.lake, table, list(assets.categories), assets.codes, days, prices)
