"""Small messages on many connections that go out one right after the other.

A write wakes whoever reads at the other end, which takes more time than all that the gateway has to do for a chunk.
One who is awake already, because the message on another connection has just come, need not be woken again. So while
there is much to do, what one turn of the event loop brings goes out together at its end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger("herdgate")

FEW = 4
"""Fewer messages in one turn than this are not worth the wait."""
AT_ONCE = 200
"""Messages that then go out at once, until it is tried again whether there are more of them in one turn."""


class Wire(Protocol):
    """Who is given the message when its time has come: an asyncio.Transport, or what behaves like one here."""

    def is_closing(self) -> bool:
        """Whether the connection has become unfit for the message in the meantime."""

    def write(self, data: bytes) -> None:
        """Write it."""


class Outbox:
    """What is to be written on the connections of one event loop, in the order in which it was given.

    What is given within a turn of the loop is written before any task goes on that is woken later in that turn.
    """

    __slots__ = ("_at_once", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[Wire, bytes]] = []
        self._at_once = 0

    def write(self, wire: Wire, data: bytes) -> None:
        """Write this now or at the end of the turn, unless the wire has been closed by then."""
        if not self._waiting:
            if self._at_once:
                self._at_once -= 1
                if not wire.is_closing():
                    wire.write(data)
                return
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((wire, data))

    def flush(self) -> None:
        """Write what waits; to be called before anything is written past the outbox on a connection that uses it."""
        waiting, self._waiting = self._waiting, []
        if 0 < len(waiting) < FEW:
            self._at_once = AT_ONCE
        for wire, data in waiting:
            try:
                if not wire.is_closing():
                    wire.write(data)
            except Exception:  # it must not keep from the others what is theirs
                log.exception("a fault of the gateway itself")


Delivery = tuple[Outbox, Wire]
"""The way to one who is sent messages."""
