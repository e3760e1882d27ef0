"""The gateway is told to stop: it says so, takes what comes for a moment, refuses the rest, and ends what it began."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from tests.stories.conftest import CHAT, OPENAI_CHAT, Chat
from tests.stories.doors import ASK, forwarded, message_of
from tests.stories.raw import Connection, Raw, connected

from herdgate.runtime import Phase
from herdgate.testing.faults import Hang
from herdgate.testing.gateway import RunningGateway, until
from herdgate.testing.simulated import SimulatedOllama

LONG = 30.0


@asynccontextmanager
async def told_to_stop(gateway: RunningGateway, phase: Phase) -> AsyncIterator[asyncio.Task[None]]:
    """A gateway that was told to stop and stays in this phase for as long as requests are in flight."""
    delay = LONG if phase is Phase.LEAVING else 0.0
    stopping = asyncio.create_task(gateway.gateway.stop(LONG, delay))
    await until(lambda: gateway.gateway.runtime.process.phase is phase)
    try:
        yield stopping
    finally:
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await stopping


@asynccontextmanager
async def in_flight(gateway: RunningGateway, backend: SimulatedOllama, chat: Chat) -> AsyncIterator[_Stream]:
    """A chat that waits in the middle of its reply until it is told to go on."""
    stream = _Stream(asyncio.Event())
    backend.script(chat.path, Hang(after=2, until=stream.goes_on))
    before = len(forwarded(backend))
    stream.task = asyncio.create_task(chat.ask(gateway))
    await backend.wait_for(lambda _: len(forwarded(backend)) > before and backend.requests[-1].events_sent == 2)
    try:
        yield stream
    finally:
        stream.goes_on.set()
        stream.task.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await stream.task


class _Stream:
    task: asyncio.Task[httpx.Response]

    def __init__(self, goes_on: asyncio.Event) -> None:
        self.goes_on = goes_on

    async def reply(self) -> httpx.Response:
        self.goes_on.set()
        return await self.task


async def ask(connection: Connection, path: str = CHAT) -> Raw:
    return await connection.ask("POST", path, ASK.body())


async def test_readiness_turns_first_while_requests_are_still_taken(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    async with connected(gateway) as kept, told_to_stop(gateway, Phase.LEAVING), connected(gateway) as new:
        readiness = await gateway.client.get("/readyz")
        assert (readiness.status_code, readiness.json()) == (503, {"status": "draining"})
        assert (await gateway.client.get("/healthz")).status_code == 200
        for connection in (kept, new):
            reply = await ask(connection)
            assert (reply.status, reply.header("connection")) == (200, "close")
            assert json.loads(reply.body)["done"]
            assert await connection.rest() == b""
    assert len(forwarded(first)) == 2


@pytest.mark.parametrize("path", [CHAT, OPENAI_CHAT, "/api/tags", "/nothing"])
async def test_then_new_requests_are_told_and_streams_go_on(
    gateway: RunningGateway, first: SimulatedOllama, stream: Chat, path: str
) -> None:
    async with connected(gateway) as kept, in_flight(gateway, first, stream) as running:
        before = len(forwarded(first))
        async with told_to_stop(gateway, Phase.REFUSING) as stopping:
            async with connected(gateway) as new:
                for connection in (kept, new):
                    reply = await ask(connection, path)
                    assert (reply.status, reply.header("connection")) == (503, "close")
                    assert reply.header("retry-after") == "5"
                    assert message_of(reply, path) == "the gateway is stopping, please try again"
                    assert await connection.rest() == b""
            assert len(forwarded(first)) == before
            assert (await gateway.client.get("/readyz")).status_code == 503
            assert (await gateway.client.get("/healthz")).status_code == 200

            assert stream.text_of(await running.reply())
            await asyncio.wait_for(stopping, LONG / 2)
    with pytest.raises(httpx.ConnectError):
        await gateway.client.get("/healthz")


async def test_a_request_that_has_not_begun_to_be_answered_counts_as_accepted(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    goes_on = asyncio.Event()
    first.script(CHAT, Hang(until=goes_on))
    waiting = asyncio.create_task(ASK.ask(gateway))
    await first.wait_for(lambda backend: backend.concurrent == 1)
    async with told_to_stop(gateway, Phase.REFUSING) as stopping:
        goes_on.set()
        assert ASK.text_of(await waiting)
        await asyncio.wait_for(stopping, LONG / 2)


async def test_the_grace_has_an_end(gateway: RunningGateway, first: SimulatedOllama, stream: Chat) -> None:
    async with in_flight(gateway, first, stream) as running:
        await gateway.gateway.stop(grace=0.05)
        with pytest.raises(httpx.HTTPError):
            await running.task
        await first.wait_for(lambda backend: not backend.concurrent)


async def test_a_drain_that_is_broken_off_leaves_nothing(
    gateway: RunningGateway, first: SimulatedOllama, stream: Chat
) -> None:
    async with in_flight(gateway, first, stream), told_to_stop(gateway, Phase.REFUSING) as stopping:
        stopping.cancel()
        await first.wait_for(lambda backend: not backend.open_connections)
