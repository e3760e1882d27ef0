"""What is no proper HTTP ends its connection, in the dialect of its path, and nothing of it is taken for a request."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from tests.stories.conftest import CHAT
from tests.stories.doors import BODY, CHUNKED, forwarded, message_of
from tests.stories.raw import connected, request

from herdgate.front.door import Patience
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

HOST = b"Host: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
POST = b"POST /api/chat HTTP/1.1\r\n"


async def test_a_refused_request_with_broken_chunks_is_no_fault_of_the_gateway(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(gateway) as connection:
        connection.send(request("POST", "/api/pull", headers=CHUNKED) + b"zz\r\nnonsense")
        assert (await connection.reply()).status == 403
        assert await connection.rest() == b""
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_body_in_chunks_that_are_too_small_is_refused_however_much_of_it_comes(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    async with connected(gateway) as connection:
        connection.send(request("POST", CHAT, headers=CHUNKED) + b"1\r\n \r\n" * 100_000)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (400, "close")
        assert message_of(reply, CHAT) == "the request body comes in chunks that are too small"
    assert forwarded(first) == []


@pytest.mark.parametrize("size", [17_000, 50_000])
async def test_too_many_headers_are_refused(gateway: RunningGateway, size: int) -> None:
    async with connected(gateway) as connection:
        connection.send(request("GET", "/v1/models", headers={"X-Long": "x" * size}))
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (431, "close")
        assert reply.header("content-type") == "application/json"
        assert json.loads(reply.body)["error"]
        assert await connection.rest() == b""
        assert (await gateway.client.get("/api/tags", headers={"x-long": "x" * 14_000})).status_code == 200


@pytest.mark.parametrize("sent", [b"GET /api/tags HT", POST + HOST, POST + HOST + LENGTH + b"\r\n" + BODY[:-1]])
async def test_a_caller_that_falls_silent_gets_a_408(
    first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("herdgate.front.door.Patience", lambda: Patience(head=0.2, linger=60.0))
    toml = '[server]\nclient_timeout = "200ms"\n'
    async with running_gateway(first, toml=toml) as gateway, connected(gateway) as connection:
        connection.send(sent)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (408, "close")
        assert "in time" in message_of(reply, CHAT)
    assert forwarded(first) == []


async def test_a_head_that_trickles_in_is_cut_off_as_well(
    first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another byte from time to time must not hold a connection for ever."""
    monkeypatch.setattr("herdgate.front.door.Patience", lambda: Patience(head=0.2))
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        connection.send(b"GET /api/tags HTTP/1.1\r\nX: ")
        reply = asyncio.create_task(connection.reply())
        async with asyncio.timeout(3):
            while not reply.done():
                connection.send(b"a")
                await asyncio.wait([reply], timeout=0.02)
        assert (reply.result().status, reply.result().header("connection")) == (408, "close")


@pytest.mark.parametrize("sent", [b"GET /api/tags HT", POST + HOST, POST + HOST + LENGTH + b"\r\n" + BODY[:-1]])
async def test_a_caller_that_leaves_while_it_sends_leaves_nothing_behind(
    gateway: RunningGateway, first: SimulatedOllama, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    before, connections = len(asyncio.all_tasks()), gateway.gateway.connections
    async with connected(gateway) as connection:
        connection.send(sent)
        await connection.writer.drain()
        await until(lambda: gateway.gateway.connections > connections)
    await until(lambda: len(asyncio.all_tasks()) <= before and gateway.gateway.connections == connections)
    assert forwarded(first) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
