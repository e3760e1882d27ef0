"""Sending bodies that are large or come piece by piece, to backends that take them, or do not."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from herdgate.testing.gateway import until

from .conftest import Conversation, Peer, soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
LARGE = bytes(24_000_000)


class Pieces:
    """A body that the test hands out."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.closed = False

    async def __call__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self.queue.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed = True

    def give(self, *pieces: bytes | Exception | None) -> None:
        for piece in pieces:
            self.queue.put_nowait(piece)


def stop_reading(peer: Peer) -> None:
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def test_a_large_body_arrives_whole(talk: Conversation) -> None:
    body = bytes(range(256)) * 20_000
    call = talk.ask(talk.backend.request("POST", content=body))
    peer = await talk.backend.accept()
    assert b"Content-Length: %d\r\n" % len(body) in await peer.hears_head()
    await peer.hears(body)
    peer.says(OK)
    assert await talk.read(await soon(call)) == b"ok"
    call = talk.ask()
    await peer.answers(OK)
    await soon(call)


async def test_pieces_leave_as_chunks_as_they_come(talk: Conversation) -> None:
    pieces = Pieces()
    call = talk.ask(talk.backend.request("POST", content=pieces()))
    peer = await talk.backend.accept()
    assert b"Transfer-Encoding: chunked\r\n" in await peer.hears_head()
    pieces.give(b"one")
    await peer.hears(b"3\r\none\r\n")
    pieces.give(b"", b"two", None)
    await peer.hears(b"3\r\ntwo\r\n0\r\n\r\n")
    peer.says(OK)
    assert await talk.read(await soon(call)) == b"ok"
    assert pieces.closed


async def test_pieces_of_a_known_length_leave_as_they_are(talk: Conversation) -> None:
    pieces = Pieces()
    pieces.give(b"one", b"two", None)
    call = talk.ask(talk.backend.request("POST", content=pieces(), headers={"Content-Length": "6"}))
    peer = await talk.backend.accept()
    assert b"Transfer-Encoding" not in await peer.hears_head()
    await peer.hears(b"onetwo")
    peer.says(OK)
    await soon(call)


@pytest.mark.parametrize(("length", "message"), [("5", "longer"), ("7", "has 6 bytes")])
async def test_pieces_that_break_their_promise_are_not_sent_as_a_request(
    talk: Conversation, length: str, message: str
) -> None:
    pieces = Pieces()
    pieces.give(b"one", b"two", None)
    call = talk.ask(talk.backend.request("POST", content=pieces(), headers={"Content-Length": length}))
    peer = await talk.backend.accept()
    with pytest.raises(httpx.LocalProtocolError, match=message):
        await soon(call)
    await peer.sees_hang_up()


async def test_an_error_of_the_body_ends_the_exchange(talk: Conversation) -> None:
    pieces = Pieces()
    pieces.give(b"one", TimeoutError("the client is gone"))
    call = talk.ask(talk.backend.request("POST", content=pieces()))
    peer = await talk.backend.accept()
    with pytest.raises(TimeoutError, match="the client is gone"):
        await soon(call)
    await peer.sees_hang_up()


@pytest.mark.parametrize("end", ["stays", "closes"])
async def test_an_early_answer_ends_a_large_upload(talk: Conversation, end: str) -> None:
    call = talk.ask(talk.backend.request("POST", content=LARGE))
    peer = await talk.backend.accept()
    stop_reading(peer)
    peer.says(TOO_LARGE)
    if end == "closes":
        peer.hangs_up()
    response = await soon(call)
    assert response.status_code == 413
    assert await talk.read(response) == b"no"
    assert await talk.read(await talk.get(OK)) == b"ok"
    assert talk.backend.accepted == 2


@pytest.mark.parametrize("body", ["bytes", "pieces", "slow pieces"])
async def test_an_early_answer_survives_the_reset_that_comes_with_it(talk: Conversation, body: str) -> None:
    """A server that answers and closes with unread bytes resets the connection, and our next write fails."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield bytes(8000)
            if body == "slow pieces":
                await asyncio.sleep(0)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(TOO_LARGE)

        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        for _ in range(20):
            refusing = asyncio.ensure_future(asyncio.to_thread(refuse))
            content = LARGE if body == "bytes" else pieces()
            response = await soon(talk.ask(httpx.Request("POST", url, content=content)))
            assert response.status_code == 413
            assert await talk.read(response) == b"no"
            await refusing


async def test_an_early_answer_ends_an_upload_whose_next_piece_does_not_come(talk: Conversation) -> None:
    pieces = Pieces()
    call = talk.ask(talk.backend.request("POST", content=pieces()))
    peer = await talk.backend.accept()
    await peer.hears_head()
    peer.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    response = await soon(call)
    assert pieces.closed
    reading = asyncio.ensure_future(talk.read(response))
    await asyncio.sleep(0.01)
    peer.says(b"early")
    assert await soon(reading) == b"early"
    await peer.sees_hang_up()  # it still waits for the rest of the request, so it must not get another


async def test_an_early_answer_closes_a_body_that_waits_to_be_sent(talk: Conversation) -> None:
    pieces = Pieces()
    pieces.give(LARGE)
    call = talk.ask(talk.backend.request("POST", content=pieces()))
    peer = await talk.backend.accept()
    await peer.hears_head()
    stop_reading(peer)
    peer.says(TOO_LARGE)
    await soon(call)
    await until(lambda: pieces.closed)  # httpx leaves it to the event loop to close what it wraps


async def test_an_interim_answer_does_not_end_the_upload(talk: Conversation) -> None:
    pieces = Pieces()
    call = talk.ask(talk.backend.request("POST", content=pieces()))
    peer = await talk.backend.accept()
    await peer.answers(b"HTTP/1.1 100 Continue\r\n\r\n")
    await asyncio.sleep(0.05)
    pieces.give(b"one", None)
    await peer.hears(b"3\r\none\r\n0\r\n\r\n")
    peer.says(OK)
    assert await talk.read(await soon(call)) == b"ok"


async def test_an_answer_that_outruns_a_request_still_in_our_buffers_costs_the_connection(talk: Conversation) -> None:
    call = talk.ask(talk.backend.request("POST", content=LARGE))
    peer = await talk.backend.accept()
    stop_reading(peer)
    await asyncio.sleep(0.05)
    peer.says(OK)  # keep-alive, but with most of the request unread
    assert await talk.read(await soon(call)) == b"ok"
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await peer.sees_hang_up()


async def test_an_answer_that_outruns_a_small_request_costs_the_connection_too(talk: Conversation) -> None:
    talk.backend._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # as small as can be
    await talk.read(await talk.get(OK))
    [peer] = talk.backend.peers
    stop_reading(peer)
    [connection] = talk.transport._pool._open
    connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    call = talk.ask(talk.backend.request("POST", content=bytes(60_000)))
    await asyncio.sleep(0.05)
    assert connection._transport.get_write_buffer_size() > 0
    peer.says(OK)
    assert await talk.read(await soon(call)) == b"ok"
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await peer.sees_hang_up()


@pytest.mark.parametrize("body", ["bytes", "pieces"])
async def test_a_backend_that_takes_no_more(talk: Conversation, body: str) -> None:
    pieces = Pieces()
    pieces.give(LARGE)
    content = LARGE if body == "bytes" else pieces()
    call = talk.ask(talk.backend.request("POST", content=content, timeout={"write": 0.1, "read": 0.01}))
    stop_reading(await talk.backend.accept())
    with pytest.raises(httpx.WriteTimeout, match=r"took no more of the request for 0\.1 s"):
        await soon(call)


async def test_a_backend_that_takes_it_slowly_is_in_time(talk: Conversation) -> None:
    call = talk.ask(talk.backend.request("POST", content=LARGE[:3_000_000], timeout={"write": 0.5}))
    peer = await talk.backend.accept()
    await peer.hears_head()
    left = 3_000_000
    while left:
        await asyncio.sleep(0.02)
        left -= len(await soon(peer.reader.read(100_000)))
    peer.says(OK)
    await soon(call)


@pytest.mark.parametrize("end", ["closes", "resets"])
async def test_the_connection_breaks_during_the_upload(talk: Conversation, end: str) -> None:
    pieces = Pieces()
    call = talk.ask(talk.backend.request("POST", content=pieces()))
    peer = await talk.backend.accept()
    await peer.hears_head()
    if end == "closes":
        peer.hangs_up()
    else:
        peer.resets()
    with pytest.raises((httpx.WriteError, httpx.RemoteProtocolError)) as caught:
        await soon(call)
    assert isinstance(caught.value, httpx.WriteError) is (end == "resets")
    assert pieces.closed


async def test_a_body_that_never_waits_does_not_outlive_its_connection(talk: Conversation) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1)

        refusing = asyncio.ensure_future(asyncio.to_thread(refuse))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(httpx.WriteError):
            await soon(talk.ask(httpx.Request("POST", url, content=endless())))
        await refusing


@pytest.mark.parametrize("body", ["bytes", "pieces"])
async def test_cancelling_an_upload_tells_the_backend(talk: Conversation, body: str) -> None:
    pieces = Pieces()
    pieces.give(b"one")
    call = talk.ask(talk.backend.request("POST", content=LARGE if body == "bytes" else pieces()))
    peer = await talk.backend.accept()
    await peer.hears_head()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(call)
    await peer.sees_hang_up()
    assert pieces.closed or body == "bytes"
