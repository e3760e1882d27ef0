"""Find out what keeps the event loop from going on, and name the plugin whose code it is.

A plain `def` that computes or waits stops every request of the process, and no deadline can interrupt it. So the loop
notes ten times a second that it is alive, and a thread looks at that note: when it is old, the thread reads the stack
of the loop's thread and looks for the code of a plugin on it.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import sys
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Self

from herdgate.faults import Ledger
from herdgate.plugincode import PluginCode

log = logging.getLogger("herdgate.plugins")

BEAT = 0.1
"""Seconds between two signs of life."""
LATE = 0.5
"""Seconds for which the loop may stand still before anybody is named."""
LOOK = 0.1
"""Seconds between two looks at the loop."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """What is on the loop's stack: the plugin, None if it is none's code; the method; the line that runs."""

    plugin: str | None
    what: str
    place: str

    def __str__(self) -> str:
        who = f"plugin {self.plugin}" if self.plugin else "no plugin, but the gateway or a library"
        return f"{who}, in {self.what} ({self.place})"


class Watchdog:
    """Watches the running loop from `__enter__` to `__exit__`, and writes into the ledger who kept it, and how long.

    During a reload several configurations are at work. `others` is the code of all of them: what one of these keeps
    the loop with is named by its own watchdog.
    """

    def __init__(self, code: PluginCode, ledger: Ledger, others: Collection[PluginCode] = ()) -> None:
        self._code = code
        self._others = others
        self._ledger = ledger
        self._beat_at = time.monotonic()
        self._followed = self._beat_at
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._loop_thread = threading.get_ident()
        self._beat_at = time.monotonic()
        self._beat(asyncio.get_running_loop())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        before, self._beat_at = self._beat_at, time.monotonic()
        if self._beat_at - before > BEAT + LATE and before != self._followed:
            seconds = self._beat_at - before
            log.warning("the event loop stood still for %.1f s, and no thread could see why: native code?", seconds)
        self._timer = loop.call_later(BEAT, self._beat, loop)

    # in the thread

    def _watch(self) -> None:
        while not self._ending.wait(LOOK):
            if self._stands_still():
                self._follow()

    def _stands_still(self) -> bool:
        return time.monotonic() - self._beat_at > BEAT + LATE

    def _follow(self) -> None:
        """Watch one standstill to its end. Who is seen twice in a row is named; once may be by accident."""
        since = self._followed = self._beat_at
        seen: Culprit | None = None
        named: Culprit | None = None
        while not self._ending.is_set() and self._beat_at == since:
            before, seen = seen, self._look()
            if named is None and seen and before and seen.plugin == before.plugin:
                named = seen
                log.error("the event loop stands still, and with it every request: %s", named)
            self._ending.wait(LOOK)
        if named is not None:
            seconds = self._beat_at - since if self._beat_at > since else time.monotonic() - since
            self._ledger.blocked[named.plugin] += seconds
            log.warning("the event loop stood still for %.1f s: %s", seconds, named)

    def _look(self) -> Culprit | None:
        """Who keeps the loop; None if it only waits for something to do, so that it is the machine that is slow, or if
        another watchdog knows.
        """
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None or frame.f_code.co_filename == selectors.__file__:
            return None
        found = self._culprit(frame)
        return None if found.plugin is None and self._known_elsewhere(frame) else found

    def _known_elsewhere(self, innermost: FrameType) -> bool:
        others = tuple(self._others)  # the loop's thread may change it
        return any(code.owners(frame.f_code) for frame in _outwards(innermost) for code in others)

    def _culprit(self, innermost: FrameType) -> Culprit:
        """The plugin nearest to what runs, with the outermost of its frames: the method that the gateway called."""
        names: frozenset[str] = frozenset()
        place, what = innermost, innermost.f_code.co_qualname
        for frame in _outwards(innermost):
            owners = self._code.owners(frame.f_code)
            if owners and not names:
                names, place = owners, frame
            if names & owners:  # of plugins that share a helper, the one that called it
                names, what = names & owners, frame.f_code.co_name
        return Culprit(" or ".join(sorted(names)) or None, what, _place(place))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"
