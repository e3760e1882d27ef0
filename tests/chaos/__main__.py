"""`make chaos`: every run at length. Prints the seed and a table for each, and fails if anything is not as promised."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Coroutine
from typing import Any

from tests.chaos.runs import Report, reloads, soak, stop, trouble

MINUTES = 10.0
OTHER_RUNS = 90.0
"""Seconds that all runs but the soak take, more or less."""


async def main(seed: int, minutes: float) -> bool:
    """Run everything; return whether all was well."""
    runs: list[Coroutine[Any, Any, Report]] = [
        trouble(seed, 10_000),
        reloads(seed + 1, 5_000, 20),
        stop(seed + 2, workers=1),
        stop(seed + 3, workers=2),
        soak(seed + 4, max(10.0, minutes * 60 - OTHER_RUNS)),
    ]
    well = True
    for run in runs:
        report = await run
        print(report, flush=True)  # noqa: T201
        well = well and not report.problems
    return well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeat the faults of another run")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    given = parser.parse_args()
    chosen = given.seed if given.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {chosen}; again with: make chaos CHAOS_ARGS='--seed {chosen}'", flush=True)  # noqa: T201
    sys.exit(0 if asyncio.run(main(chosen, given.minutes)) else 1)
