"""Oddities of price series: each kind by hand, whatever the pieces the rows come in."""

from __future__ import annotations

import numpy as np
import pytest

from luxor_pipelines.quality.series import Fault, SeriesCheck


def oddities(
    prices: list[float], *, step: int = 1, pieces: int = 1, stuck: bool = False, pauses: dict[int, int] | None = None
) -> dict[Fault, list[str]]:
    """What is said of a series with a price every ``step`` days, later by ``pauses`` days from some rows on."""
    days = np.datetime64("2024-01-01") + np.arange(len(prices)) * step
    for row, pause in (pauses or {}).items():
        days[row:] += pause
    check = SeriesCheck(stuck=stuck)
    rows = np.arange(len(prices))
    for piece in np.array_split(rows, pieces):
        check.add(["x", "y"], np.zeros(len(piece), np.int64), days[piece], np.array(prices)[piece])
    found = {fault: [str(oddity) for oddity in oddities] for fault, _, oddities in check.oddities()}
    assert [count for _, count, _ in check.oddities()] == [len(each) for each in found.values()]
    return found


@pytest.mark.parametrize("pieces", [1, 2, 3, 9])
@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 10, 20, 50, 100, 0.5, 1 / 3, 0.01, 2.09, 1.91, 0.48])
def test_a_move_by_a_split_s_ratio_is_named_at_once(ratio: float, pieces: int) -> None:
    prices = [100.0, 101.0, 100 * ratio]
    expected = [f"x 2024-01-02 101 → 2024-01-03 {100 * ratio:.6g}"] if pieces else []
    found = oddities([100.0, 100.0, 100 * ratio], pieces=pieces)
    assert found == {"split": [expected[0].replace(" 101 ", " 100 ")]}
    lasting = oddities([*prices[:1], 100.0, *[100 * ratio] * 7], pieces=pieces)
    assert list(lasting) == ["split"]


@pytest.mark.parametrize("ratio", [1.3, 0.7, 1.85, 2.2, 2.7, 7, 30, 0.55])
def test_other_moves_are_no_split(ratio: float) -> None:
    assert "split" not in oddities([100.0, 100 * ratio, 100 * ratio])


@pytest.mark.parametrize("pieces", [1, 2, 4, 8])
def test_a_move_that_comes_back_is_no_split(pieces: int) -> None:
    assert oddities([100.0, 100.0, 200.0, 200.0, 101.0, 96.0, 100.0], pieces=pieces) == {}
    assert oddities([100.0, 100.0, 200.0, 101.0], pieces=pieces) == {"split": ["x 2024-01-02 100 → 2024-01-03 200"]}, (
        "nothing is certain yet"
    )


@pytest.mark.parametrize("pieces", [1, 2, 3, 6])
def test_a_single_day_far_off(pieces: int) -> None:
    assert oddities([10.0, 10.0, 70.0, 10.0, 10.0, 10.0], pieces=pieces) == {
        "spike": [
            "x 2024-01-02 10 → 2024-01-03 70",
        ][:1]
    }
    assert oddities([10.0, 10.0, 1.3], pieces=pieces) == {"spike": ["x 2024-01-02 10 → 2024-01-03 1.3"]}
    assert oddities([10.0, 10.0, 70.0, 70.0], pieces=pieces) == {}, "it stays there"


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_series_that_resumes_after_more_than_a_year(pieces: int) -> None:
    found = oddities([10.0, 11.0, 12.0], pauses={2: 366}, pieces=pieces)
    assert found == {"resumed": ["x 2024-01-02 11 → 2025-01-03 12"]}
    assert oddities([10.0, 11.0, 12.0], pauses={2: 365}, pieces=pieces) == {}


@pytest.mark.parametrize("pieces", [1, 2, 5, 40])
def test_a_price_that_is_stuck(pieces: int) -> None:
    prices = [9.0, *[10.0] * 20, 11.0]
    assert oddities(prices, stuck=True, pieces=pieces) == {"stuck": ["x 2024-01-02 10 → 2024-01-21 10"]}
    assert oddities([9.0, *[10.0] * 19, 11.0], stuck=True, pieces=pieces) == {}
    assert oddities([10.0] * 50, stuck=True, pieces=pieces) == {"stuck": ["x 2024-01-01 10 → 2024-02-19 10"]}
    later = [*prices, *(11.0 + n / 10 for n in range(30))]
    assert oddities(later, stuck=True, pieces=pieces) == {"stuck": ["x 2024-01-02 10 → 2024-01-21 10"]}
    assert oddities(prices, pieces=pieces) == {}, "of a fund it may be"


def test_rows_that_are_no_prices_are_passed_over() -> None:
    assert oddities([100.0, 0.0, -200.0, np.nan, np.inf, 100.0]) == {}


def test_series_do_not_mix() -> None:
    check = SeriesCheck()
    days = np.array(["2024-01-01", "2024-01-01", "2024-01-02", "2024-01-02"], "datetime64[D]")
    check.add(["a", "b"], np.array([0, 1, 0, 1]), days, np.array([1.0, 100.0, 1.0, 100.0]))
    check.add(["b", "a", "c"], np.array([0, 1, 2, -1]), days + 2, np.array([100.0, 1.0, 7.0, 5.0]))
    assert list(check.oddities()) == []


def test_a_table_of_nonsense_is_counted_and_few_of_it_kept() -> None:
    rng, check = np.random.default_rng(1), SeriesCheck(stuck=True)
    for year in range(2):
        days = np.repeat(np.datetime64(f"{2024 + year}-01-01") + np.arange(200), 500)
        codes = np.tile(np.arange(500), 200)
        check.add([f"s{n}" for n in range(500)], codes, days, rng.random(100_000))
    found = {fault: (count, oddities) for fault, count, oddities in check.oddities()}
    assert found["split"][0] > 15_000
    assert len(found["split"][1]) == 20
    assert {str(oddity.date)[:4] for oddity in found["split"][1]} == {"2025"}
