"""The statistics by which the time of refusals is judged."""

from __future__ import annotations

import random
from itertools import product

import pytest

from bench.ranks import adjusted, compared, signed_rank, superiority


def exact(differences: list[float]) -> float:
    """The p of the signed-rank test by counting all the ways in which the signs could have fallen."""
    sizes = sorted(map(abs, differences))
    ranks = [sizes.index(abs(value)) + (sizes.count(abs(value)) + 1) / 2 for value in differences]
    middle = sum(ranks) / 2
    seen = abs(sum(rank for rank, value in zip(ranks, differences, strict=True) if value > 0) - middle)
    ways = [
        abs(sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) - middle)
        for signs in product((False, True), repeat=len(ranks))
    ]
    return sum(way >= seen - 1e-9 for way in ways) / len(ways)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rounded", [1, 6], ids=["many ties", "no ties"])
def test_the_signed_rank_test_agrees_with_counting(shift: float, rounded: int) -> None:
    noise = random.Random(1)  # noqa: S311
    for _ in range(5):
        differences = [value for _ in range(14) if (value := round(noise.gauss(shift), rounded))]
        assert signed_rank(differences) == pytest.approx(exact(differences), abs=0.03)


def test_a_shift_far_below_the_noise_is_seen_and_none_is_not() -> None:
    noise = random.Random(2)  # noqa: S311
    first = [noise.gauss(200, 30) for _ in range(5000)]
    same = compared(first, [noise.gauss(200, 30) for _ in range(5000)])
    shifted = compared(first, [noise.gauss(205, 30) for _ in range(5000)])
    assert same.p > 0.01
    assert same.low < 0 < same.high
    assert shifted.p < 1e-6
    assert shifted.low < 5 < shifted.high
    assert shifted.difference == pytest.approx(5, abs=2)
    assert shifted.guess == pytest.approx(0.547, abs=0.015)


def test_nothing_but_equal_times_tells_nothing() -> None:
    assert signed_rank([0.0] * 10) == 1.0
    assert superiority([1, 2, 3], [1, 2, 3]) == 0.5
    assert (superiority([1, 2], [3, 4]), superiority([3, 4], [1, 2])) == (1.0, 0.0)


def test_of_many_tests_each_must_be_the_surer() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.9, 0.8]) == [1.0, 1.0]
