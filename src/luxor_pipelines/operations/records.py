"""The records that runs leave in the lake: written, read back and checked.

A record is a JSON file ``system/runs/<pipeline>/<UTC stamp>-<id>.json``: written when the run starts, replaced when
it ends. A run that was killed leaves ``running`` behind for ever; `last_runs` calls it ``died`` when it no longer
holds its lease.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from luxor_pipelines import __version__
from luxor_pipelines.errors import AccessError, ConflictError, NotFoundError, UsageError, redact, shown
from luxor_pipelines.lake.storage.lease import holder_of
from luxor_pipelines.notebook import html_facts
from luxor_pipelines.operations.discovery import get_pipeline

if TYPE_CHECKING:
    import os

    from luxor_pipelines.ingest import LoadResult
    from luxor_pipelines.lake.lake import Lake
    from luxor_pipelines.lake.storage.base import BlobInfo
    from luxor_pipelines.pipelines import JSON
    from luxor_pipelines.query.luxor_query import LuxorQuery

__all__ = [
    "RECORD",
    "RUNS",
    "SCHEMA_VERSION",
    "LakeLike",
    "RunReport",
    "damaged_records",
    "find_run",
    "json_ready",
    "judged",
    "last_run",
    "last_runs",
    "opened",
    "read_record",
    "read_run",
    "write_record",
]

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Version of the run records' layout."""

RUNS = "system/runs"
"""The folder below which records lie."""
RECORD = re.compile(rf"{RUNS}/[\w-]{{1,100}}/\d{{8}}T\d{{6}}Z-[0-9a-f]{{12}}\.json", re.ASCII)
"""The path of a record."""

_QUEUED_MAX = timedelta(hours=1)
"""The time that a run may be queued before it counts as lost."""


LakeLike: TypeAlias = "Lake | LuxorQuery | str | os.PathLike[str] | None"
"""A lake as callers name it: an open one, a query of it, or its address; None for the one that the environment names.
"""


@dataclass(frozen=True)
class RunReport:
    """One run of a pipeline, as it is recorded in the lake.

    Attributes
    ----------
    status
        ``queued``, ``running``, ``done``, ``failed``, or ``skipped`` because another run was at it. A run that is
        recorded as running but gives no sign of life, or that was queued an hour ago and not begun, is ``died``:
        `last_runs` and `read_run` say so, no record does.
    ref_date
        The reference date the pipeline worked with; where it says none, the one it was given.
    now
        The time that the pipeline was given as the present; else the same as ``started_at``.
    queued_at
        When it was queued (UTC); None for one that was run at once.
    started_at, ended_at, duration_s
        The times at which it really ran (UTC), and its seconds; a queued run starts when it was queued.
    rows
        Rows handed to the loads, changed or not.
    inputs
        The version of each table and raw file that the run read; None for a table that was looked for and not there.
    error
        ``class``, ``message`` and ``hint`` of what it failed with.
    path
        The record's path in the lake.
    lock
        The path of the lease that the run holds while it is under way; None for one that was skipped.
    trigger, invocation_id, trace_id
        The cause of the run (see `telemetry.Trigger`), and its ids in the logs and traces of Azure.
    worker
        The worker of a Dask cluster that it ran on.
    unsettled
        Files whose last write by a failed run may still land, since the lake did not say how it went.
    """

    id: str
    pipeline: str
    status: Literal["queued", "running", "done", "failed", "skipped", "died"]
    ref_date: date | None
    now: datetime
    started_at: datetime
    path: str
    queued_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    rows: int | None = None
    loads: tuple[LoadResult, ...] = ()
    warnings: tuple[str, ...] = ()
    details: Mapping[str, JSON] = field(default_factory=dict)
    inputs: Mapping[str, str | None] = field(default_factory=dict)
    params: Mapping[str, JSON] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    lock: str | None = None
    unsettled: tuple[str, ...] = ()
    trigger: str = ""
    invocation_id: str | None = None
    trace_id: str | None = None
    worker: str | None = None
    library_version: str = __version__
    schema_version: int = SCHEMA_VERSION

    @property
    def changed(self) -> bool:
        """Whether the run changed any table."""
        return any(load.changed for load in self.loads)

    def _repr_html_(self) -> str:
        facts: dict[str, Any] = {
            "Status": self.status,
            "Reference date": self.ref_date,
            "Started (UTC)": f"{self.started_at:%Y-%m-%d %H:%M:%S}",
            "Seconds": self.duration_s,
            "Rows": self.rows,
            **{f"Load of {load.table}": str(load).partition(": ")[2] for load in self.loads},
            **{f"Warning {number}": text for number, text in enumerate(self.warnings, 1)},
        }
        if self.error is not None:
            facts["Error"] = f"{self.error['class']}: {self.error['message']}"
            facts["What to do"] = self.error.get("hint")
        return html_facts(f"Run {self.id} of {self.pipeline}", facts | {"Record": self.path})

    def as_dict(self) -> dict[str, JSON]:
        """Return the record, ready for JSON and without secrets."""
        record = {name: getattr(self, name) for name in ("schema_version", *self.__dataclass_fields__)}
        record["loads"] = [asdict(load) for load in self.loads]
        return {name: json_ready(value) for name, value in record.items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunReport:
        """Return the report that `as_dict` wrote; what a later version may have added is left out.

        Raises
        ------
        ValueError, TypeError, KeyError
            It is no record: a field is missing, or of another type than it should be.
        """
        return cls(**{name: read(record[name]) for name, read in _FIELDS.items() if name in record or name in _NEEDED})


def as_instant(now: Any) -> datetime | None:
    """Return the instant that is given as ``now``, in UTC; None where none is.

    Raises
    ------
    UsageError
        It is no datetime, or one without a time zone.
    """
    if now is None:
        return None
    # NaT, which claims to be a datetime, differs from itself.
    if not isinstance(now, datetime) or now != now or now.utcoffset() is None:
        raise UsageError(f"now={shown(now)} is no instant.", hint="Give a datetime with a zone, such as datetime.UTC.")
    return now.astimezone(UTC)


def opened(lake: LakeLike) -> Lake:
    """Return the lake itself, that of a query, or the one at an address; by default the one that the environment names.

    Raises
    ------
    ConfigurationError
        No lake is named, or what is named cannot be one.
    """
    from luxor_pipelines.catalog import open_lake  # brings pyarrow
    from luxor_pipelines.lake.lake import lake_of

    return open_lake(lake) if lake is None or isinstance(lake, str) or hasattr(lake, "__fspath__") else lake_of(lake)


def write_record(lake: Lake, report: RunReport, *, expected: str | None) -> str:
    """Write a run's record on condition of the stored one's version; return the new version.

    Raises
    ------
    ConflictError
    """
    text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    return lake.storage.write(report.path, text.encode("utf-8", "backslashreplace"), expected=expected)


def read_record(lake: Lake, path: str) -> RunReport | None:
    """Return the record of a run; None where there is none and, with a warning, for a file that is no record."""
    return next(_read_records(lake, [path]), None)


def last_runs(
    lake: LakeLike = None,
    name: str | None = None,
    limit: int | None = 20,
    *,
    failed: bool = False,
    since: datetime | date | None = None,
) -> list[RunReport]:
    """Return the most recent runs, newest first.

    A run that is recorded as running, but whose lease is gone, somebody else's or overdue, has the status ``died``;
    its record stays as it is.

    Parameters
    ----------
    lake
        A lake, a query of it, or its address; default the one that the environment names.
    name
        Only this pipeline's.
    limit
        How many; None for all there are.
    failed
        Only those that failed or died.
    since
        Only those that began at this moment or later; a date means its beginning in UTC.

    Raises
    ------
    UnknownPipelineError
        There are no runs of that name, nor is there such a pipeline.
    """
    lake = opened(lake)
    if name is None:
        files = _record_files(lake, None)
    else:  # an installed package's pipeline may have a name with hyphens or capitals
        spellings = dict.fromkeys((name.strip().lower().replace("-", "_"), name.strip()))
        files = next(filter(None, (_record_files(lake, spelling) for spelling in spellings)), [])
        if not files:
            get_pipeline(name)
    if since is not None:
        moment = since if isinstance(since, datetime) else datetime(since.year, since.month, since.day, tzinfo=UTC)
        stamp = f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        files = [info for info in files if _stamp(info.path) >= stamp]
    return _newest(lake, files, limit, failed=failed)


def last_run(lake: Lake, pipeline: str) -> RunReport | None:
    """Return a pipeline's most recent run, its status as in `last_runs`; None where there is none."""
    return next(iter(_newest(lake, _record_files(lake, pipeline), 1)), None)


def _record_files(lake: Lake, name: str | None) -> list[BlobInfo]:
    files = lake.storage.list(RUNS if name is None else f"{RUNS}/{name}")
    return [info for info in files if _is_record(info.path)]


def _newest(lake: Lake, files: Iterable[BlobInfo], limit: int | None, *, failed: bool = False) -> list[RunReport]:
    """Return the newest runs of these records, newest first; see `last_runs`."""
    newest_first = sorted(files, key=lambda info: (_stamp(info.path), info.modified), reverse=True)
    reports: list[RunReport] = []
    for stored in _read_records(lake, [info.path for info in newest_first]):
        # The stamp has whole seconds: only the records tell which of one second's is the newest.
        full = limit is not None and len(reports) >= limit
        if full and not (reports and _stamp(stored.path) == _stamp(reports[-1].path)):
            break
        report = judged(lake, stored) if failed else stored
        if not failed or report.status in ("failed", "died"):
            reports.append(report)
    reports = sorted(reports, key=lambda report: report.started_at, reverse=True)[:limit]
    return reports if failed else [judged(lake, report) for report in reports]


def damaged_records(lake: Lake, limit: int = 1000) -> list[str]:
    """Return the paths of the newest files among the run records that are no records."""
    files = sorted(_record_files(lake, None), key=lambda info: _stamp(info.path), reverse=True)

    def is_damaged(path: str) -> bool:
        try:
            _read(lake, path)
        except FileNotFoundError:
            return False
        except _DAMAGE:
            return True
        return False

    from luxor_pipelines.lake.concurrency import at_once  # brings pyarrow

    paths = [info.path for info in files[:limit]]
    return sorted(
        path for path, damaged in zip(paths, at_once(lake.storage, paths, is_damaged), strict=True) if damaged
    )


def find_run(lake: LakeLike, ident: str) -> RunReport:
    """Return the run of an id, of which the first four letters are enough; its status as in `last_runs`.

    Raises
    ------
    NotFoundError
        There is no such run.
    UsageError
        There are several.
    """
    lake, ident = opened(lake), ident.strip().lower().rpartition("/")[2].removesuffix(".json").rpartition("-")[2]
    paths = [info.path for info in lake.storage.list(RUNS) if RECORD.fullmatch(info.path)]
    matches = [path for path in paths if len(ident) >= _SHORTEST and _ident(path).startswith(ident)]
    if len(matches) > 1:
        raise UsageError(f"There are {len(matches)} runs whose id begins so.", hint="Give more of the id.")
    report = read_record(lake, matches[0]) if matches else None
    if report is None:
        raise NotFoundError("There is no such run.", hint="`luxor runs` lists them.")
    return judged(lake, report)


_SHORTEST = 4
"""The fewest letters of its id that a run can be named by."""


def read_run(lake: LakeLike, name: str, run: str) -> RunReport:
    """Return one run, by its pipeline and the name of its record, ``<UTC stamp>-<id>``; its status as in `last_runs`.

    Raises
    ------
    NotFoundError
        There is no such run.
    """
    lake, path = opened(lake), f"{RUNS}/{name}/{run}.json"
    report = read_record(lake, path) if RECORD.fullmatch(path) else None
    if report is None:
        raise NotFoundError("There is no such run.", hint=f"The runs lie under {RUNS}/; `luxor runs` lists them.")
    return judged(lake, report)


def judged(lake: Lake, report: RunReport) -> RunReport:
    """Return the report of a run as it really is: queued, under way, ended meanwhile, or dead."""
    if report.status == "queued" and report.queued_at is not None and lake.now() - report.queued_at > _QUEUED_MAX:
        return replace(report, status="died")
    if report.status != "running" or report.lock is None:
        return report
    try:
        holder = holder_of(lake.storage, report.lock)
    except ConflictError:
        return report  # busy as it is, somebody is alive
    except AccessError as error:
        logger.warning("Whether run %s is alive could not be found out: %s", report.id, error)
        return report
    if holder is not None and holder.about.get("run") == report.id:
        return report
    # A run records how it ended before it releases its lease: seen in this order, the record knows.
    current = read_record(lake, report.path) or report
    return replace(current, status="died") if current.status == "running" else current


def _stamp(path: str) -> str:
    return path.rpartition("/")[2].partition("-")[0]


def _ident(path: str) -> str:
    return path.removesuffix(".json").rpartition("-")[2]


def _is_record(path: str) -> bool:
    return path.endswith(".json")


def _read_records(lake: Lake, paths: Sequence[str]) -> Iterator[RunReport]:
    for path in paths:
        try:
            yield _read(lake, path)
        except FileNotFoundError:  # of a run that was ended before it began, or deleted meanwhile
            logger.debug("There is no record %s.", path)
        except _DAMAGE as error:
            logger.warning("%s is not a run record and was skipped (%s).", path, type(error).__name__)


def _read(lake: Lake, path: str) -> RunReport:
    return RunReport.from_dict(json.loads(lake.storage.read(path).data) | {"path": path})


_DAMAGE = (ValueError, TypeError, KeyError, RecursionError)
"""The errors that reading a file that is no record ends in."""


# --- the record's fields ------------------------------------------------------------------------


def json_ready(value: Any) -> Any:
    """Return the value in JSON's types, redacted text by text (in finished JSON a mask could swallow a quote)."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {redact(str(name)): json_ready(content) for name, content in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(item) for item in value]
    return json_ready(value.item()) if hasattr(value, "item") else redact(str(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text should be")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"a {type(value).__name__} where a number should be")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a {type(value).__name__} where a whole number should be")
    return value


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.utcoffset() is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__} where a list should be")
    return tuple(map(_text, value))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} where an object should be")
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        contents = (inner.values() if isinstance(inner, dict) else inner for inner in level)
        level = [value for values in contents for value in values if isinstance(value, dict | list)]
        if not level:
            return value
    raise ValueError("an object nested too deeply")


def _text_by_name(value: Any) -> dict[str, str]:
    return {name: _text(text) for name, text in _object(value).items()}


def _error(value: Any) -> dict[str, str]:
    error = _text_by_name(value)
    return {name: error[name] for name in ("class", "message", "hint")}


def _loads(value: Any) -> tuple[LoadResult, ...]:
    from luxor_pipelines.ingest import LoadResult

    if not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__} where a list should be")
    version, counts = _optional(_text), ("inserted", "updated", "unchanged", "deleted")
    return tuple(
        LoadResult(
            table=_text(load["table"]),
            **{name: _count(load[name]) for name in counts},
            partitions=_texts(load["partitions"]),
            version_before=version(load["version_before"]),
            version_after=version(load["version_after"]),
        )
        for load in map(_object, value)
    )


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_DEEPEST = 50
"""Levels of a record's details; what is nested more deeply is no record of ours, and could not be printed."""
_NEEDED = ("id", "pipeline", "status", "ref_date", "now", "started_at", "path")
_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("id", "pipeline", "status", "path", "library_version"), _text),
    "ref_date": _optional(lambda value: date.fromisoformat(_text(value))),
    **dict.fromkeys(("now", "started_at"), _moment),
    **dict.fromkeys(("queued_at", "ended_at"), _optional(_moment)),
    "duration_s": _optional(_number),
    "rows": _optional(_count),
    "loads": _loads,
    **dict.fromkeys(("warnings", "unsettled"), _texts),
    **dict.fromkeys(("details", "params"), _object),
    "inputs": lambda value: {name: _optional(_text)(version) for name, version in _object(value).items()},
    "error": _optional(_error),
    **dict.fromkeys(("lock", "invocation_id", "trace_id", "worker"), _optional(_text)),
    "trigger": _text,
    "schema_version": _count,
}
"""The functions that read back and check each field of a record."""
