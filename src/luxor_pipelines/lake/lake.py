"""`Lake`: an open lake, with its files, its clock, its tables and a cache of what has been read of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo

from luxor_pipelines.errors import ConfigurationError, Secret, UsageError
from luxor_pipelines.lake.storage.base import BlobInfo, Storage, check_path
from luxor_pipelines.lake.storage.connect import connect
from luxor_pipelines.lake.table.cache import TableCache
from luxor_pipelines.lake.table.layout import DIRECTORY
from luxor_pipelines.lake.table.listing import list_tables
from luxor_pipelines.lake.table.table import Table
from luxor_pipelines.lake.types.schema import Conventions
from luxor_pipelines.notebook import html_facts
from luxor_pipelines.settings import Settings

__all__ = ["Lake", "lake_of"]


class Lake:
    """An open lake: opened once, and handed to whatever reads or writes it.

    `Lake.open` opens one by its address.

    Parameters
    ----------
    storage
        The lake's files.
    directory
        The folder of the tables.
    settings
        Default: from the environment.
    clock
        Says what time it is, as a datetime with a time zone; default the system's clock.
    conventions
        The customs that the lake's files follow without stating them; default none.

    Attributes
    ----------
    cache
        The tables that have been read, by version.
    """

    def __init__(
        self,
        storage: Storage,
        directory: str = DIRECTORY,
        *,
        settings: Settings | None = None,
        clock: Callable[[], datetime] | None = None,
        conventions: Conventions | None = None,
    ) -> None:
        self.storage = storage
        self.directory = check_path(directory)
        self.settings = settings or Settings.from_env()
        self.conventions = conventions or Conventions()
        self.cache = TableCache(storage, self.directory, self.settings.cache_bytes, self.conventions)
        self._files_read: dict[str, str | None] = {}
        self._clock = clock or _system_clock
        self._zone = _zone(self.settings.time_zone)

    @classmethod
    def open(
        cls,
        address: str | os.PathLike[str] | None = None,
        directory: str = DIRECTORY,
        *,
        connection_string: str | None = None,
        container: str | None = None,
        settings: Settings | None = None,
        clock: Callable[[], datetime] | None = None,
        create: bool = False,
        conventions: Conventions | None = None,
    ) -> Lake:
        """Open the lake at an address, else the one that the environment names.

        Parameters
        ----------
        address
            An fsspec URL (``abfss://container@account.dfs.core.windows.net``, ``file:///…``,
            ``memory://…``) or a local folder.
        directory
            The folder of the tables.
        connection_string, container
            An Azure storage connection string, and the container it is for.
        settings
            Default: from the environment.
        clock
            Says what time it is, as a datetime with a time zone; default the system's clock.
        create
            Create the container, or the folder, where it is missing.
        conventions
            The customs that the lake's files follow without stating them; default none.

        Raises
        ------
        ConfigurationError
            No lake is named, or what is named cannot be one.
        """
        # A traceback may show variables; these print as a mask.
        address = Secret(address) if isinstance(address, str) else address
        connection_string = None if connection_string is None else Secret(connection_string)
        settings = settings or Settings.from_env()
        storage = connect(
            address, connection_string=connection_string, container=container, settings=settings, create=create
        )
        return cls(storage, directory, settings=settings, clock=clock, conventions=conventions)

    @property
    def url(self) -> str:
        """The lake's address, safe to show."""
        return self.storage.url

    def now(self) -> datetime:
        """Return the current time, UTC."""
        return self._clock().astimezone(UTC)

    def today(self, now: datetime | None = None) -> date:
        """Return the date of ``now``, by default of this moment, where the firm is (``LUXOR_TIME_ZONE``, São Paulo)."""
        return (now or self.now()).astimezone(self._zone).date()

    def table(self, name: str, directory: str | None = None) -> Table:
        """Return the table of a name, whether it exists or not.

        Raises
        ------
        InvalidNameError
        """
        directory = self.directory if directory is None else directory
        return Table(self.storage, name, directory, conventions=self.conventions)

    def tables(self) -> list[str]:
        """Return the names of the tables, sorted."""
        return list_tables(self.storage, self.directory)

    def paths(self, name: str, directory: str | None = None) -> list[str]:
        """Return the places of a table's files on ``storage.filesystem`` as they are now, in the order of their dates.

        Raises
        ------
        TableNotFoundError
        """
        snapshot = self.table(name, directory).snapshot()
        return [self.storage.location(part.info.path) for part in snapshot.parts]

    def forget(self, name: str, directory: str | None = None) -> None:
        """Have a table read afresh when it is next asked for; loads call this."""
        if directory is None or check_path(directory) == self.directory:
            self.cache.forget(name)

    def read(self, path: str) -> bytes:
        """Return the bytes of a file that is no table's, such as one in ``raw/``; `inputs` then names it.

        Raises
        ------
        NotFoundError
        """
        blob = self.storage.read(path)
        self._files_read[path] = blob.version.strip('"')
        return blob.data

    def note(self, files: Iterable[BlobInfo]) -> None:
        """Add files to `inputs` that are about to be read by other means than `read`."""
        self._files_read |= {info.path: info.version.strip('"') for info in files}

    def inputs(self, until: date | None = None) -> dict[str, str | None]:
        """Return the version of each table and file that was read through this object; None for a missing table.

        Parameters
        ----------
        until
            Leave out the partitions after this date, on which nothing rests that is as of it.
        """
        return {**self.cache.versions(until), **dict(sorted(self._files_read.items()))}

    def view(self) -> Lake:
        """Return the same lake, sharing what has been read; its `inputs` are what is read through the view."""
        view = self.fresh()
        view.cache, view._files_read = self.cache.view(), {}  # noqa: SLF001 - it is one of us
        return view

    def with_settings(self, **changes: Any) -> Lake:
        """Return the same lake with an empty cache and some other settings."""
        lake = self.fresh()
        lake.settings = replace(self.settings, **changes)
        return lake

    def fresh(self) -> Lake:
        """Return the same lake with an empty cache."""
        return Lake(
            self.storage, self.directory, settings=self.settings, clock=self._clock, conventions=self.conventions
        )

    def _repr_html_(self) -> str:
        return html_facts("Lake", {"Address": self.url, "Tables": self.directory, "Today": self.today()})

    def __reduce__(self) -> Any:
        raise TypeError(
            "A Lake holds connections and is neither pickled nor copied. Open it again where it is needed, by its "
            f"address: {self.url}"
        )

    def __enter__(self) -> Lake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what has been read."""
        self.cache.clear()

    def __repr__(self) -> str:
        if not hasattr(self, "directory"):  # in a traceback with locals, when opening failed
            return f"{type(self).__name__}(…)"
        return f"{type(self).__name__}({self.url!r}, directory={self.directory!r})"


def lake_of(lake_or_query: Any) -> Lake:
    """Return the lake of a `Lake`, or of an object that has one, such as a `LuxorQuery`.

    Raises
    ------
    UsageError
        The object is neither.
    """
    lake = getattr(lake_or_query, "lake", lake_or_query)
    if not isinstance(lake, Lake):
        raise UsageError(
            f"The lake is a {type(lake_or_query).__name__}, not a Lake or a LuxorQuery.",
            hint="Pass lq = LuxorQuery() first, as in incremental_load(lq, table_name, df).",
        )
    return lake


def _system_clock() -> datetime:
    return datetime.now(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"LUXOR_TIME_ZONE ({name!r}) is no time zone.", hint="Use an IANA name, such as America/Sao_Paulo."
        ) from error
