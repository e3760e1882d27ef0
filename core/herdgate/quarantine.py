"""Leave a plugin out for a while that keeps failing in a hook where requests go on without it.

Such a hook is tolerant: it only observes, or the plugin declared itself advisory. Nobody is ever left out of a closed
hook, where a missing answer would let somebody in.

Whoever never fails costs nothing here. From its first fault on a plugin is on trial in that hook: its calls are
counted, and when too many of them fail, its hook point goes on without it until a timer brings it back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

log = logging.getLogger("herdgate.plugins")

FAULTS = 5
"""Faults within a trial after which a plugin is left out, if they are at least half of its calls."""
TRIAL = 60.0
"""Seconds after which the faults before count no more."""
PAUSE = 10.0
"""Seconds for which a plugin is left out the first time; doubled each time that it fails again at once."""
LONGEST = 600.0
"""Seconds to which that grows."""


class Compiled(Protocol):
    """What is to be known of a hook point: its name, and whom it asks, each with a `plugin` and a `call`."""

    hook: str
    impls: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A plugin that is not asked at the moment, after so many faults. `until` is in seconds since 1970.

    What went wrong stands in the log: the words of an exception may hold what only the log knows to mask.
    """

    plugin: str
    hook: str
    until: float
    faults: int


@dataclass(slots=True)
class _Trial:
    since: float
    calls: int = 0
    faults: int = 0
    times_out: int = 0
    out: LeftOut | None = None
    timer: asyncio.TimerHandle | None = None

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:
            self.calls += 1
            return call(*args)

        return counting

    def begin(self, now: float) -> None:
        """Forget what was, but for how often the plugin has already been left out."""
        self.since, self.calls, self.faults = now, 0, 0

    @property
    def failed(self) -> bool:
        """Whether this is too much. Who has just come back has less credit."""
        return self.faults >= (1 if self.times_out else FAULTS) and self.faults * 2 >= self.calls


@dataclass(slots=True)
class _Ward:
    """One hook point, everybody whom it would ask, and who of them is on trial."""

    point: Compiled
    everybody: tuple[Any, ...]
    trials: dict[str, _Trial] = field(default_factory=dict)

    def arrange(self) -> None:
        """Have the point ask everybody, in the operator's order, who is not left out."""
        self.point.impls = tuple(impl for impl in self.everybody if not self._is_out(impl.plugin))

    def _is_out(self, plugin: str) -> bool:
        trial = self.trials.get(plugin)
        return trial is not None and trial.out is not None

    def try_(self, plugin: str, now: float) -> _Trial:
        """Put a plugin on trial; the call that has just failed is its first."""
        trial = self.trials[plugin] = _Trial(now, calls=1)
        self.everybody = tuple(
            replace(impl, call=trial.counted(impl.call)) if impl.plugin == plugin else impl for impl in self.everybody
        )
        self.arrange()
        return trial


class Quarantine:
    """Who is left out of which hook of one gateway process.

    `times` counts how often that happened, by plugin and hook. `on_change` is told of everybody who leaves or returns;
    the flag says which.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.times: Counter[tuple[str, str]] = Counter()
        self.on_change: Callable[[LeftOut, bool], object] = lambda _left, _out: None
        self._clock = clock
        self._wards: dict[str, _Ward] = {}
        self._closed = False

    @property
    def left_out(self) -> list[LeftOut]:
        """Everybody who is left out now."""
        return [trial.out for ward in self._wards.values() for trial in ward.trials.values() if trial.out]

    def failed(self, point: Compiled, plugin: str, why: str) -> None:
        """Note a fault in a tolerant hook; leave the plugin out if it was one too many."""
        ward = self._wards.get(point.hook)
        if ward is None:
            ward = self._wards[point.hook] = _Ward(point, point.impls)
        now = self._clock()
        trial = ward.trials.get(plugin) or ward.try_(plugin, now)
        if trial.out is not None:  # a call that began before
            return
        if now - trial.since > TRIAL:
            trial.begin(now)
            trial.calls, trial.times_out = 1, 0
        trial.faults += 1
        if trial.failed:
            self._leave_out(ward, trial, plugin, why)

    def _leave_out(self, ward: _Ward, trial: _Trial, plugin: str, why: str) -> None:
        if self._closed:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no gateway runs, so nobody could bring it back
            return
        hook = ward.point.hook
        pause = min(LONGEST, PAUSE * 2.0**trial.times_out)
        left = trial.out = LeftOut(plugin, hook, time.time() + pause, trial.faults)
        trial.times_out += 1
        self.times[plugin, hook] += 1
        ward.arrange()
        log.warning("plugin %s is left out of %s for %g s: it keeps failing (%s)", plugin, hook, pause, why)
        trial.timer = loop.call_later(pause, self._bring_back, ward, trial)
        self.on_change(left, True)

    def close(self) -> None:
        """Tell that nobody is left out here any more, and let no timer hold what has ended."""
        self._closed = True
        for trial in [trial for ward in self._wards.values() for trial in ward.trials.values()]:
            left, trial.out = trial.out, None
            if trial.timer is not None:
                trial.timer.cancel()
            if left is not None:
                self.on_change(left, False)

    def _bring_back(self, ward: _Ward, trial: _Trial) -> None:
        left, trial.out = trial.out, None
        if left is None:
            return
        trial.begin(self._clock())
        ward.arrange()
        log.info("plugin %s is asked in %s again", left.plugin, left.hook)
        self.on_change(left, False)
