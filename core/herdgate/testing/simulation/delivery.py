"""Carries out the steps of a reply on a connection."""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from herdgate.testing.simulation.connection import Connection
from herdgate.testing.simulation.http1 import RequestHead
from herdgate.testing.simulation.parts import Break, End, Endless, Event, Flush, Head, Part, Parts, Pause, Raw, Torn

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Delivery:
    """One reply on its way out. Bytes wait until a step flushes them: the head goes out with the first event."""

    def __init__(self, connection: Connection, request: RequestHead, thawed: asyncio.Event) -> None:
        self._connection = connection
        self._request = request
        self._thawed = thawed
        self._waiting = bytearray()
        self._chunked = False
        self._keep = request.keeps_alive
        self.started = False
        """Whether any byte was written."""

    async def run(self, parts: Parts, on_event: Callable[[], None]) -> bool:
        """Send everything; True if the connection may be used again. Raises ClientLeft."""
        for part in parts:
            if isinstance(part, Break):
                self._connection.reset() if part.how == "reset" else self._connection.close()
                return False
            await self._step(part)
            if isinstance(part, Event) and part.whole:
                on_event()
        return self._keep

    async def _step(self, part: Part) -> None:
        match part:
            case Head():
                self._waiting += self._head(part)
            case Pause(seconds, until):
                await self._connection.pause(seconds, until)
            case Flush():
                await self._flush()
            case Raw(data):
                await self._flush(data)
            case Event(data):
                await self._flush(self._framed(data))
            case Torn(data):
                framed = self._framed(data)
                await self._flush(framed[: (len(framed) + 1) // 2])
            case Endless(data):
                while True:
                    await self._flush(self._framed(data))
            case End():
                await self._flush(b"0\r\n\r\n" if self._chunked else b"")

    def _head(self, head: Head) -> bytes:
        bodiless = self._request.method == "HEAD" or head.status in (204, 304)
        self._chunked = head.length is None and self._request.minor == 1 and not bodiless
        self._keep = self._keep and (self._chunked or head.length is not None or bodiless)
        headers = [*head.headers, ("Date", formatdate(usegmt=True))]
        if self._chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif head.length is not None and head.status != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", str(head.length)))
        if not self._keep:
            headers = [*(header for header in headers if header[0] != "Connection"), ("Connection", "close")]
        first = f"HTTP/1.{self._request.minor} {head.status} {_REASONS.get(head.status, f'status code {head.status}')}"
        lines = [first, *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")

    def _framed(self, data: bytes) -> bytes:
        if self._request.method == "HEAD" or not data:  # an empty chunk would be the end of the body
            return b""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    async def _flush(self, data: bytes = b"") -> None:
        self._waiting += data
        if not self._thawed.is_set():
            await self._connection.pause(until=self._thawed)
        if self._waiting:
            self.started = True
            await self._connection.write(bytes(self._waiting))
            self._waiting.clear()
