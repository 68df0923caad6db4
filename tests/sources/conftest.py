"""The child process that reads files, for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from luxor_pipelines.sources.confined import Confined
from luxor_pipelines.sources.limits import Limits


@pytest.fixture(scope="module")
def confined() -> Iterator[Confined]:
    """One process for all files of the module, as in a run."""
    with Confined(Limits()) as process:
        yield process
