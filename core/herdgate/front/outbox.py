"""Pieces of many streams that go out one right after the other.

A write wakes whoever reads at the other end, which takes more time than all the rest of passing a chunk on. A reader of
many streams that is awake already, because the chunk of another stream has just come, need not be woken again. So
while many streams run, what one turn of the event loop brings for them goes out together at its end.
"""

from __future__ import annotations

import asyncio

FEW = 4
"""Fewer pieces in one turn than this are not worth the wait."""
AT_ONCE = 200
"""Pieces that then go out at once, until it is tried again whether there are more of them in one turn."""


class Outbox:
    """Writes for all connections of one event loop, in the order in which they were given.

    What is given within a turn of the loop is written before any task is woken by what happened in that turn.
    """

    __slots__ = ("_at_once", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._at_once = 0

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write this now or at the end of the turn."""
        if not self._waiting:
            if self._at_once:
                self._at_once -= 1
                transport.write(data)
                return
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((transport, data))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) < FEW:
            self._at_once = AT_ONCE
        for transport, data in waiting:
            if not transport.is_closing():  # its caller may have left within the turn
                transport.write(data)
