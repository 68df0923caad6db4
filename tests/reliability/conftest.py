"""How long the harness tortures, and what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

FIGURES: dict[str, Counter[str]] = {}


@dataclass(frozen=True)
class Scale:
    """How much of each: the short version is for every run of the tests, the long one for `nox -s torture`."""

    seed: int
    kills: int
    processes: int
    loads: int
    faulty_loads: int
    operations: int
    stalls: int
    backfills: int
    interruptions: int
    interruptions_a_round: int = 8


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    seed = request.config.getoption("--seed")
    if request.config.getoption("--torture"):
        return Scale(
            seed,
            kills=100,
            processes=8,
            loads=25,
            faulty_loads=150,
            operations=9,
            stalls=100,
            interruptions=100,
            backfills=10,
        )
    return Scale(
        seed, kills=5, processes=4, loads=4, faulty_loads=8, operations=4, stalls=4, interruptions=2, backfills=1
    )


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Counter[str]:
    """What the test counts; printed at the end."""
    return FIGURES.setdefault(request.node.name, Counter())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counted = {name: figures for name, figures in FIGURES.items() if figures}
    if counted:
        terminalreporter.section("figures")
    for name, figures in counted.items():
        terminalreporter.line(f"{name}: " + ", ".join(f"{count} {what}" for what, count in figures.items()))
