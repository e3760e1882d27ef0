"""One exchange on a Sanic connection: reads the body as far as is wanted, writes the reply, keeps or closes the
connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from pydantic import SecretStr
from sanic import Request
from sanic.exceptions import BadRequest, PayloadTooLarge
from sanic.http import Stage
from sanic.response import BaseHTTPResponse

from herdgate.access import Credentials
from herdgate.bodybudget import BodyBudget, OutOfMemory
from herdgate.errors import Halt, Reply, error_reply
from herdgate.exchange import Exchange
from herdgate.front import wire
from herdgate.responder import BodyTooLarge

SILENCE = 60.0
"""Seconds that a caller may be silent while its body is read."""
DRAINED = 64 * 1024
"""A body up to this size that nobody read is read after all, so that the connection can be used again."""
LINGER = 1.0
"""Seconds that draining may take."""
TOO_MANY = "server busy, please try again: too many large requests at once"


class Written(BaseHTTPResponse):
    """Tells Sanic that a reply was sent here: what it would do with a response of its own is already done."""

    def __init__(self, status: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.status = status

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:
        """Nothing is left to send."""


class SanicResponder:
    """The pipeline's view of one Sanic request."""

    def __init__(self, request: Request, exchange: Exchange, budget: BodyBudget) -> None:
        self._request = request
        self._exchange = exchange
        self._stream: Any = request.stream
        self._connection: Any = request.protocol
        self._budget = budget
        self._held = 0
        self._chunked = True
        self.credentials = _credentials(request)

    def header(self, name: str) -> str | None:
        """A header of the request; the first one if there are several."""
        value: str | None = self._request.headers.get(name)
        return value

    @property
    def query(self) -> str:
        """What follows the path's `?`, as it was sent."""
        raw: bytes = self._request.raw_url
        return raw.partition(b"?")[2].decode("latin-1")

    # reading

    @property
    def length(self) -> int | None:
        """Bytes of the body as the head gives them; None if it is chunked."""
        stream = self._stream
        if not stream.request_body:
            return 0
        size: int | None = stream.request_bytes if stream.request_body is True else None
        return size

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; nothing of it is held. A caller that stops sending gets 408."""
        stream = self._stream
        if stream.request_body and stream.request_body is not True:
            self._close_afterwards()
        stream.request_max_size = float("inf")
        try:
            while stream.request_body:
                async with asyncio.timeout(SILENCE):
                    data = await stream.read()
                if data:
                    yield data
        except BadRequest:
            raise self._refused(400, "the request body is not chunked as HTTP demands") from None
        except TimeoutError:
            self._close_afterwards()
            raise self._refused(408, "request body was not sent in time") from None
        self._connection.transport.resume_reading()  # as after a large body that was read at once

    async def body(self, limit: int) -> bytes:
        """The whole body, of `limit` bytes at most. A caller that stops sending gets 408."""
        stream = self._stream
        if not stream.request_body:
            return b""
        if stream.request_body is True and stream.request_bytes > limit:
            raise BodyTooLarge
        if stream.request_body is not True:
            self._close_afterwards()  # Sanic reads chunks leniently: what follows them may have been meant as a part
        stream.request_max_size = limit + 1
        try:
            return await self._read_body(limit)
        except PayloadTooLarge:
            raise BodyTooLarge from None
        except BadRequest:
            raise self._refused(400, "the request body is not chunked as HTTP demands") from None
        except OutOfMemory:
            raise self._refused(503, TOO_MANY) from None
        except TimeoutError:
            self._close_afterwards()
            raise self._refused(408, "request body was not sent in time") from None

    def release(self) -> None:
        """The request has ended: its body is held no longer."""
        self._budget.give_back(self._held)
        self._held = 0

    def hold(self, size: int) -> None:
        """Count what was made of the body, too."""
        try:
            self._hold(size)
        except OutOfMemory:
            raise self._refused(503, TOO_MANY) from None

    def _hold(self, size: int) -> None:
        self._budget.take(size)
        self._held += size

    def _refused(self, status: int, message: str) -> Halt:
        headers = {"retry-after": "1"} if status == 503 else {}
        identity = self._exchange.id
        return Halt(error_reply(self._exchange.family, status, message, request_id=identity, headers=headers))

    async def _read_body(self, limit: int) -> bytes:
        """A body of known length is counted as a whole before any of it is read."""
        stream = self._stream
        counted = stream.request_body is True
        if counted:
            self._hold(stream.request_bytes)
        if stream.request_body is True and len(stream.recv_buffer) >= stream.request_bytes_left:
            return await self._buffered_body()
        parts: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SILENCE) as silence:
            async for data in stream:
                parts.append(data)
                size += len(data)
                if size > limit:
                    raise BodyTooLarge
                if not counted:
                    self._hold(len(data))
                silence.reschedule(loop.time() + SILENCE)
        # Sanic pauses a connection whose request was large, and would not see the caller leave while it is paused.
        self._connection.transport.resume_reading()
        return b"".join(parts)

    async def _buffered_body(self) -> bytes:
        """The body when all of it has come with the headers, as it mostly has: nothing is waited for, so no timer is
        needed.
        """
        data: bytes = await self._stream.read() or b""
        await self._stream.read()  # says that this was all
        return data

    async def _settle_unread_body(self) -> None:
        """Before a reply: make the connection reusable if what is left of the body is small, else have it closed."""
        stream = self._stream
        if not stream.request_body or not stream.keep_alive:
            return
        if stream.request_body is True and stream.request_bytes <= DRAINED and not stream.expecting_continue:
            stream.request_max_size = DRAINED
            try:
                async with asyncio.timeout(LINGER):
                    async for _ in stream:
                        pass
                return
            except TimeoutError:
                pass
        self._close_afterwards()

    def _close_afterwards(self) -> None:
        self._stream.keep_alive = False

    # writing

    async def reply(self, reply: Reply) -> None:
        """Send a complete reply in one write."""
        await self._settle_unread_body()
        headers = dict(reply.headers)
        if reply.status not in wire.BODILESS:
            headers["content-length"] = str(len(reply.body))
        bodiless = self._request.method == "HEAD" or reply.status in wire.BODILESS
        await self._write_head(reply.status, headers, b"" if bodiless else reply.body)
        await self._finish()

    async def begin(self, status: int, headers: Mapping[str, str], first: bytes) -> None:
        """Send the head and the first bytes in one write. HTTP/1.0 knows no chunks: there the body ends with the
        connection.
        """
        await self._settle_unread_body()
        self._chunked = self._request.version == "1.1"
        framed = dict(headers)
        if self._chunked:
            framed["transfer-encoding"] = "chunked"
        else:
            self._close_afterwards()
        await self._write_head(status, framed, self._framed(first))

    async def write(self, data: bytes) -> None:
        """Send more of the body."""
        await self._connection.send(self._framed(data))

    def push(self, data: bytes) -> None:
        """Send more of the body at once, however much is still unsent; nothing once the caller has left."""
        transport = self._connection.transport
        if transport is not None:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def watch_flow(self, on_full: Callable[[], None] | None, on_ready: Callable[[], None] | None) -> None:
        """Have the connection report when the caller stops and starts reading."""
        self._connection.watch_flow(on_full, on_ready)

    async def end(self) -> None:
        """End the body."""
        if self._chunked:
            await self._connection.send(wire.LAST_CHUNK)
        await self._finish()

    def cut(self) -> None:
        """Close the connection once what was written has gone out, without the end of the body."""
        self._close_afterwards()
        self._stream.stage = Stage.FAILED
        self._stream.request_body = None
        self._connection.close()

    def _framed(self, data: bytes) -> bytes:
        return wire.chunk(data) if self._chunked else data

    async def _write_head(self, status: int, headers: dict[str, str], body: bytes) -> None:
        stream = self._stream
        stream.respond(Written(status))
        stream.expecting_continue = False
        headers["x-request-id"] = self._exchange.id
        headers.update(self._request.ctx.cors)
        head = wire.head(status, headers, keep_alive=stream.keep_alive)
        stream.stage = Stage.RESPONSE
        await self._connection.send(head + body)

    async def _finish(self) -> None:
        """The reply is complete. A body that was too large to drain gets a moment, so that the caller can read the
        reply.
        """
        stream = self._stream
        stream.stage = Stage.IDLE
        if stream.request_body:
            try:
                async with asyncio.timeout(LINGER):
                    stream.request_max_size = float("inf")
                    async for _ in stream:
                        pass
            except (TimeoutError, BadRequest):
                pass
            stream.request_body = None


def _credentials(request: Request) -> Credentials:
    """The key from `Authorization: Bearer` or `x-api-key`. Given twice and different, the Authorization header
    counts.
    """
    authorization: str | None = request.headers.get("authorization")
    key: str | None = None
    if authorization is not None:
        scheme, _, rest = authorization.partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" else None
    key = key or request.headers.get("x-api-key")
    return Credentials(
        key=SecretStr(key) if key else None,
        authorization=SecretStr(authorization) if authorization is not None else None,
    )
