"""Takes in a crowd of callers at once.

uvloop accepts one connection in each turn of the loop, and between two of them serves all that are already there: of a
thousand that come in the same instant the last would wait for seconds. So when there is one, the others behind it are
taken as well.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from herdgate.descriptors import ran_out

AT_ONCE = 128
"""Connections that one turn of the loop may take; those that are served already must not wait for long either."""


class Crowd:
    """Accepts from `listener`, which a server accepts from as well; `protocol` makes the protocol of a connection.

    Only for a loop that needs it: asyncio's own takes as many as the backlog holds. The protocol must not close its
    connection in `connection_made`: uvloop learns only after that whose descriptor it closes.
    """

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._listener = listener.dup()  # a loop watches a descriptor for one reader only
        self._listener.setblocking(False)
        self._coming: set[asyncio.Task[object]] = set()
        self._loop.add_reader(self._listener, self._take)

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:  # nobody is left, or no descriptor: then libuv turns them away
                ran_out(error)
                return
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
            self._coming.add(task)
            task.add_done_callback(self._came)

    def _came(self, task: asyncio.Task[object]) -> None:
        self._coming.discard(task)
        if not task.cancelled():
            task.exception()  # it has left already

    async def close(self) -> None:
        """Take in nobody else."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        if self._coming:
            await asyncio.wait(self._coming)
