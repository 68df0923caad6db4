"""The gate: what stops a run, what is let through, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from luxor_pipelines.errors import DataError, QualityError
from luxor_pipelines.quality.gate import Finding, gate, half_gone

ERROR = Finding("error", "t", "2026-10", "of 4 assets are missing", 2, "'a', 'b'")
WARNING = Finding("warning", "t", "2026-10", "of 9 have none", 5)


def through(*findings: Finding, force: bool = False) -> tuple[tuple[str, ...], object]:
    passed = gate("t of 2026-10-31", findings, force=force, command="luxor run t")
    return passed.warnings, passed.details


def test_an_error_stops_the_run_with_all_that_was_found() -> None:
    with pytest.raises(QualityError) as caught:
        through(ERROR, WARNING)
    assert isinstance(caught.value, DataError)
    assert caught.value.message.splitlines() == [
        "t of 2026-10-31: nothing was written, for this is to be looked at first:",
        "- 2 of 4 assets are missing: 'a', 'b'",
        "- 5 of 9 have none",
    ]
    assert "`luxor run t --force`" in caught.value.hint


def test_what_is_forced_is_told() -> None:
    warnings, details = through(ERROR, WARNING, force=True)
    assert warnings == ("Forced: 2 of 4 assets are missing: 'a', 'b'", "5 of 9 have none")
    assert details == {
        "quality": {
            "forced": True,
            "findings": [
                {
                    "severity": "error",
                    "table": "t",
                    "partition": "2026-10",
                    "what": "of 4 assets are missing",
                    "count": 2,
                    "sample": "'a', 'b'",
                },
                {
                    "severity": "warning",
                    "table": "t",
                    "partition": "2026-10",
                    "what": "of 9 have none",
                    "count": 5,
                    "sample": "",
                },
            ],
        }
    }


def test_a_warning_stops_nothing_and_is_not_forced() -> None:
    warnings, details = through(WARNING, force=True)
    assert warnings == ("5 of 9 have none",)
    assert details["quality"]["forced"] is False  # type: ignore[index]
    assert through(WARNING) == (warnings, details)


def test_nothing_found_leaves_no_trace() -> None:
    assert through(force=True) == ((), {})


@pytest.mark.parametrize(
    ("before", "now", "too_much"),
    [
        ("", "", False),
        ("....", "abcd", False),  # nothing was there
        ("abcd", "abcd", False),
        ("abcd", "abc.", False),  # one was delisted
        ("abcde", "abc..", False),  # two of five
        ("abcd", "ab..", True),  # half
        ("abcd", "....", True),
        ("ab..", "a.cd", False),  # a small lake of which one was delisted
        ("a", ".", False),
        ("ab", "..", True),
    ],
)
def test_half_is_too_much_and_one_never_is(before: str, now: str, too_much: bool) -> None:
    was, is_there = (np.array([each != "." for each in text], dtype=bool) for text in (before, now))
    assert half_gone(was, is_there) is too_much
