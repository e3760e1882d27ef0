"""One measurement: the load, the CPU time it cost, and whether something else disturbed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load import LoadError
from bench.phases import Figures
from bench.processes import Disturbance, Program
from bench.results import NOISE, Measurement

_QUIET = 0.08  # cores; a machine that is busy with less counts as idle
_LOOK = 0.3  # seconds
_LONGEST_WAIT = 5.0  # seconds for the machine to become idle


@dataclass(frozen=True)
class Work:
    """A load to measure, the program under it (None: the backend itself), and the backends behind that."""

    make: Callable[[], Figures]
    under: Program | None
    behind: Sequence[Program]
    repeatable: bool = True

    def programs(self) -> list[Program]:
        """All of them, the one under the load first."""
        return [*([self.under] if self.under else []), *self.behind]


def measured(work: Work, attempts: int) -> Measurement:
    """Measure it, again if it was disturbed, at most `attempts` times; the least disturbed measurement counts.

    With more than one attempt it first waits, for a short time, until the machine is idle.
    """
    tried: list[Measurement] = []
    most = attempts if work.repeatable else 1
    while len(tried) < most and all(m.foreign > NOISE for m in tried):
        if attempts > 1:
            _wait_for_quiet(work)
        tried.append(_once(work))
    return min(tried, key=lambda m: (bool(m.error), m.foreign))


def _once(work: Work) -> Measurement:
    watch = Disturbance(work.programs())
    try:
        figures = work.make()
    except LoadError as failure:
        return Measurement({}, error=str(failure))
    foreign = watch.end()
    if work.under:
        figures |= _cost(figures, watch.cpu[0], watch.seconds)
    return Measurement({name: round(value, 4) for name, value in figures.items()}, round(foreign, 3))


def _cost(figures: Figures, cpu: float, seconds: float) -> Figures:
    """CPU time by chunk if there are any, else by request; and how much of its core the program used on average."""
    done = figures.get("chunks") or figures["requests"]
    return {"cpu_us": cpu * 1e6 / done, "core": cpu / seconds} if done else {}


def _wait_for_quiet(work: Work) -> None:
    end = time.monotonic() + _LONGEST_WAIT
    while time.monotonic() < end:
        watch = Disturbance(work.programs())
        time.sleep(_LOOK)
        if watch.end() < _QUIET:
            return
