"""Run reference dates in other processes: of this machine (``--jobs``), or of a Dask cluster (extra ``dask``).

A task opens the lake by its address and its own process's settings. Nothing secret travels: neither the address of a
lake with a signature, nor a parameter that looks like a secret. A task whose worker died is done again by another one,
which waits until the dead one's lease has run out.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from luxor_pipelines.errors import ConfigurationError, UsageError
from luxor_pipelines.operations.runs import Outcome, masked, outcome_of, run, run_many

if TYPE_CHECKING:
    from luxor_pipelines.lake.lake import Lake

__all__ = ["run_dates"]

RETRIES = 3
"""The number of times that Dask gives a date to another worker after one died with it."""

_ENDED = (
    "A process of the backfill was ended from outside, as by a system that is short of memory, before it told how this "
    "date ended. --missing (missing=True) goes on; fewer jobs need less memory."
)


def run_dates(
    name: str,
    dates: Sequence[date],
    lake: Lake,
    now: datetime | None,
    params: Mapping[str, Any],
    *,
    jobs: int = 1,
    cluster: str | None = None,
) -> Iterator[Outcome]:
    """Run a pipeline for several dates, in other processes; yield how each ended, as it ends.

    Raises
    ------
    ConfigurationError
        The lake lies in this process's memory, the cluster's address is invalid, or Dask is not installed.
    UsageError
        A parameter is, or looks like, a secret.
    """
    if lake.url.startswith("memory:"):
        raise ConfigurationError(
            f"{lake.url} lies in the memory of this process, where no other can reach it.",
            hint="Use a lake in a folder or on Azure.",
        )
    if masked(params) != dict(params):
        raise UsageError(
            "A parameter is, or looks like, a secret, and is not sent to other processes.",
            hint="Let the pipeline read it from the workers' environment.",
        )
    task = (name, lake.url, lake.directory, now, dict(params))
    if cluster is not None:
        yield from _on_dask(cluster, dates, task)
        return
    size = -(-len(dates) // jobs) or 1
    shares = [dates[first : first + size] for first in range(0, len(dates), size)]
    with ProcessPoolExecutor(min(jobs, len(shares)) or 1, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_run_share, share, *task): share for share in shares}
        for future in as_completed(futures):
            try:
                yield from future.result()
            except BrokenProcessPool:  # the pool ends the other processes, too
                yield from (Outcome(day, "failed", None, _ENDED) for day in futures[future])


def _run_share(
    dates: Sequence[date], name: str, url: str, directory: str, now: datetime | None, params: dict[str, Any]
) -> list[Outcome]:
    """Run a share of the dates in this process, in as few passes as may be."""
    lake = _open(url, directory)
    return [outcome_of(day, ended) for day, ended in run_many(name, dates, lake=lake, now=now, **params)]


def _run_date(day: date, name: str, url: str, directory: str, now: datetime | None, params: dict[str, Any]) -> Outcome:
    """Run one date in this process; the lease of a run of it that has died is taken over."""
    try:
        return outcome_of(day, run(name, day, lake=_open(url, directory), now=now, if_running="wait", **params))
    except Exception as error:  # noqa: BLE001 - an outcome, told to whoever asked for the date
        return outcome_of(day, error)


def _open(url: str, directory: str) -> Lake:
    """Return the lake at an address, opened by this process's own settings if these name it."""
    from luxor_pipelines.catalog import open_lake

    try:
        lake = open_lake(None, directory)
    except ConfigurationError:
        return open_lake(url, directory)
    return lake if lake.url == url else open_lake(url, directory)


def _on_dask(cluster: str, dates: Sequence[date], task: tuple[Any, ...]) -> Iterator[Outcome]:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise ConfigurationError(
            "A cluster was asked for, but Dask is not installed.", hint='pip install "luxor-pipelines[dask]"'
        ) from error
    with _client(distributed, cluster) as client:
        futures = client.map(_run_date, dates, *([part] * len(dates) for part in task), pure=False, retries=RETRIES)
        for future, outcome in distributed.as_completed(futures, with_results=True, raise_errors=False):
            if isinstance(outcome, Outcome):
                yield outcome
            else:
                day = dates[futures.index(future)]
                yield outcome_of(day, future.exception())


def _client(distributed: Any, cluster: str) -> AbstractContextManager[Any]:
    kind, _, count = cluster.partition(":")
    if kind == "local":
        if not (count.isdigit() and int(count)):
            raise ConfigurationError(f"{cluster!r} names no number of workers.", hint="Write it like local:2.")
        local = distributed.LocalCluster(n_workers=int(count), threads_per_worker=1, dashboard_address=None)
        client: AbstractContextManager[Any] = distributed.Client(local)
        return client
    try:
        remote: AbstractContextManager[Any] = distributed.Client(cluster, timeout=15)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"There is no Dask scheduler at {cluster!r}.", hint="Write it like tcp://scheduler:8786, or local:2."
        ) from error
    return remote
