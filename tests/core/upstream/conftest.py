"""A backend that says exactly the bytes a test tells it to, and the transport that talks to it."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import pytest
import uvloop

from herdgate.listening import stop_accepting
from herdgate.upstream import BodyStream, UpstreamTransport

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds after which something that should have happened counts as not happening."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on both event loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, PATIENCE)


class Peer:
    """The backend's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hears_head(self) -> bytes:
        return await soon(self.reader.readuntil(b"\r\n\r\n"))

    async def hears(self, expected: bytes) -> None:
        assert await soon(self.reader.readexactly(len(expected))) == expected

    async def hears_anything(self) -> bytes:
        return await soon(self.reader.read(65_536))

    def says(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def answers(self, *data: bytes) -> None:
        await self.hears_head()
        self.says(*data)

    def hangs_up(self) -> None:
        self.writer.close()

    def resets(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def sees_hang_up(self) -> None:
        """Wait until the other side is gone, whatever it sent before."""
        with contextlib.suppress(ConnectionError):
            while await soon(self.reader.read(65_536)):
                pass


class Caller:
    """Notes what is written to it."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.got.append(data)


class Backend:
    """Accepts connections and hands them to the test, one after the other."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.accepted = 0
        self.peers: list[Peer] = []
        self._arrivals: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: asyncio.Server
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port, ssl=self.tls, limit=1 << 22)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        await stop_accepting(self._server)
        for peer in self.peers:
            peer.writer.transport.abort()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                await soon(peer.writer.wait_closed())

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.accepted += 1
        self.peers.append(peer)
        self._arrivals.put_nowait(peer)

    async def accept(self) -> Peer:
        return await soon(self._arrivals.get())

    def url(self, path: str = "/") -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def request(
        self, method: str = "GET", path: str = "/", *, timeout: dict[str, float | None] | None = None, **parts: Any
    ) -> httpx.Request:
        extensions = {"timeout": timeout or {}, **parts.pop("extensions", {})}
        return httpx.Request(method, self.url(path), extensions=extensions, **parts)


class Conversation:
    """A transport, a backend, and the calls between them."""

    def __init__(self, transport: UpstreamTransport, backend: Backend) -> None:
        self.transport = transport
        self.backend = backend
        self._calls: list[asyncio.Task[httpx.Response]] = []

    def ask(self, request: httpx.Request | None = None) -> asyncio.Task[httpx.Response]:
        """Begin a call; the test then plays the backend, and awaits the call."""
        call = asyncio.create_task(self.transport.handle_async_request(request or self.backend.request()))
        self._calls.append(call)
        return call

    async def get(self, *answer: bytes, request: httpx.Request | None = None) -> httpx.Response:
        """Call on a new connection and be answered with these bytes."""
        call = self.ask(request)
        peer = await self.backend.accept()
        await peer.answers(*answer)
        return await soon(call)

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self.transport.aclose()

    def body(self, response: httpx.Response) -> BodyStream:
        assert isinstance(response.stream, BodyStream)
        return response.stream

    async def read(self, response: httpx.Response) -> bytes:
        return await soon(self._read(response))

    async def _read(self, response: httpx.Response) -> bytes:
        return b"".join([part async for part in self.body(response)])


@contextlib.contextmanager
def no_callback_fails() -> Iterator[None]:
    """See what the event loop would only log, such as an exception in a protocol."""
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    yield
    loop.set_exception_handler(None)
    assert failures == []


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend(None)
    with no_callback_fails():
        await backend.start()
        yield backend
        await backend.stop()


@pytest.fixture
async def transport() -> AsyncIterator[UpstreamTransport]:
    transport = UpstreamTransport()
    yield transport
    await transport.aclose()


@pytest.fixture
async def talk(transport: UpstreamTransport, backend: Backend) -> AsyncIterator[Conversation]:
    conversation = Conversation(transport, backend)
    yield conversation
    await conversation.close()
