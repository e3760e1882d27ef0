"""One TCP connection of a simulated backend: reads on the strict side, and sees at once that the client left.

A protocol of its own instead of asyncio's streams, because a stream reader stops reading when its buffer is full and
then does not see the end of the connection.
"""

import asyncio
import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast

from herdgate.testing.simulation.http1 import LONGEST_HEAD, ChunkedBody, Malformed, RequestHead, parse_head


class ClientLeft(Exception):  # noqa: N818
    """The client closed (or half-closed: to Ollama that is the same) or reset the connection."""


class Connection(asyncio.Protocol):
    """A connection as its serving task sees it: every wait ends with ClientLeft when the client leaves."""

    def __init__(self, opened: Callable[["Connection"], None], closed: Callable[["Connection"], None]) -> None:
        self._opened = opened
        self._closed = closed
        self._buffer = bytearray()
        self._arrival: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self.number = 0
        self.left_at: float | None = None
        """When the client was seen leaving, or this side broke the connection off."""
        self.broken_off = False
        """Whether this side ended the connection while a reply was under way."""

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        # So that `write` returns when the kernel has everything; with 0, TLS would pause for ever (CPython 3.11).
        self._transport.set_write_buffer_limits(high=1 if self._is_tls else 0)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came; there is no limit, so that reading never pauses."""
        self._buffer += data
        _wake(self._arrival)

    def eof_received(self) -> bool:
        """The client will send nothing more. The other direction stays open for a last word."""
        self._leave()
        return not self._is_tls

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The connection is over, whoever ended it."""
        self._leave()
        self._closed(self)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Everything was taken."""
        _wake(self._writable)
        self._writable = None

    @property
    def _is_tls(self) -> bool:
        return self._transport.get_extra_info("ssl_object") is not None

    def _leave(self) -> None:
        if self.left_at is None:
            self.left_at = self._loop.time()
        _wake(self._gone)

    # what the serving task calls

    async def read_head(self) -> RequestHead:
        """The next request's head. Raises ClientLeft, Malformed."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > LONGEST_HEAD:
                raise Malformed("the header block is longer than 1 MiB", 431)
            await self._more()
        raw = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return parse_head(raw)

    async def read_body(self, head: RequestHead, into: Callable[[bytes], None]) -> None:
        """Read the body, reporting to ``into`` whatever of it there is at the end. Raises ClientLeft, Malformed."""
        if head.expects_continue and not self._buffer:
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.length is None:
            await self._read_chunked(into)
        else:
            await self._read_counted(head.length, into)

    async def _read_chunked(self, into: Callable[[bytes], None]) -> None:
        chunked = ChunkedBody()
        try:
            chunked.feed(self._buffer)
            while not chunked.done:
                await self._more()
                chunked.feed(self._buffer)
        finally:
            into(bytes(chunked.body))

    async def _read_counted(self, length: int, into: Callable[[bytes], None]) -> None:
        try:
            while len(self._buffer) < length:
                await self._more()
        finally:
            into(bytes(self._buffer[:length]))
            del self._buffer[:length]

    async def pause(self, seconds: float | None = None, until: asyncio.Event | None = None) -> None:
        """Wait for a time or for an event, for ever with neither. Raises ClientLeft."""
        if until is not None:
            await self._until(until)
        elif seconds == 0:
            await asyncio.sleep(0)
        else:
            await asyncio.wait([self._gone], timeout=seconds)
        self._check()

    async def write(self, data: bytes) -> None:
        """Send; returns when the kernel took everything. Raises ClientLeft."""
        self._check()
        self._transport.write(data)
        writable = self._writable
        if writable is None:
            await asyncio.sleep(0)  # a reader that is always quick enough must not keep the loop from everybody else
            return  # even if the client left meanwhile: it may have read everything, and that was all
        await asyncio.wait([self._gone, writable], return_when=asyncio.FIRST_COMPLETED)
        if not writable.done():
            raise ClientLeft

    def stop_reading(self) -> None:
        """Leave what the client still sends in the kernel. Its leaving goes unseen from now on."""
        self._transport.pause_reading()

    def last_word(self, data: bytes) -> None:
        """Write to a client that left, in case it only half-closed."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End the connection with FIN, after what was written."""
        self._transport.close()

    def reset(self) -> None:
        """End the connection with RST."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def abort(self) -> None:
        """End the connection as the death of the process would."""
        self.broken_off = True
        self._transport.abort()

    async def _more(self) -> None:
        self._check()
        self._arrival = self._loop.create_future()
        await asyncio.wait([self._gone, self._arrival], return_when=asyncio.FIRST_COMPLETED)
        if not self._arrival.done():
            raise ClientLeft

    async def _until(self, event: asyncio.Event) -> None:
        if event.is_set():
            return
        waiting: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait([self._gone, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    def _check(self) -> None:
        if self._gone.done():
            raise ClientLeft


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
