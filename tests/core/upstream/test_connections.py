"""Connections between requests: kept, lent, lost, expired."""

import asyncio
import gc
import os
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx
import pytest
import uvloop

from herdgate.outbox import Outbox
from herdgate.upstream import BodyStream, UpstreamTransport
from herdgate.upstream.connection import Connection
from herdgate.upstream.origin import Origin
from herdgate.upstream.parser import DEFAULT_LIMITS, ResponseParser

from .conftest import Backend, Conversation, Peer, soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def idle_peer(talk: Conversation) -> Peer:
    """Do one exchange, whose connection is idle afterwards."""
    await talk.read(await talk.get(OK))
    return talk.backend.peers[-1]


async def test_the_connection_is_free_before_the_body_is_read(talk: Conversation) -> None:
    unread = await talk.get(OK)
    call = talk.ask()
    await talk.backend.peers[0].answers(OK.replace(b"ok", b"ko"))
    assert await talk.read(await soon(call)) == b"ko"
    assert await talk.read(unread) == b"ok"
    assert talk.backend.accepted == 1


async def test_the_latest_used_connection_is_used_first(talk: Conversation) -> None:
    calls = [talk.ask() for _ in range(3)]
    peers = [await talk.backend.accept() for _ in calls]
    for peer in (peers[1], peers[2], peers[0]):
        await peer.answers(OK)
        await settle()
    for call in calls:
        await talk.read(await soon(call))
    call = talk.ask(talk.backend.request(path="/again"))
    assert (await peers[0].hears_head()).startswith(b"GET /again")
    peers[0].says(OK)
    await soon(call)


async def test_connections_are_not_shared_between_origins(talk: Conversation) -> None:
    other = Backend(None)
    await other.start()
    await idle_peer(talk)
    call = talk.ask(other.request())
    await (await other.accept()).answers(OK)
    assert await talk.read(await soon(call)) == b"ok"
    await talk.transport.aclose()
    await other.stop()


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_a_connection_that_ends_while_idle_is_forgotten(talk: Conversation, end: str) -> None:
    peer = await idle_peer(talk)
    if end == "eof":
        peer.hangs_up()
        await peer.sees_hang_up()
    else:
        peer.resets()
    await asyncio.sleep(0.05)
    assert await talk.read(await talk.get(OK)) == b"ok"
    assert talk.backend.accepted == 2


async def test_a_connection_that_talks_while_idle_is_closed(talk: Conversation) -> None:
    peer = await idle_peer(talk)
    peer.says(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    await peer.sees_hang_up()
    assert await talk.read(await talk.get(OK)) == b"ok"


@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 1_000_000], ids=["none", "small", "large"])
async def test_a_stale_connection_is_replaced_once(talk: Conversation, end: str, body: bytes) -> None:
    peer = await idle_peer(talk)
    call = talk.ask(talk.backend.request("POST", content=body))
    await settle()  # it is sent on the kept connection, and crosses the end of that
    peer.hangs_up() if end == "eof" else peer.resets()
    fresh = await talk.backend.accept()
    await fresh.hears_head()
    if body:
        await fresh.hears(body)
    fresh.says(OK)
    assert await talk.read(await soon(call)) == b"ok"


async def test_a_fresh_connection_is_not_tried_twice(talk: Conversation) -> None:
    call = talk.ask()
    peer = await talk.backend.accept()
    await peer.hears_head()
    peer.hangs_up()
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        await soon(call)
    assert talk.backend.accepted == 1


async def test_the_second_try_is_the_last(talk: Conversation) -> None:
    kept = await idle_peer(talk)
    call = talk.ask()
    await kept.hears_head()
    kept.hangs_up()
    fresh = await talk.backend.accept()
    await fresh.hears_head()
    fresh.hangs_up()
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        await soon(call)
    assert talk.backend.accepted == 2


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"garbage", OK[:-1]])
async def test_a_backend_that_said_anything_is_not_asked_again(talk: Conversation, said: bytes) -> None:
    peer = await idle_peer(talk)
    call = talk.ask()
    await peer.answers(said)
    peer.hangs_up()
    with pytest.raises(httpx.RemoteProtocolError):
        await talk.read(await soon(call))
    assert talk.backend.accepted == 1


async def test_a_backend_that_dies_at_work_is_not_asked_again(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herdgate.upstream.transport._STALE_WITHIN", 0.05)
    peer = await idle_peer(talk)
    call = talk.ask()
    await peer.hears_head()
    await asyncio.sleep(0.1)
    peer.hangs_up()
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        await soon(call)
    assert talk.backend.accepted == 1


async def test_silence_on_a_kept_connection_is_not_staleness(talk: Conversation) -> None:
    await idle_peer(talk)
    with pytest.raises(httpx.ReadTimeout):
        await soon(talk.ask(talk.backend.request(timeout={"read": 0.05})))
    assert talk.backend.accepted == 1


async def test_a_body_that_cannot_be_sent_twice_gets_a_fresh_connection(talk: Conversation) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"ok"

    await idle_peer(talk)
    call = talk.ask(talk.backend.request("POST", content=body()))
    fresh = await talk.backend.accept()
    await fresh.hears_head()
    await fresh.hears(b"2\r\nok\r\n0\r\n\r\n")
    fresh.says(OK)
    assert await talk.read(await soon(call)) == b"ok"


async def test_idle_connections_expire(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(idle_expiry=0.1), backend)
    older = await idle_peer(talk)
    await older.sees_hang_up()
    newer = await idle_peer(talk)
    assert backend.accepted == 2
    await newer.sees_hang_up()
    await talk.close()


async def test_each_idle_connection_expires_in_its_own_time(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(idle_expiry=0.2), backend)
    calls = [talk.ask() for _ in range(2)]
    older, newer = [await backend.accept() for _ in calls]
    await older.answers(OK)
    await asyncio.sleep(0.1)
    await newer.answers(OK)
    await asyncio.wait(calls)
    began = time.monotonic()
    await older.sees_hang_up()
    assert len(talk.transport._pool._open) == 1
    await newer.sees_hang_up()
    assert 0.15 < time.monotonic() - began < 0.4
    await talk.close()


async def test_a_closed_transport_leaves_no_timer(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(), backend)
    await idle_peer(talk)
    pool = weakref.ref(talk.transport._pool)
    await talk.close()
    del talk
    gc.collect()
    assert pool() is None


async def test_use_postpones_expiry(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(idle_expiry=0.3), backend)
    peer = await idle_peer(talk)
    for _ in range(5):
        await asyncio.sleep(0.1)
        call = talk.ask()
        await peer.answers(OK)
        await soon(call)
    assert backend.accepted == 1
    await talk.close()


async def test_only_so_many_idle_connections_are_kept(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(max_idle=2), backend)
    calls = [talk.ask() for _ in range(3)]
    peers = [await backend.accept() for _ in calls]
    for peer in peers:
        await peer.answers(OK)
        await settle()
    for call in calls:
        await soon(call)
    await peers[0].sees_hang_up()  # the one that was idle for longest
    again = [talk.ask() for _ in range(2)]
    for peer in (peers[1], peers[2]):
        await peer.answers(OK)
    for call in again:
        await soon(call)
    assert backend.accepted == 3
    await talk.close()


async def test_a_crowd_that_asks_again_needs_no_new_connection(talk: Conversation) -> None:
    for _ in range(3):
        calls = [talk.ask() for _ in range(100)]
        while len(talk.backend.peers) < 100:
            await talk.backend.accept()
        for peer in talk.backend.peers:
            await peer.answers(OK)
        for call in calls:
            await soon(call)
    assert talk.backend.accepted == 100


def pause_and_resume(body: BodyStream, data: bytes) -> None:
    """Be a sink that refers to the stream it is given to."""
    body.pause()
    body.resume()


async def test_nothing_is_left_for_the_garbage_collector(talk: Conversation) -> None:
    """A cycle per request would cost more collections than all the rest of the request."""
    peer = await idle_peer(talk)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            call = talk.transport.handle_async_request(talk.backend.request())
            task = asyncio.ensure_future(call)
            await peer.answers(OK[:-1])
            body = talk.body(await task)
            relaying = asyncio.ensure_future(body.relay(partial(pause_and_resume, body)))
            await asyncio.sleep(0)
            peer.says(OK[-1:])
            await soon(relaying)
        del call, task, body, relaying
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [item for item in gc.garbage if type(item).__module__.startswith(("herdgate", "httptools"))]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_closed_connection_is_not_kept_alive_by_its_timers(talk: Conversation) -> None:
    call = talk.ask(talk.backend.request(timeout={"connect": 600, "read": 600, "write": 600}))
    await (await talk.backend.accept()).hears_head()
    [connection] = [weakref.ref(connection) for connection in talk.transport._pool._open]
    call.cancel()
    await asyncio.wait([call])
    del call  # and the traceback in it
    talk._calls.clear()
    await settle()
    gc.collect()
    assert connection() is None


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n"])
async def test_a_connection_may_be_lost_before_it_is_used(talk: Conversation, said: bytes) -> None:
    """The backend may close, or speak first, between two turns of the event loop while we are connecting."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    closed: list[Connection] = []
    connection = Connection(Origin("http", "backend", 80, ""), loop, closed.append, closed.append, Outbox())
    with theirs:
        transport, _ = await loop.create_connection(lambda: connection, sock=ours)
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        await soon(connection.lost)
        assert closed == [connection]
        assert not connection.opened(transport)


class Line(asyncio.Transport):
    """Notes what is written on it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return 0


def asked(idle: list[Connection]) -> tuple[Connection, Line, BodyStream]:
    """A connection that was given a request in this turn of the loop."""
    line, loop = Line(), asyncio.get_running_loop()
    connection = Connection(Origin("http", "backend", 80, ""), loop, idle.append, lambda _: None, Outbox())
    connection.opened(line)
    stream = connection.begin(ResponseParser(limits=DEFAULT_LIMITS), None)
    connection.write_whole(b"request")
    return connection, line, stream


async def test_a_request_goes_out_at_the_end_of_the_turn_and_its_connection_is_used_again() -> None:
    idle: list[Connection] = []
    connection, line, stream = asked(idle)
    assert line.written == []
    await asyncio.sleep(0)
    assert line.written == [b"request"]
    connection.data_received(OK)
    assert (stream.complete, idle, line.aborted) == (True, [connection], False)


async def test_a_request_that_is_given_up_within_the_turn_is_never_sent() -> None:
    _, line, stream = asked([])
    stream.close()
    await asyncio.sleep(0)
    assert (line.written, line.aborted) == ([], True)


async def test_an_answer_before_its_question_costs_the_connection() -> None:
    """What would still be sent on it would be answered, too, and that answer be taken for another one."""
    idle: list[Connection] = []
    connection, line, _ = asked(idle)
    connection.data_received(OK)
    await asyncio.sleep(0)
    assert (line.written, line.aborted, idle) == ([], True, [])


async def test_no_descriptor_is_left(backend: Backend) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = descriptors()
    transport = UpstreamTransport()
    talk = Conversation(transport, backend)
    calls = [talk.ask() for _ in range(50)]
    for _ in calls:
        await (await backend.accept()).answers(OK)
    for call in calls:
        await soon(call)
    await talk.close()
    for peer in backend.peers:
        await peer.sees_hang_up()
        peer.hangs_up()
        await soon(peer.writer.wait_closed())
    await settle()
    assert descriptors() == before


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_machine_that_is_gone_is_noticed_and_nothing_waits_to_be_sent(
    new_event_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def options() -> dict[str, int]:
        backend = Backend(None)
        await backend.start()
        talk = Conversation(UpstreamTransport(), backend)
        await idle_peer(talk)
        (idle,) = (each for kept in talk.transport._pool._idle.values() for each in kept)
        sock = idle._transport.get_extra_info("socket")
        found = {name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in expected}
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await talk.transport.aclose()
        await backend.stop()
        return found

    expected = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": 15,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 30_000,
    }
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(options()) == expected
