"""One connection, without a backend around it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from herdgate.testing.simulation.connection import ClientLeft, Connection


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Connection, asyncio.StreamReader, asyncio.StreamWriter]]:
    accepted: asyncio.Queue[Connection] = asyncio.Queue()
    lost = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(accepted.put_nowait, lambda _: lost.set()), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    connection = await accepted.get()
    yield connection, reader, writer
    writer.close()
    connection.abort()
    await lost.wait()
    server.close()
    await server.wait_closed()


async def test_writing_waits_for_a_client_that_does_not_read(pair: Any) -> None:
    connection, reader, writer = pair
    writer.transport.pause_reading()
    writing = asyncio.create_task(connection.write(b"x" * 30_000_000))
    await asyncio.wait([writing], timeout=0.1)
    assert not writing.done()
    writer.transport.resume_reading()
    async with asyncio.timeout(10):
        await reader.readexactly(30_000_000)
        await writing


async def test_writing_ends_when_the_client_leaves(pair: Any) -> None:
    connection, _, writer = pair
    writer.transport.pause_reading()
    writing = asyncio.create_task(connection.write(b"x" * 30_000_000))
    await asyncio.wait([writing], timeout=0.1)
    writer.transport.abort()
    with pytest.raises(ClientLeft):
        await asyncio.wait_for(writing, 5)


async def test_every_wait_ends_when_the_client_leaves(pair: Any) -> None:
    connection, _, writer = pair
    waits = [connection.pause(), connection.pause(60), connection.pause(until=asyncio.Event()), connection.read_head()]
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.sleep(0)
    writer.close()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [type(result) for result in results] == [ClientLeft] * 4
