"""Do two kinds of request take the same time? Statistics of pairs, by rank: nothing is assumed of how times vary."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist, median

_Z = NormalDist().inv_cdf(0.995)  # for an interval of 99 %


@dataclass(frozen=True)
class Comparison:
    """Of paired times: `difference` is the median of second minus first, between `low` and `high` with 99 % confidence,
    all in the unit of the times. `guess` is the probability that of one time of each kind the greater is the second
    one's: 0.5 means that a single time tells nothing. `p` is Wilcoxon's, two-sided: how likely at least such a
    difference is if there is none.
    """

    pairs: int
    typical: float
    difference: float
    low: float
    high: float
    guess: float
    p: float


def compared(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare times that were taken in pairs."""
    differences = sorted(b - a for a, b in zip(first, second, strict=True))
    count = len(differences)
    reach = math.ceil(_Z * math.sqrt(count) / 2)
    low, high = max(0, count // 2 - reach), min(count - 1, count // 2 + reach)
    return Comparison(
        count,
        median(first),
        median(differences),
        differences[low],
        differences[high],
        superiority(first, second),
        signed_rank(differences),
    )


def signed_rank(differences: Sequence[float]) -> float:
    """The p of Wilcoxon's signed-rank test in its normal approximation: good from twenty differences on."""
    ranked = sorted((abs(value), value > 0) for value in differences if value)
    positive, variance, place = 0.0, 0.0, 0
    for _, group in groupby(ranked, key=lambda item: item[0]):
        signs = [sign for _, sign in group]
        rank = place + (len(signs) + 1) / 2  # equal values share the middle of their ranks
        positive += rank * sum(signs)
        variance += rank * rank * len(signs) / 4
        place += len(signs)
    if not variance:
        return 1.0
    distance = abs(positive - place * (place + 1) / 4)
    return math.erfc(max(0.0, distance - 0.5) / math.sqrt(2 * variance))


def superiority(first: Sequence[float], second: Sequence[float]) -> float:
    """The probability that a value of `second` is greater than one of `first`; equal ones count half."""
    ordered = sorted(first)
    won = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in second)
    return won / 2 / len(first) / len(second)


def adjusted(ps: Sequence[float]) -> list[float]:
    """The p of several tests, each made as large as it must be because there are several (Holm)."""
    worst, result = 0.0, [0.0] * len(ps)
    for place, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        worst = result[index] = max(worst, min(1.0, ps[index] * (len(ps) - place)))
    return result
