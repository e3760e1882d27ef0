"""Owned background work: every task is known, and none outlives its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("herdgate")


STUBBORN = 5.0
"""Seconds that a task may take to end once it is cancelled."""


class Tasks:
    """Starts tasks, keeps them, reports what went wrong in them, cancels and awaits them at the end."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> asyncio.Task[Any] | None:
        """Run `work` in a task of its own. After `close` nothing is started any more."""
        if self._closed:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task %s failed", task.get_name(), exc_info=error)

    async def close(self, grace: float = 0.0) -> None:
        """Give what is running `grace` seconds to finish, then cancel and await it; what will not end is named."""
        self._closed = True
        if self._running and grace:
            await asyncio.wait(self._running, timeout=grace)
        for task in tuple(self._running):
            task.cancel()
        if self._running:
            _, stuck = await asyncio.wait(self._running, timeout=STUBBORN)
            for task in stuck:
                log.error("background task %s does not end although it was cancelled", task.get_name())
