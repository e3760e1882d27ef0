from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from herdgate.front.connection import AHEAD, REQUESTS_AHEAD, GatewayConnection
from herdgate.front.door import Patience
from herdgate.front.head import RequestHead
from herdgate.front.incoming import Incoming


class Closing(asyncio.Transport):
    """A connection that was told to close and still has something unsent: uvloop lets nobody end it a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = self.aborted = False
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Any will do."""

    def is_closing(self) -> bool:
        return self.closing

    def write_eof(self) -> None:
        raise RuntimeError("closed")

    def abort(self) -> None:
        self.aborted = True


async def test_a_caller_that_is_overdue_on_a_closing_connection_does_not_end_the_watch_over_the_others() -> None:
    door = SimpleNamespace(patience=Patience(), refusal=lambda _: b"")
    app = SimpleNamespace(ctx=SimpleNamespace(door=door))
    connection = GatewayConnection(loop=asyncio.get_running_loop(), app=app, connections=set())
    transport = Closing()
    connection.connection_made(transport)
    connection.data_received(b"GET / HT")
    transport.closing = True
    connection.overdue()
    assert transport.aborted


class Open(Closing):
    """A connection that is open, with nothing unsent."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def write_eof(self) -> None:
        """The other direction stays open."""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Listening:
    """A door that answers nothing; it notes the path and the body of each request."""

    def __init__(self) -> None:
        self.patience = Patience()
        self.client_timeout = 60
        self.running: set[asyncio.Task[None]] = set()
        self.heard: list[tuple[str, bytes]] = []

    async def answer(self, _: GatewayConnection, head: RequestHead, body: bytes | Incoming) -> None:
        self.heard.append((head.path, body if isinstance(body, bytes) else await body.whole(lambda _: None)))


COUNTED = "POST /{0} HTTP/1.1\r\nHost: a\r\nContent-Length: {0}\r\n\r\n"
CHUNKED_HEAD = "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + "2\r\nab\r\n0\r\n\r\n"
PLAIN = "\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\n"
SENT = f"{COUNTED.format(5)}hello{COUNTED.format(0)}{PLAIN}{CHUNKED}{COUNTED.format(3)}abc"


@pytest.mark.parametrize("cut", range(len(SENT)))
async def test_each_body_ends_where_its_head_said_and_the_next_request_begins_there(cut: int) -> None:
    door = Listening()
    app = SimpleNamespace(ctx=SimpleNamespace(door=door))
    connection = GatewayConnection(loop=asyncio.get_running_loop(), app=app, connections=set())
    connection.connection_made(Closing())
    for data in SENT[:cut], SENT[cut:]:
        if data:
            connection.data_received(data.encode())
        for _ in range(20):
            await asyncio.sleep(0)
    assert door.heard == [("/5", b"hello"), ("/0", b""), ("/none", b""), ("/chunks", b"ab"), ("/3", b"abc")]


async def test_a_request_whose_caller_leaves_before_it_has_begun_leaves_nothing_behind() -> None:
    door = Listening()
    app = SimpleNamespace(ctx=SimpleNamespace(door=door))
    connection = GatewayConnection(loop=asyncio.get_running_loop(), app=app, connections=set())
    connection.connection_made(Closing())
    connection.data_received(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (door.running, door.heard) == (set(), [])


class Deaf(Listening):
    """A door that answers without reading the body."""

    async def answer(self, _: GatewayConnection, head: RequestHead, body: bytes | Incoming) -> None:
        self.heard.append((head.path, b""))


def connected(door: Listening) -> tuple[GatewayConnection, Open]:
    app = SimpleNamespace(ctx=SimpleNamespace(door=door))
    connection, transport = GatewayConnection(loop=asyncio.get_running_loop(), app=app, connections=set()), Open()
    connection.connection_made(transport)
    return connection, transport


async def answered(head: str) -> tuple[GatewayConnection, Open]:
    """A connection whose request was answered before its body came."""
    connection, transport = connected(Deaf())
    connection.data_received(head.encode())
    assert connection.task is not None
    await connection.task
    return connection, transport


async def test_chunks_that_nobody_wants_are_not_looked_at() -> None:
    connection, transport = await answered(CHUNKED_HEAD.replace("Host", "Connection: close\r\nHost"))
    body = connection._body
    assert body is not None
    connection.data_received(b"1\r\na\r\n" * 1000)
    assert (body.size, transport.reading, transport.closing) == (0, True, False)


class Replying(Listening):
    """A door that has sent its reply and still has something to put away."""

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()

    async def answer(self, connection: GatewayConnection, head: RequestHead, body: bytes | Incoming) -> None:
        connection.replied = len(self.heard) == 0
        await super().answer(connection, head, body)
        await self.over.wait()


async def test_whoever_has_its_reply_may_send_a_large_request_before_the_last_one_is_put_away() -> None:
    door = Replying()
    connection, transport = connected(door)
    connection.data_received(PLAIN.encode())
    await asyncio.sleep(0)
    size = 2 * REQUESTS_AHEAD
    large = COUNTED.format(size).encode() + b"x" * size
    connection.data_received(large[: REQUESTS_AHEAD + 1])
    assert (transport.aborted, transport.reading) == (False, False)
    door.over.set()
    assert connection.task is not None
    await connection.task
    assert transport.reading
    connection.data_received(large[REQUESTS_AHEAD + 1 :])
    assert connection.task is not None
    await connection.task
    assert door.heard == [("/none", b""), (f"/{size}", b"x" * size)]


async def test_whoever_sends_too_much_before_its_reply_is_given_up() -> None:
    connection, transport = connected(Replying())
    connection.data_received(PLAIN.encode())
    connection.data_received(b"x" * REQUESTS_AHEAD)
    assert (transport.aborted, transport.reading) == (False, True)
    connection.data_received(b"x")
    assert transport.aborted
    connection.connection_lost(None)


@pytest.mark.parametrize("length", [AHEAD + 2, 300_000])
async def test_a_caller_whose_body_nobody_wants_can_send_it_and_read_the_reply(length: int) -> None:
    """A reset would take the reply from it. What came before the answer is held against nobody."""
    connection, transport = connected(Deaf())
    connection.data_received(COUNTED.format(length).replace("Host", "Connection: close\r\nHost").encode())
    connection.data_received(b"x" * (AHEAD + 1))
    assert not transport.reading
    assert connection.task is not None
    await connection.task
    while (body := connection._body) is not None and body.expected > body.size + 1:
        connection.data_received(b"x" * min(60_000, body.expected - body.size - 1))
        assert (transport.reading, transport.closing) == (True, False)


async def test_a_caller_whose_body_was_refused_can_go_on_sending_it() -> None:
    connection, transport = connected(Listening())
    connection.data_received(CHUNKED_HEAD.encode())
    await asyncio.sleep(0)
    body = connection._body
    assert body is not None
    body.feed(b"fffff\r\n" + b"x" * (AHEAD + 1))
    body.fail(ValueError())
    task = connection.task
    assert task is not None
    await asyncio.wait([task])
    connection.data_received(b"x")
    assert transport.reading
