"""Tasks that plugins started and never ended: cancelled and named when the gateway stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from typing import Any
from weakref import WeakSet

from herdgate.plugincode import PluginCode

log = logging.getLogger("herdgate.plugins")

STUBBORN = 1.0
"""Seconds that they may take to end once they are cancelled."""


class Leaks:
    """Knows which tasks there were when plugins were started: whatever runs their code after their end and is not among
    them has no owner.

    When a configuration is reloaded, two sets of plugins run at a time, mostly of the same code. Then only what was
    there before the second one is the first one's for sure; the rest is found when the gateway stops.
    """

    def __init__(self, code: PluginCode, *, beside_others: bool = False) -> None:
        self._code = code
        self._before = WeakSet(asyncio.all_tasks())
        self._until: Collection[asyncio.Task[Any]] | None = () if beside_others else None

    def alone(self, before: Leaks) -> None:
        """These plugins take over from those."""
        self._until, before._until = None, self._before

    async def end(self) -> None:
        """Cancel what is left, wait for it, and say whose it was."""
        leaked = dict(self._leaked())
        for task, plugin in leaked.items():
            log.warning("plugin %s left the task %s behind (%s): cancelled", plugin, task.get_name(), _what(task))
            task.cancel()
        if leaked:
            _, stuck = await asyncio.wait(leaked, timeout=STUBBORN)
            for task in stuck:
                log.error("the task %s of plugin %s does not end although it was cancelled", task, leaked[task])

    def _leaked(self) -> Iterator[tuple[asyncio.Task[Any], str]]:
        for task in asyncio.all_tasks():
            if task is asyncio.current_task() or task in self._before:
                continue
            if self._until is not None and task not in self._until:
                continue
            code = getattr(task.get_coro(), "cr_code", None)
            if code is not None and (owners := self._code.owners(code)):
                yield task, " or ".join(sorted(owners))


def _what(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "")
