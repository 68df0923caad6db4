"""A lake in which something happens at a chosen moment of somebody else's work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from luxor_pipelines.lake.storage.base import Storage


class Meanwhile:
    """A storage that does something just before its n-th write or delete, or after it.

    Parameters
    ----------
    then
        What happens; None only counts.
    late
        Whether it happens after the n-th write or delete, before its caller goes on.
    """

    def __init__(self, storage: Storage, at: int, then: Callable[[], Any] | None, *, late: bool = False) -> None:
        self._storage, self._at, self._then, self._late = storage, at, then, late
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write(self, *args: Any, **options: Any) -> str:
        return cast("str", self._counted(self._storage.write, *args, **options))

    def delete(self, *args: Any, **options: Any) -> None:
        self._counted(self._storage.delete, *args, **options)

    def _counted(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.calls += 1
        mine = self.calls == self._at and self._then is not None
        if mine and not self._late:
            self._then()  # type: ignore[misc]
        result = work(*args, **options)
        if mine and self._late:
            self._then()  # type: ignore[misc]
        return result


class Killed(BaseException):
    """The process has ended there: nothing of its own runs any more."""


def killed() -> None:
    raise Killed
