"""The connections of one transport; those without work are kept for the next request."""

import asyncio

from herdgate.descriptors import add_hoard
from herdgate.upstream.connection import Connection
from herdgate.upstream.origin import Origin

_CLOSING_TIME = 1.0
"""Seconds that ``aclose`` allows the event loop for closing sockets that were cut; it needs one or two turns."""


class ConnectionPool:
    """Knows every open connection and lends the idle ones, the most recently used first.

    expiry: seconds after which an idle connection is closed.
    max_idle: idle connections kept per origin; beyond that the one idle for longest is closed.

    All operations take constant time. The idle connections of an origin are a dict, which remembers the order
    of insertion: taking is popping from its end, and one that closes is deleted wherever it is.
    """

    def __init__(self, expiry: float, max_idle: int) -> None:
        self._expiry = expiry
        self._max_idle = max_idle
        self._open: set[Connection] = set()
        self._idle: dict[Origin, dict[Connection, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self.closed = False
        add_hoard(self)

    def take(self, origin: Origin) -> Connection | None:
        """Lend an idle connection, if there is one."""
        idle = self._idle.get(origin)
        return idle.popitem()[0] if idle else None

    def add(self, connection: Connection) -> None:
        """Take note of a new connection, which is in use."""
        self._open.add(connection)

    def put(self, connection: Connection) -> None:
        """Keep a connection whose exchange has ended."""
        idle = self._idle.setdefault(connection.origin, {})
        idle[connection] = connection.loop.time()
        if len(idle) > self._max_idle:
            next(iter(idle)).abort()
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(self._expiry, self._sweep, connection.loop)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that was closed, by whomever."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle is not None:
            idle.pop(connection, None)

    def give_up(self) -> None:
        """Close the idle connections: somebody needs their descriptors now."""
        for idle in self._idle.values():
            for connection in list(idle):
                connection.abort()

    async def aclose(self) -> None:
        """Cut all connections and wait until their sockets are closed."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.lost for connection in connections], timeout=_CLOSING_TIME)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what has been idle for too long, and come back when the next one is due."""
        self._sweeper = None
        limit = loop.time() - self._expiry
        oldest = []
        for origin, idle in list(self._idle.items()):
            for connection in [connection for connection, since in idle.items() if since <= limit]:
                connection.abort()
            if idle:
                oldest.append(next(iter(idle.values())))
            else:
                del self._idle[origin]
        if oldest:
            self._sweeper = loop.call_at(min(oldest) + self._expiry, self._sweep, loop)
