"""Reading a body: pulled, pushed, paused, abandoned."""

import asyncio
import gc
import time
import weakref

import httpx
import pytest

from herdgate.outbox import Outbox
from herdgate.testing.gateway import until
from herdgate.upstream.stream import HIGH_WATER

from .conftest import Caller, Conversation, Peer, soon

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
LARGE = 24_000_000
"""Bytes, far more than the buffers between two sockets of one machine hold."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def drop(data: bytes) -> None:
    """Be a sink that wants nothing."""


async def stream(
    talk: Conversation, head: bytes = CHUNKED, *, read: float | None = None
) -> tuple[Peer, httpx.Response]:
    """Begin a response and leave it to the test how it goes on."""
    response = await talk.get(head, request=talk.backend.request(timeout={"read": read}))
    return talk.backend.peers[-1], response


async def until_stuck(peer: Peer) -> None:
    """Wait until the backend can send no more."""
    transport = peer.writer.transport
    left = -1
    while left != transport.get_write_buffer_size():
        left = transport.get_write_buffer_size()
        await asyncio.sleep(0.1)
    assert left > 0


# Pulled


async def test_pulling_yields_what_arrived_since_the_last_time(talk: Conversation) -> None:
    peer, response = await stream(talk)
    parts = aiter(talk.body(response))
    peer.says(chunk(b"a"), chunk(b"b"))
    assert await soon(anext(parts)) == b"ab"
    peer.says(chunk(b"c"))
    assert await soon(anext(parts)) == b"c"
    peer.says(chunk(b"d"), END)
    assert await soon(anext(parts)) == b"d"
    with pytest.raises(StopAsyncIteration):
        await soon(anext(parts))


async def test_what_arrived_is_read_before_the_error_that_ended_it(talk: Conversation) -> None:
    peer, response = await stream(talk)
    peer.says(chunk(b"a"))
    peer.hangs_up()
    await peer.sees_hang_up()
    parts = aiter(talk.body(response))
    assert await soon(anext(parts)) == b"a"
    with pytest.raises(httpx.RemoteProtocolError, match="before the last chunk"):
        await soon(anext(parts))


async def test_an_unread_body_stops_the_backend_and_not_the_memory(talk: Conversation) -> None:
    peer, response = await stream(talk, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    peer.says(bytes(LARGE))
    await until_stuck(peer)
    parts = aiter(talk.body(response))
    first = await soon(anext(parts))
    assert HIGH_WATER < len(first) < 4 * HIGH_WATER
    rest = [len(part) async for part in parts]
    assert len(first) + sum(rest) == LARGE
    assert max(rest) < 4 * HIGH_WATER


async def test_a_connection_that_was_paused_serves_the_next_request(talk: Conversation) -> None:
    size = HIGH_WATER + 1
    response = await talk.get(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, bytes(size))
    await asyncio.sleep(0.05)
    call = talk.ask()
    await talk.backend.peers[0].answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert await talk.read(await soon(call)) == b"ok"
    assert len(await talk.read(response)) == size
    assert talk.backend.accepted == 1


async def test_two_readers_are_a_mistake(talk: Conversation) -> None:
    _, response = await stream(talk)
    first = asyncio.ensure_future(talk.read(response))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one reader"):
        await talk.read(response)
    await talk.body(response).aclose()
    with pytest.raises(httpx.StreamClosed):
        await soon(first)


# Pushed


async def test_relaying_hands_over_what_is_buffered_and_then_each_read(talk: Conversation) -> None:
    peer, response = await stream(talk)
    peer.says(chunk(b"a"))
    await asyncio.sleep(0.05)
    peer.says(chunk(b"b"))
    await asyncio.sleep(0.05)
    got: list[bytes] = []
    relaying = asyncio.create_task(talk.body(response).relay(got.append))
    await asyncio.sleep(0)
    assert got == [b"ab"]
    peer.says(chunk(b"c"), chunk(b"d"))
    await asyncio.sleep(0.05)
    assert got == [b"ab", b"cd"]
    peer.says(chunk(b"e"), END)
    assert await soon(relaying) == b"e"
    assert got == [b"ab", b"cd"]


async def test_single_chunks_may_be_relayed_as_they_came(talk: Conversation) -> None:
    peer, response = await stream(talk)
    body = talk.body(response)
    peer.says(chunk(b"opening"))
    await asyncio.sleep(0.05)
    got: list[bytes] = []
    noted: list[bytes] = []
    caller = Caller()
    relaying = asyncio.create_task(body.relay(got.append, (Outbox(), caller), noted.append))
    await asyncio.sleep(0)
    assert got == [b"opening"]
    peer.says(chunk(b"alone"))
    await until(lambda: caller.got == [chunk(b"alone")])
    peer.says(chunk(b"two"), chunk(b"at once"))
    await until(lambda: got == [b"opening", b"twoat once"])
    assert noted == [b"alone"]
    peer.says(chunk(b"last"))
    await until(lambda: len(caller.got) == 2)
    peer.says(END)
    await soon(relaying)
    assert got == [b"opening", b"twoat once"]
    assert caller.got == [chunk(b"alone"), chunk(b"last")]
    assert noted == [b"alone", b"last"]


async def test_a_kept_connection_knows_nothing_more_of_what_was_relayed_on_it(talk: Conversation) -> None:
    peer, response = await stream(talk)
    caller = Caller()
    got = caller.got
    relaying = asyncio.create_task(talk.body(response).relay(caller.write, (Outbox(), caller), lambda _: None))
    await asyncio.sleep(0)
    peer.says(chunk(b"all"))
    await until(lambda: got == [chunk(b"all")])
    peer.says(END)
    await soon(relaying)
    call = talk.ask()
    await peer.answers(CHUNKED + chunk(b"other") + END)
    assert await talk.read(await soon(call)) == b"other"
    assert got == [chunk(b"all")]
    left = weakref.ref(caller)
    del caller, relaying
    gc.collect()
    assert left() is None
    assert talk.backend.accepted == 1


@pytest.mark.parametrize("end", ["eof", "reset", "silence"])
async def test_a_relayed_body_that_ends_too_early_says_so_and_has_noted_all(talk: Conversation, end: str) -> None:
    peer, response = await stream(talk, read=0.5)
    noted: list[bytes] = []
    caller = Caller()
    relaying = asyncio.create_task(talk.body(response).relay(caller.write, (Outbox(), caller), noted.append))
    await asyncio.sleep(0)
    peer.says(chunk(b"beginning"))
    await until(lambda: caller.got == [chunk(b"beginning")])
    if end == "eof":
        peer.hangs_up()
    elif end == "reset":
        peer.resets()
    expected = {"eof": httpx.RemoteProtocolError, "reset": httpx.ReadError, "silence": httpx.ReadTimeout}
    with pytest.raises(expected[end]):
        await soon(relaying)
    assert noted == [b"beginning"]


async def test_a_relayed_chunk_ends_the_silence(talk: Conversation) -> None:
    peer, response = await stream(talk, read=1.0)
    caller = Caller()
    relaying = asyncio.create_task(talk.body(response).relay(caller.write, (Outbox(), caller), lambda _: None))
    for number in range(5):
        await asyncio.sleep(0.4)
        peer.says(chunk(b"%d" % number))
    await until(lambda: len(caller.got) == 5)
    peer.says(END)
    assert await soon(relaying) == b""
    assert caller.got == [chunk(b"%d" % number) for number in range(5)]


async def test_a_body_that_comes_without_chunks_is_relayed_without_them(talk: Conversation) -> None:
    peer, response = await stream(talk, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    got: list[bytes] = []
    relaying = asyncio.create_task(talk.body(response).relay(got.append, (Outbox(), Caller()), got.append))
    await asyncio.sleep(0)
    peer.says(b"5\r\nhello")
    await until(lambda: got == [b"5\r\nhello"])
    peer.says(b"\r\n")
    assert await soon(relaying) == b"\r\n"


async def test_relaying_what_has_already_arrived_completely(talk: Conversation) -> None:
    _, response = await stream(talk, CHUNKED + chunk(b"all") + END)
    got: list[bytes] = []
    assert await soon(talk.body(response).relay(got.append)) == b"all"
    assert got == []


async def test_first_pulled_then_relayed(talk: Conversation) -> None:
    peer, response = await stream(talk)
    body = talk.body(response)
    peer.says(chunk(b"opening"))
    assert await soon(anext(aiter(body))) == b"opening"
    got: list[bytes] = []
    relaying = asyncio.create_task(body.relay(got.append))
    peer.says(chunk(b"rest"), END)
    last = await soon(relaying)
    assert b"".join([*got, last]) == b"rest"


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (b"garbage", httpx.RemoteProtocolError),
        (None, httpx.RemoteProtocolError),
    ],
)
async def test_relaying_raises_what_pulling_would(talk: Conversation, last: bytes | None, error: type) -> None:
    peer, response = await stream(talk)
    relaying = asyncio.create_task(talk.body(response).relay(drop))
    peer.says(chunk(b"a"))
    if last is None:
        peer.hangs_up()
    else:
        peer.says(last)
    with pytest.raises(error):
        await soon(relaying)
    await peer.sees_hang_up()


async def test_relaying_until_the_connection_breaks(talk: Conversation) -> None:
    peer, response = await stream(talk, UNTIL_CLOSE)
    relaying = asyncio.create_task(talk.body(response).relay(drop))
    await asyncio.sleep(0)
    peer.resets()
    with pytest.raises(httpx.ReadError):
        await soon(relaying)


@pytest.mark.parametrize("buffered", [True, False])
async def test_an_error_of_the_sink_ends_the_response(talk: Conversation, buffered: bool) -> None:
    def broken(data: bytes) -> None:
        raise ZeroDivisionError(data)

    peer, response = await stream(talk)
    if buffered:
        peer.says(chunk(b"a"))
        await asyncio.sleep(0.05)
    relaying = asyncio.create_task(talk.body(response).relay(broken))
    if not buffered:
        await asyncio.sleep(0)
        peer.says(chunk(b"a"))
    with pytest.raises(ZeroDivisionError):
        await soon(relaying)
    await peer.sees_hang_up()


async def test_a_sink_may_pause_the_backend(talk: Conversation) -> None:
    peer, response = await stream(talk, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    body = talk.body(response)
    got = 0

    def sink(data: bytes) -> None:
        nonlocal got
        got += len(data)
        body.pause()

    relaying = asyncio.create_task(body.relay(sink))
    peer.says(bytes(LARGE))
    await until_stuck(peer)
    before = got
    assert 0 < before < 4 * HIGH_WATER
    while not relaying.done():
        body.resume()
        await asyncio.sleep(0)
    assert got + len(await relaying) == LARGE


async def test_a_body_whose_last_bytes_are_too_many_unread_ones_does_not_pause_the_next_response(
    talk: Conversation,
) -> None:
    peer, response = await stream(talk, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (HIGH_WATER + 10))
    body = talk.body(response)
    peer.says(bytes(HIGH_WATER - 10))
    await until(lambda: body._buffered == HIGH_WATER - 10)
    peer.says(bytes(20))
    await until(lambda: body.complete)
    call = talk.ask()
    await peer.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert await talk.read(await soon(call)) == b"ok"
    assert await talk.read(response) == bytes(HIGH_WATER + 10)
    body.pause()
    body.resume()


async def test_closing_while_relaying(talk: Conversation) -> None:
    peer, response = await stream(talk)
    body = talk.body(response)

    def sink(data: bytes) -> None:
        closing.append(asyncio.ensure_future(body.aclose()))

    closing: list[asyncio.Future[None]] = []
    relaying = asyncio.create_task(body.relay(sink))
    await asyncio.sleep(0)
    peer.says(chunk(b"a"))
    with pytest.raises(httpx.StreamClosed):
        await soon(relaying)
    await peer.sees_hang_up()


# Silence


@pytest.mark.parametrize("way", ["pull", "push"])
async def test_silence_in_the_middle_of_the_body(talk: Conversation, way: str) -> None:
    peer, response = await stream(talk, CHUNKED + chunk(b"a"), read=0.1)
    with pytest.raises(httpx.ReadTimeout, match=r"0\.1 s"):
        await (talk.read(response) if way == "pull" else soon(talk.body(response).relay(drop)))
    await peer.sees_hang_up()


@pytest.mark.parametrize("way", ["pull", "push"])
async def test_sounds_postpone_the_deadline(talk: Conversation, way: str) -> None:
    peer, response = await stream(talk, read=0.3)
    reading = asyncio.ensure_future(talk.read(response) if way == "pull" else talk.body(response).relay(drop))
    for _ in range(6):
        await asyncio.sleep(0.1)
        peer.says(chunk(b"a"))
    peer.says(END)
    await soon(reading)


async def test_a_slow_reader_is_not_the_backend_s_silence(talk: Conversation) -> None:
    peer, response = await stream(talk, CHUNKED + chunk(b"a"), read=0.1)
    parts = aiter(talk.body(response))
    assert await soon(anext(parts)) == b"a"
    await asyncio.sleep(0.3)
    peer.says(chunk(b"b"))
    assert await soon(anext(parts)) == b"b"


async def test_a_paused_backend_is_not_silent(talk: Conversation) -> None:
    peer, response = await stream(talk, read=0.1)
    body = talk.body(response)
    got: list[bytes] = []
    relaying = asyncio.create_task(body.relay(got.append))
    await asyncio.sleep(0)
    body.pause()
    peer.says(chunk(b"a"))
    await asyncio.sleep(0.3)
    assert not relaying.done()
    body.resume()
    await asyncio.sleep(0.05)
    assert got == [b"a"]
    with pytest.raises(httpx.ReadTimeout):
        await soon(relaying)


@pytest.mark.parametrize(("before", "after"), [(None, 0.1), (60.0, 0.1)])
async def test_the_deadline_can_be_set_while_somebody_waits(
    talk: Conversation, before: float | None, after: float
) -> None:
    _, response = await stream(talk, read=before)
    reading = asyncio.ensure_future(talk.read(response))
    await asyncio.sleep(0.05)
    talk.body(response).set_idle_timeout(after)
    with pytest.raises(httpx.ReadTimeout):
        await reading


async def test_the_deadline_can_be_lifted(talk: Conversation) -> None:
    peer, response = await stream(talk, read=0.1)
    reading = asyncio.ensure_future(talk.read(response))
    await asyncio.sleep(0.05)
    talk.body(response).set_idle_timeout(None)
    await asyncio.sleep(0.2)
    peer.says(chunk(b"a"), END)
    assert await reading == b"a"


# Abandoned


async def test_closing_cuts_the_connection_at_once(talk: Conversation) -> None:
    peer, response = await stream(talk)
    began = time.monotonic()
    await talk.body(response).aclose()
    await talk.body(response).aclose()
    assert time.monotonic() - began < 0.1
    await peer.sees_hang_up()
    with pytest.raises(httpx.StreamClosed):
        await talk.read(response)


async def test_closing_does_not_wait_for_a_backend_that_does_not_read(talk: Conversation) -> None:
    call = talk.ask(talk.backend.request("POST", content=bytes(LARGE)))
    peer = await talk.backend.accept()
    await peer.answers(CHUNKED)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    response = await soon(call)
    await soon(talk.body(response).aclose())
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await peer.sees_hang_up()


async def test_closing_a_complete_response_leaves_its_connection_alone(talk: Conversation) -> None:
    _, response = await stream(talk, CHUNKED + chunk(b"a") + END)
    await talk.body(response).aclose()
    call = talk.ask()
    await talk.backend.peers[0].answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await talk.body(response).aclose()
    assert await talk.read(await soon(call)) == b"ok"
    assert talk.backend.accepted == 1
    with pytest.raises(httpx.StreamClosed):
        await talk.read(response)


@pytest.mark.parametrize("way", ["pull", "push"])
async def test_cancelling_the_reader_tells_the_backend(talk: Conversation, way: str) -> None:
    peer, response = await stream(talk)
    reading = asyncio.ensure_future(talk.read(response) if way == "pull" else talk.body(response).relay(drop))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await peer.sees_hang_up()


async def test_cancelling_the_call_tells_the_backend(talk: Conversation) -> None:
    call = talk.ask()
    peer = await talk.backend.accept()
    await peer.hears_head()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await peer.sees_hang_up()
