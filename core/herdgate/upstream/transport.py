"""The httpx transport that carries requests to backends."""

import asyncio
import ssl
from collections.abc import Mapping

import httpx

from herdgate.outbox import Outbox
from herdgate.upstream.connect import connect
from herdgate.upstream.connection import Connection
from herdgate.upstream.head import ResponseHead
from herdgate.upstream.origin import Origin
from herdgate.upstream.parser import DEFAULT_LIMITS, ResponseLimits, ResponseParser
from herdgate.upstream.pool import ConnectionPool
from herdgate.upstream.request import OutgoingRequest, encode
from herdgate.upstream.stream import BodyStream
from herdgate.upstream.tls import tls_context
from herdgate.upstream.upload import upload

Timeouts = Mapping[str, float | None]
"""Seconds for `connect`, `read` and `write`; None or absent: no limit."""

_STALE_WITHIN = 1.0
"""Seconds after which a connection that breaks without an answer was not stale when the request was sent."""


class UpstreamTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over TCP or TLS, with kept connections.

    tls: the context for https URLs; without one, the system's authorities are trusted.
    limits: how much a backend may send before its response is refused.
    idle_expiry: seconds after which an unused connection is closed.
    max_idle: unused connections kept per origin: at least as many as go back in one turn of the event loop, or
        those beyond it are opened anew in the next.

    Deadlines come with each request, in ``request.extensions["timeout"]``, in seconds, as httpx has them:
    ``connect`` for TCP and TLS together, ``write`` and ``read`` for silence. There is no limit on the number
    of connections; whoever calls decides how many requests run at a time.

    The response's ``stream`` is a ``BodyStream``. Whoever gets a response must read it to its end or ``aclose`` it.
    A cancelled call leaves nothing behind.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        limits: ResponseLimits = DEFAULT_LIMITS,
        idle_expiry: float = 30.0,
        max_idle: int = 1024,
    ) -> None:
        self._tls = tls
        self._limits = limits
        self._pool = ConnectionPool(idle_expiry, max_idle)
        self._outbox = Outbox()

    def apart(self) -> "UpstreamTransport":
        """Another transport like this one that shares none of its connections, and keeps none of its own."""
        return UpstreamTransport(tls=self._tls, limits=self._limits, max_idle=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return as soon as the head of the response is there.

        Raises the errors listed in ``herdgate.upstream.errors``.
        """
        head, stream = await self.send(Origin.of(request), encode(request), request.extensions.get("timeout", {}))
        return httpx.Response(
            head.status,
            headers=head.raw,
            stream=stream,
            extensions={
                "http_version": b"HTTP/" + head.version.encode(),
                "reason_phrase": head.reason.encode("latin-1"),
            },
        )

    async def send(
        self, origin: Origin, request: OutgoingRequest, timeout: Timeouts
    ) -> tuple[ResponseHead, BodyStream]:
        """Do the same without httpx's objects, which cost more than the rest of a small request."""
        if isinstance(request.body, bytes):
            kept = self._pool.take(origin)
            if kept is not None:
                began = kept.loop.time()
                try:
                    return await self._exchange(kept, request, timeout)
                except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    if not self._was_stale(kept, began):
                        raise
        fresh = await self._open(origin, timeout.get("connect"))
        return await self._exchange(fresh, request, timeout)

    def _was_stale(self, connection: Connection, began: float) -> bool:
        """Whether the backend turns out to have closed a kept connection, so that a fresh one may be used.

        Sending again is safe because the request cannot have been worked on: the backend closed a connection on
        which nothing was happening, and our request crossed that on its way. That is what it is when the connection
        had been used before, not one byte of a response came, and it broke at once. One that breaks later may
        have broken because of the request; then the caller decides. A body that cannot be sent twice never comes here.
        """
        late = connection.loop.time() - began > _STALE_WITHIN
        return not (connection.answered or self._pool.closed or late)

    async def aclose(self) -> None:
        """Cut every connection, those in use included."""
        await self._pool.aclose()

    async def _open(self, origin: Origin, seconds: float | None) -> Connection:
        self._refuse_if_closed(origin)
        tls = None
        if origin.scheme == "https":
            tls = self._tls or await asyncio.to_thread(tls_context)
        connection = Connection(origin, asyncio.get_running_loop(), self._pool.put, self._pool.forget, self._outbox)
        await connect(connection, tls, seconds)
        self._pool.add(connection)
        self._refuse_if_closed(origin, connection)  # aclose may have come meanwhile
        return connection

    def _refuse_if_closed(self, origin: Origin, connection: Connection | None = None) -> None:
        if self._pool.closed:
            if connection is not None:
                connection.abort()
            raise httpx.ConnectError(f"no connection to {origin}: the transport is closed")

    async def _exchange(
        self, connection: Connection, request: OutgoingRequest, timeout: Timeouts
    ) -> tuple[ResponseHead, BodyStream]:
        parser = ResponseParser(expects_body=request.expects_body, limits=self._limits)
        stream = connection.begin(parser, timeout.get("read"))
        try:
            whole = request.in_one_write()
            if whole is not None:
                connection.write_whole(whole)
            else:
                await upload(connection, stream, request, timeout.get("write"))
            return await stream.head(), stream
        except BaseException:
            stream.close()
            raise
