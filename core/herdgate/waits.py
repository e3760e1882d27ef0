"""Waits that may be long and nearly always end early: one look at all of them instead of a timer for each.

`asyncio.timeout` does the same with a timer on the loop, which every request would set and take back.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

LOOK_EVERY = 0.25
"""Seconds between two looks at which waits are over: as late as that one may end."""


class Wait:
    """`with waits.until(due) as wait:` raises TimeoutError when the time is over, or `end` was called.

    `due` is when, on the loop's clock; it may be moved.
    """

    __slots__ = ("_before", "_ended", "_task", "_waits", "due")

    def __init__(self, waits: Waits, due: float) -> None:
        self.due = due
        self._waits = waits
        self._ended = False

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._waits.loop)
        if task is None:
            raise RuntimeError("a wait belongs to a task")
        self._task = task
        self._before = task.cancelling()
        self._waits.running.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._waits.running.discard(self)
        if self._ended and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end(self) -> None:
        """Let it be over now."""
        self._waits.loop.call_soon(self.expire)

    def expire(self) -> None:
        """Break it off, if it still goes on; not to be called by the task that waits."""
        if self in self._waits.running and not self._ended:
            self._ended = True
            self._task.cancel()


class Waits:
    """The waits of one process, made in its event loop; `watch` looks after them."""

    __slots__ = ("loop", "running")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()  # asked once: on Python 3.11 each time is a system call
        self.running: set[Wait] = set()

    def until(self, due: float) -> Wait:
        """A wait that may last until then, on the loop's clock."""
        return Wait(self, due)

    async def watch(self) -> None:
        """End what is overdue, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = self.loop.time()
            for wait in [each for each in self.running if each.due <= now]:
                wait.expire()
