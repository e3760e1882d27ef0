"""A client that sees the very bytes: one connection, what is sent as it is written, replies cut where HTTP says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from herdgate.testing.gateway import RunningGateway

WITHIN = 10.0

_DATE = re.compile(rb"(?<=\r\ndate: )[^\r]*")
_REQUEST_ID = re.compile(rb"(?<=\r\nx-request-id: )[^\r]*")


@dataclass(frozen=True)
class Raw:
    """One reply as it came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        """The value of a header, None without it. Fails if it is there twice."""
        fields = [line.partition(b": ") for line in self.head.split(b"\r\n")[1:]]
        values = [value.decode() for key, _, value in fields if key == name.encode()]
        assert len(values) <= 1
        return values[0] if values else None

    @property
    def undated(self) -> bytes:
        """The whole reply without what may differ from one to the next: the date and the request id."""
        head = _DATE.sub(b"DATE", self.head)
        if found := _REQUEST_ID.search(head):
            head, body = _REQUEST_ID.sub(b"ID", head), self.body.replace(found[0], b"ID")
        else:
            body = self.body
        return head + body


class Connection:
    """One connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Raw:
        """Send one request and read its reply. A body that is not bytes is sent as JSON."""
        self.send(request(method, path, body, headers))
        return await self.reply(bodiless=method == "HEAD")

    async def reply(self, *, bodiless: bool = False) -> Raw:
        """The next reply."""
        async with asyncio.timeout(WITHIN):
            head = await self._reader.readuntil(b"\r\n\r\n")
            raw = Raw(head, b"")
            if bodiless or raw.status in {100, 204, 304}:
                return raw
            if (length := raw.header("content-length")) is not None:
                return Raw(head, await self._reader.readexactly(int(length)))
            if raw.header("transfer-encoding") == "chunked":
                return Raw(head, await self._chunks())
            return Raw(head, await self._reader.read())

    async def next(self, *, bodiless: bool = False) -> Raw | None:
        """The next reply; None if the gateway closes the connection instead."""
        try:
            return await self.reply(bodiless=bodiless)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
        except ConnectionResetError:  # it closed while there was something that it had not read
            pass
        return None

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            if not size:
                return body
            body += data[:-2]

    async def some(self) -> bytes:
        """What has come by now, waiting for it if there is nothing; empty once the other side has closed."""
        return await self._reader.read(65536)

    async def rest(self) -> bytes:
        """Everything until the gateway closes the connection."""
        async with asyncio.timeout(WITHIN):
            return await self._reader.read()


@asynccontextmanager
async def connected(gateway: RunningGateway) -> AsyncIterator[Connection]:
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def request(method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
    """A request as bytes; `headers` replace the default ones."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "localhost", **({} if body is None else {"Content-Length": str(len(content))}), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + content
