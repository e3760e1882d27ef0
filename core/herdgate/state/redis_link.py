"""Calls to a Redis server that may be dead, frozen or slow: each ends in time, and callers do not queue for silence."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from herdgate.state import CALL_LIMIT
from herdgate.state.breaker import Breaker
from herdgate.state.place import RedisPlace
from herdgate.state.redis_error import NO_ANSWER, explain, is_outage
from herdgate.state.unavailable import StateUnavailable

CONNECTIONS = 16
"""Connections at most, and so calls under way; further calls wait for one of these to end."""

TIMEOUT = 0.4
"""Seconds for a connection to be made, and for one reply."""

_CLOSED = "it was closed"
_PERHAPS_DONE = "; as for the change, it may have been made all the same"

Work = Callable[[Redis], Awaitable[Any]]


class RedisLink:
    """The connections to one server. They come back by themselves when the server does."""

    def __init__(self, place: RedisPlace) -> None:
        self.redis = Redis(connection_pool=_pool(place))
        self._name = str(place)
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._attempts: set[asyncio.Task[Any]] = set()
        self._breaker = Breaker()
        self._trouble = ""
        self._closed = False

    async def call(self, work: Work, *, changes: bool = False) -> Any:
        """Do the work, which `changes` something or only reads, on a connection, and return what it returns, all within
        `CALL_LIMIT`.

        Raises `StateUnavailable`.
        """
        deadline = time.monotonic() + CALL_LIMIT
        unsure = _PERHAPS_DONE if changes else ""
        await self._take_slot()
        started = time.monotonic()
        # In a task of its own, because redis-py may go on for a while after it was cancelled.
        attempt = asyncio.create_task(self._attempt(work, unsure))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._ended)
        try:
            await asyncio.wait({attempt}, timeout=deadline - started)
            if attempt.done() and not attempt.cancelled():  # cancelled: closed meanwhile
                return attempt.result()
        finally:
            attempt.cancel()
        if self._closed:
            raise self.unavailable(_CLOSED)
        self._failed(NO_ANSWER, started)
        raise self.unavailable(NO_ANSWER + unsure)

    def unavailable(self, why: str) -> StateUnavailable:
        """Return the error that says why this server cannot be used."""
        return StateUnavailable(f"the state at {self._name} cannot be used: {why}")

    async def close(self) -> None:
        """Close all connections, giving up the calls under way. Takes at most two seconds, whatever the server does."""
        self._closed = True
        for attempt in self._attempts:
            attempt.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=CALL_LIMIT)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CALL_LIMIT):
                await self.redis.aclose(close_connection_pool=True)

    async def _take_slot(self) -> None:
        try:
            async with asyncio.timeout(CALL_LIMIT):
                await self._slots.acquire()
        except TimeoutError:
            raise self.unavailable("too many calls wait for it") from None

    def _ended(self, attempt: asyncio.Task[Any]) -> None:
        self._attempts.discard(attempt)
        self._slots.release()
        if not attempt.cancelled():
            attempt.exception()  # seen, even if the caller is gone

    async def _attempt(self, work: Work, unsure: str) -> Any:
        if self._closed:
            raise self.unavailable(_CLOSED)
        started = time.monotonic()
        if not self._breaker.allows(started):
            raise self.unavailable(f"{self._trouble} (it will be tried again in a moment)")
        try:
            result = await work(self.redis)
        except (RedisError, OSError) as error:
            why = explain(error)
            if is_outage(error):
                self._failed(why, started)
            raise self.unavailable(why + (unsure if why == NO_ANSWER else "")) from None
        self._breaker.succeeded()
        return result

    def _failed(self, why: str, started: float) -> None:
        self._trouble = why
        self._breaker.failed(started, time.monotonic())


def _pool(place: RedisPlace) -> ConnectionPool:
    options: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "db": place.database,
        "username": place.username,
        "password": place.password.get_secret_value() if place.password else None,
        "protocol": 2,  # RESP3 would cost another exchange at each connect and gain nothing here
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        **dict(place.tls_files),
    }
    kind = SSLConnection if place.tls else Connection
    return ConnectionPool(connection_class=kind, max_connections=CONNECTIONS, **options)
