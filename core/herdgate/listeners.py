"""The listening sockets of several workers on one port.

On Linux each worker has a socket of its own (SO_REUSEPORT), and the kernel spreads connections over them. With one
socket for all, whichever worker wakes first takes a whole burst of connections: 64 at once all went to one of four
workers. The supervisor keeps the sockets open, so that when a worker dies its connections wait for the next one.
"""

from __future__ import annotations

import socket
import sys

from herdgate.listening import listen

_SPREADS = sys.platform == "linux"
"""Elsewhere SO_REUSEPORT does not spread connections, and all workers share one socket."""


class Listeners:
    """One listening socket for each of `count` workers, opened when it is first needed."""

    def __init__(self, host: str, port: int, count: int) -> None:
        """Raises CannotStart if the port cannot be had, or is in use by another gateway."""
        first = listen(host, port)
        self._host, self._port = host, first.getsockname()[1]
        self._own: list[socket.socket | None] = [None] * count
        if _SPREADS and count > 1:
            first.close()  # it only showed that the port is free: others could join a socket that allows company
            self._own[0] = listen(host, self._port, company=True)
        else:
            self._own = [first] * count

    def open(self, slot: int) -> None:
        """See to it that a worker, counted from 0, has its socket. Raises CannotStart."""
        if self._own[slot] is None:
            self._own[slot] = listen(self._host, self._port, company=True)

    def abandon(self, slot: int) -> None:
        """Give connections that would wait for this worker to the others."""
        if _SPREADS:
            self._close(slot)

    def keep_only(self, slot: int) -> socket.socket:
        """In a worker: its socket. Those of the others are closed, or they would live as long as this process."""
        kept = self._own[slot]
        assert kept is not None  # noqa: S101 - it was opened before the fork
        for other, own in enumerate(self._own):
            if own is not kept:
                self._close(other)
        return kept

    def close(self) -> None:
        """Close all."""
        for slot in range(len(self._own)):
            self._close(slot)

    def _close(self, slot: int) -> None:
        own, self._own[slot] = self._own[slot], None
        if own is not None:
            own.close()
