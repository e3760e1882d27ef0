"""Calls cancelled at any moment leave nothing behind: no socket, no task, no timer, no entry in the pool."""

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import trustme

from herdgate.upstream import BodyStream, UpstreamTransport
from herdgate.upstream.tls import tls_context

from .conftest import PATIENCE, no_callback_fails

CALLS = int(os.environ.get("TEST_CANCELLATIONS", "10000"))
AT_A_TIME = 20

RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
)


class RestlessBackend:
    """Answers in time, late, in parts or not at all; counts the connections it has open."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.open = 0
        self.served = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                await self.answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
                self.served += 1
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            pass  # uvloop says RuntimeError when asked to write to what is closed
        finally:
            writer.transport.abort()
            self.open -= 1

    async def answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        elif b"Content-Length" in head:
            await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2].split()[0]))
        await self.dawdle()
        whole, *parts = RESPONSES
        if self.random.random() < 0.5:
            writer.write(whole)
            return
        for part in parts:
            writer.write(part)
            await self.dawdle()

    async def dawdle(self) -> None:
        if self.random.random() < 0.5:
            await asyncio.sleep(self.random.random() * 0.003)


class Caller:
    """Calls in every way there is, is cancelled at a random moment, and counts what it lived to see."""

    def __init__(self, transport: UpstreamTransport, url: str, seed: int) -> None:
        self.transport = transport
        self.url = url
        self.random = random.Random(seed)  # noqa: S311
        self.finished = 0
        self.cancelled = 0

    def request(self) -> httpx.Request:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"piece"
                await asyncio.sleep(0)

        extensions = {"timeout": {"connect": 60.0, "read": 60.0, "write": 60.0}}
        match self.random.randrange(4):
            case 0:
                return httpx.Request("POST", self.url, content=pieces(), extensions=extensions)
            case 1:
                return httpx.Request("POST", self.url, content=bytes(200_000), extensions=extensions)
            case _:
                return httpx.Request("GET", self.url, extensions=extensions)

    async def call(self) -> None:
        response = await self.transport.handle_async_request(self.request())
        stream = response.stream
        assert isinstance(stream, BodyStream)
        got: list[bytes] = []
        try:
            if self.random.random() < 0.5:
                got.append(await stream.relay(got.append))
            else:
                got = [part async for part in stream]
        finally:
            await stream.aclose()
        assert b"".join(got) == b"hello"

    async def be_cancelled(self) -> None:
        """Cancel a call after a number of turns of the loop, or after some time."""
        task = asyncio.create_task(self.call())
        if self.random.random() < 0.5:
            for _ in range(self.random.randrange(60)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.random.random() * 0.02)
        task.cancel()
        try:
            await task
            self.finished += 1
        except asyncio.CancelledError:
            self.cancelled += 1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def storm(calls: int, server_tls: ssl.SSLContext | None, client_tls: ssl.SSLContext | None) -> Caller:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, int)  # what the loop keeps for itself is open before we count
    seed = random.randrange(1 << 30)  # noqa: S311
    print(f"seed {seed}")  # noqa: T201
    backend = RestlessBackend(seed)
    server = await asyncio.start_server(backend.meet, "127.0.0.1", 0, ssl=server_tls, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    transport = UpstreamTransport(tls=client_tls)
    caller = Caller(transport, f"{'https' if server_tls else 'http'}://127.0.0.1:{port}/", seed)
    before = descriptors()

    async def work() -> None:
        for _ in range(calls // AT_A_TIME):
            await caller.be_cancelled()

    with no_callback_fails():
        await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    pool = transport._pool
    await until(lambda: len(pool._open) == sum(map(len, pool._idle.values())))
    await until(lambda: backend.open == len(pool._open))  # what we gave up is gone on the other side, too
    assert descriptors() <= before + 2 * len(pool._open)
    await caller.call()  # the kept connections are sound
    await transport.aclose()
    assert not pool._open
    assert not any(pool._idle.values())
    await until(lambda: backend.open == 0)
    await until(lambda: descriptors() == before)
    server.close()
    await server.wait_closed()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    return caller


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  (nothing announces that a socket has been closed)
            await asyncio.sleep(0.01)


async def test_after_thousands_of_cancelled_calls_nothing_is_left() -> None:
    caller = await storm(CALLS, None, None)
    assert caller.cancelled > CALLS / 10
    assert caller.finished > CALLS / 10


async def test_after_hundreds_of_cancelled_calls_over_tls_nothing_is_left(tmp_path: Path) -> None:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    caller = await storm(CALLS // 10, server, tls_context(ca_file=tmp_path / "ca.pem"))
    assert caller.cancelled > CALLS / 100
