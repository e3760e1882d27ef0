"""No client holds a backend by doing nothing, and no stream or request goes on for longer than is allowed."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.stories.conftest import CHAT, Chat, with_plugin
from tests.stories.doors import BODY, message_of
from tests.stories.raw import connected, request

from herdgate.front.connection import GatewayConnection
from herdgate.front.door import Patience
from herdgate.testing.faults import EndlessLine, Events, Hang
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import Received, SimulatedOllama

QUICK = '[server]\nclient_timeout = "300ms"\n'
PATIENT = '[server]\nclient_timeout = "1s"\n'
"""For clients that must not be cut off, however busy the machine is."""
WITHIN = 5.0
FILTER = """
from herdgate import hookimpl

class Same:
    def feed(self, data):
        return data

    def finish(self):
        return b""

class Extra:
    herdgate_api = 1

    @hookimpl
    def filter_stream(self):
        return Same()
"""


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("herdgate.front.door.LOOK_EVERY", 0.05)


@pytest.fixture(params=["pushed", "filtered"])
def toml(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Streams from socket to socket, and streams that a plugin filters."""
    return QUICK if request.param == "pushed" else QUICK + with_plugin(tmp_path, FILTER)


@asynccontextmanager
async def unread(
    gateway: RunningGateway, path: str, body: dict[str, object], buffer: int = 8192
) -> AsyncIterator[socket.socket]:
    """A request whose reply nobody reads, on a socket that holds this much."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (host, int(port)))
        await loop.sock_sendall(sock, request("POST", path, body))
        yield sock


async def drained(sock: socket.socket) -> None:
    """Read until the end."""
    while await asyncio.get_running_loop().sock_recv(sock, 65536):
        pass


async def asked(backend: SimulatedOllama, path: str) -> Received:
    await backend.wait_for(lambda sim: any(each.path == path for each in sim.requests))
    return next(each for each in backend.requests if each.path == path)


async def test_a_client_that_reads_nothing_is_given_up(
    first: SimulatedOllama, stream: Chat, toml: str, tmp_path: Path
) -> None:
    first.script(stream.path, EndlessLine(after=1))
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        connections = gateway.gateway.connections
        async with unread(gateway, stream.path, stream.body()):
            heard = await asked(first, stream.path)
            await until(lambda: heard.left_at is not None, within=WITHIN)
            await until(lambda: gateway.gateway.connections == connections)


async def test_a_client_that_reads_slowly_but_steadily_is_not(first: SimulatedOllama) -> None:
    first.script(CHAT, EndlessLine(after=1))
    async with (
        running_gateway(first, toml=PATIENT) as gateway,
        unread(gateway, CHAT, Chat(CHAT, stream=True).body(), buffer=262_144) as sock,
    ):
        heard = await asked(first, CHAT)
        loop = asyncio.get_running_loop()
        until_then = loop.time() + 2.5  # more than twice as long as one may do nothing
        while loop.time() < until_then:
            assert await loop.sock_recv(sock, 65536)
            await asyncio.sleep(0.005)
        assert heard.left_at is None
        await until(lambda: heard.left_at is not None, within=WITHIN)


async def test_a_client_that_has_read_everything_may_wait_for_more(
    first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, pause = asyncio.Event(), GatewayConnection.pause_writing

    def noted(connection: GatewayConnection) -> None:
        pause(connection)
        full.set()

    monkeypatch.setattr(GatewayConnection, "pause_writing", noted)
    line = json.dumps({"message": {"content": "x" * 20_000_000}, "done": False}).encode() + b"\n"
    first.script(CHAT, (Events((b'{"message":{"content":""},"done":false}\n', line, b"")), Hang(after=2)))
    async with (
        running_gateway(first, toml=PATIENT) as gateway,
        unread(gateway, CHAT, Chat(CHAT, stream=True).body(), buffer=262_144) as sock,
    ):
        loop = asyncio.get_running_loop()
        await full.wait()
        read = 0
        while read < len(line):
            read += len(await loop.sock_recv(sock, 262_144))
        more = asyncio.create_task(drained(sock))
        await asyncio.wait([more], timeout=2.5)  # long enough to be looked at twice
        assert not more.done()
        more.cancel()


async def test_a_whole_reply_that_nobody_reads_does_not_keep_its_connection(first: SimulatedOllama) -> None:
    large = json.dumps({"message": {"role": "assistant", "content": "x" * 7_000_000}, "done": True}).encode()
    first.script(CHAT, Events((large,)))
    async with running_gateway(first, toml=QUICK) as gateway:
        connections = gateway.gateway.connections
        async with unread(gateway, CHAT, Chat(CHAT, stream=False).body()):
            await until(lambda: gateway.gateway.connections == connections + 1)
            await until(lambda: gateway.gateway.connections == connections, within=WITHIN)


@pytest.mark.parametrize("idle", [75.0, 0.2])
async def test_a_whole_reply_that_is_read_slowly_is_read_to_its_end(
    first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch, idle: float
) -> None:
    """Its buffers stay full for longer than a client may do nothing, or be idle between two requests."""
    monkeypatch.setattr("herdgate.front.door.Patience", lambda: Patience(idle=idle))
    large = json.dumps({"message": {"role": "assistant", "content": "x" * 8_000_000}, "done": True}).encode()
    first.script(CHAT, Events((large,)))
    async with (
        running_gateway(first, toml=PATIENT) as gateway,
        unread(gateway, CHAT, Chat(CHAT, stream=False).body(), buffer=65_536) as sock,
    ):
        loop = asyncio.get_running_loop()
        read = 0
        while read < len(large):
            piece = await loop.sock_recv(sock, 65_536)
            assert piece
            read += len(piece)
            await asyncio.sleep(0.02)


async def test_the_end_of_its_time_reaches_a_client_that_reads_nothing_too(first: SimulatedOllama) -> None:
    first.script(CHAT, EndlessLine(after=1))
    toml = '[server]\nclient_timeout = "400ms"\ntotal_deadline = "200ms"\n'
    async with running_gateway(first, toml=toml) as gateway:
        connections = gateway.gateway.connections
        async with unread(gateway, CHAT, Chat(CHAT, stream=True).body()):
            heard = await asked(first, CHAT)
            await until(lambda: heard.left_at is not None, within=WITHIN)
            await until(lambda: gateway.gateway.connections == connections, within=WITHIN)


async def test_a_body_that_trickles_in_is_cut_off(first: SimulatedOllama) -> None:
    """Another byte from time to time must not hold a body for ever."""
    async with running_gateway(first, toml=QUICK) as gateway, connected(gateway) as connection:
        head, _, body = request("POST", CHAT, BODY + b" " * 1_000_000).partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n" + body[:1])
        reply = asyncio.create_task(connection.reply())
        async with asyncio.timeout(WITHIN):
            while not reply.done():
                connection.send(b" ")
                await asyncio.wait([reply], timeout=0.02)
        assert (reply.result().status, reply.result().header("connection")) == (408, "close")
        assert "in time" in message_of(reply.result(), CHAT)


async def test_a_body_that_comes_steadily_may_take_longer(first: SimulatedOllama) -> None:
    async with running_gateway(first, toml=PATIENT) as gateway, connected(gateway) as connection:
        head, _, body = request("POST", CHAT, BODY + b" " * 200_000).partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n")
        for start in range(0, len(body), 4096):
            connection.send(body[start : start + 4096])
            await asyncio.sleep(0.04)  # all of it takes longer than one may do nothing
        assert (await connection.reply()).status == 200


@pytest.mark.parametrize("pace", [0.0, 0.002], ids=["many words at a time", "word by word"])
async def test_a_stream_ends_where_it_is_longer_than_allowed(
    first: SimulatedOllama, stream: Chat, toml: str, tmp_path: Path, pace: float
) -> None:
    first.behaviour.reply_words = 1000
    first.behaviour.pace = pace
    limited = toml.replace("[server]\n", '[server]\nmax_stream = "20 KiB"\n', 1)
    async with running_gateway(first, toml=limited, directory=tmp_path) as gateway:
        reply = await stream.ask(gateway)
        last = stream.events_of(reply.text)[-1]
        assert "longer than is allowed" in str(last["error"])
        assert "[DONE]" not in reply.text
        assert 10_000 < len(reply.content) < 30_000
        heard = await asked(first, stream.path)
        await until(lambda: heard.outcome is not None)
        first.behaviour.reply_words = 10
        assert "backend first" in stream.text_of(await stream.ask(gateway))


@pytest.mark.parametrize("place", ["nothing", 1])
async def test_a_key_has_a_time_for_each_request(
    first: SimulatedOllama, stream: Chat, place: str | int, quick_keys: None
) -> None:
    async with running_gateway(first) as gateway:
        hurried = await gateway.make_key("*", name="hurried", deadline=0.3)
        patient = await gateway.make_key("*", name="patient", deadline=60)
        assert "backend first" in stream.text_of(await stream.ask(gateway, **hurried))
        first.script(stream.path, Hang(place), times=2)  # type: ignore[arg-type]
        waiting = asyncio.create_task(stream.ask(gateway, **patient))
        await first.wait_for(lambda sim: sim.concurrent == 1)
        reply = await stream.ask(gateway, **hurried)
        if place == "nothing":
            assert reply.status_code == 504
        else:
            assert "the time allowed for this request is over" in str(stream.events_of(reply.text)[-1]["error"])
        await first.wait_for(lambda sim: sim.concurrent == 1)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
