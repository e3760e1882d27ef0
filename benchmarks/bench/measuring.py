"""One measurement: the load, the CPU time it cost, and whether something else disturbed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load import LoadError
from bench.phases import Figures
from bench.processes import Disturbance, Program
from bench.results import NOISE, Measurement

_QUIET = 0.08  # cores; what is busy with less counts as idle
_LOOK = 0.25  # seconds
_LONGEST_WAIT = 5.0  # seconds to become idle


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

    First it waits, for a short time, until the programs have ended what an earlier load left them to do, and, with more
    than one attempt, until the rest of the machine is idle.
    """
    tried: list[Measurement] = []
    most = attempts if work.repeatable else 1
    while len(tried) < most and all(m.foreign > NOISE and not m.overrun for m in tried):
        _settle(work, everything=attempts > 1)
        tried.append(_once(work))
    return min(tried, key=lambda m: (m.overrun, m.foreign))


def _once(work: Work) -> Measurement:
    watch = Disturbance(work.programs())
    try:
        figures = work.make()
    except LoadError as failure:
        return Measurement({}, error=_explained(failure, work.under))
    foreign = watch.end()
    if work.under:
        figures |= _cost(figures, watch.cpu[0], watch.seconds)
    return Measurement({name: round(value, 4) for name, value in figures.items()}, round(foreign, 3))


def _explained(failure: LoadError, program: Program | None) -> str:
    """What went wrong, and first of all whether the program still runs."""
    if program and program.exit_status is not None:
        return f"its process has ended with status {program.exit_status}; {failure}"
    return str(failure)


def _cost(figures: Figures, cpu: float, seconds: float) -> Figures:
    """CPU time by chunk if there are any, else by request; and how much of its core the program used on average."""
    done = figures.get("chunks") or figures["requests"]
    return {"cpu_us": cpu * 1e6 / done, "core": cpu / seconds} if done else {}


def _settle(work: Work, *, everything: bool) -> None:
    end = time.monotonic() + _LONGEST_WAIT
    while time.monotonic() < end:
        watch = Disturbance(work.programs())
        time.sleep(_LOOK)
        foreign = watch.end()
        if sum(watch.cpu) < _QUIET * watch.seconds and (foreign < _QUIET or not everything):
            return
