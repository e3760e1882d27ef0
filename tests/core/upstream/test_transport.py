"""Requests and responses, told as dialogues with a backend on a real socket."""

import asyncio
import socket
import time

import httpx
import pytest

from herdgate.upstream import ResponseLimits, UpstreamTransport

from .conftest import Backend, Conversation, soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_request_and_its_response(talk: Conversation) -> None:
    request = httpx.Request(
        "POST", talk.backend.url("/api/chat?x=%2F"), headers=[("Host", "elsewhere"), ("x-a", "b")], content=b"{}"
    )
    call = talk.ask(request)
    peer = await talk.backend.accept()
    await peer.hears(b"POST /api/chat?x=%2F HTTP/1.1\r\nHost: elsewhere\r\nx-a: b\r\nContent-Length: 2\r\n\r\n{}")
    peer.says(b"HTTP/1.1 201 Very Good\r\nX-Mixed: 1\r\nx-mixed: 2\r\nContent-Length: 5\r\n\r\nhello")
    response = await soon(call)
    assert (response.status_code, response.reason_phrase, response.http_version) == (201, "Very Good", "HTTP/1.1")
    assert response.headers.raw == [(b"X-Mixed", b"1"), (b"x-mixed", b"2"), (b"Content-Length", b"5")]
    assert await talk.read(response) == b"hello"


async def test_a_small_request_leaves_in_one_write(talk: Conversation) -> None:
    call = talk.ask(talk.backend.request("POST", content=b"x" * 60_000))
    peer = await talk.backend.accept()
    head, _, body = (await peer.hears_anything()).partition(b"\r\n\r\n")
    assert head
    assert body  # the first read already has some of it
    peer.says(OK)
    await soon(call)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
async def test_the_connection_serves_the_next_request(talk: Conversation, answer: bytes, body: bytes) -> None:
    assert await talk.read(await talk.get(answer)) == body
    [peer] = talk.backend.peers
    call = talk.ask()
    await peer.answers(OK)
    assert await talk.read(await soon(call)) == b"ok"
    assert talk.backend.accepted == 1


async def test_the_answer_to_head_has_no_body_and_keeps_its_length(talk: Conversation) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    response = await talk.get(answer, request=talk.backend.request("HEAD"))
    assert response.headers["content-length"] == "1000"
    assert await talk.read(response) == b""
    call = talk.ask()
    await talk.backend.peers[0].answers(OK)
    assert await talk.read(await soon(call)) == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"\r\n",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil",
    ],
    ids=["close", "HTTP/1.0", "CRLF behind", "second response", "second response behind chunks"],
)
async def test_a_connection_that_cannot_be_used_again_is_closed(talk: Conversation, answer: bytes) -> None:
    assert await talk.read(await talk.get(answer)) == b"ok"
    await talk.backend.peers[0].sees_hang_up()
    assert await talk.read(await talk.get(OK)) == b"ok"
    assert talk.backend.accepted == 2


async def test_a_body_that_lasts_until_the_connection_closes(talk: Conversation) -> None:
    response = await talk.get(b"HTTP/1.1 200 OK\r\n\r\nhello")
    [peer] = talk.backend.peers
    peer.says(b" world")
    peer.hangs_up()
    assert await talk.read(response) == b"hello world"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "Server disconnected without sending a response"),
        (b"HTTP/1.1 200 OK\r\nContent-", "in the middle of the response head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "in the middle of the response head"),
        (b"SSH-2.0-OpenSSH\r\n", "malformed|does not begin"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "101"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding"),
    ],
)
async def test_no_proper_response(talk: Conversation, answer: bytes, message: str) -> None:
    call = talk.ask()
    peer = await talk.backend.accept()
    await peer.answers(answer)
    peer.hangs_up()
    with pytest.raises(httpx.RemoteProtocolError, match=message):
        await soon(call)
    await peer.sees_hang_up()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"Content-Length: 10\r\n\r\nhel", "after 3 of 10 bytes"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "before the last chunk"),
    ],
)
async def test_the_backend_closes_in_the_middle_of_the_body(talk: Conversation, head: bytes, message: str) -> None:
    response = await talk.get(b"HTTP/1.1 200 OK\r\n" + head)
    parts = aiter(talk.body(response))
    assert await soon(anext(parts)) == b"hel"
    talk.backend.peers[0].hangs_up()
    with pytest.raises(httpx.RemoteProtocolError, match=message):
        await soon(anext(parts))


async def test_the_connection_breaks_while_the_head_is_awaited(talk: Conversation) -> None:
    call = talk.ask()
    peer = await talk.backend.accept()
    await peer.hears_head()
    peer.resets()
    with pytest.raises(httpx.ReadError, match=f"127.0.0.1:{talk.backend.port} broke: ") as caught:
        await soon(call)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_the_connection_breaks_in_the_middle_of_the_body(talk: Conversation) -> None:
    response = await talk.get(b"HTTP/1.1 200 OK\r\n\r\nhello")
    parts = aiter(talk.body(response))
    assert await soon(anext(parts)) == b"hello"
    talk.backend.peers[0].resets()
    with pytest.raises(httpx.ReadError):
        await soon(anext(parts))


async def test_garbage_in_the_middle_of_the_body(talk: Conversation) -> None:
    response = await talk.get(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    [peer] = talk.backend.peers
    peer.says(b"garbage")
    with pytest.raises(httpx.RemoteProtocolError, match="malformed"):
        await talk.read(response)
    await peer.sees_hang_up()


async def test_nobody_listens(transport: UpstreamTransport) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        request = httpx.Request("GET", f"http://127.0.0.1:{port}/")
        with pytest.raises(
            httpx.ConnectError, match=f"cannot connect to http://127.0.0.1:{port}: Connection refused$"
        ) as caught:
            await transport.handle_async_request(request)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "a" * 64 + ".invalid"])
async def test_a_host_that_has_no_address(transport: UpstreamTransport, host: str) -> None:
    with pytest.raises(httpx.ConnectError, match="cannot resolve the host name"):
        await transport.handle_async_request(httpx.Request("GET", f"http://{host}/"))


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "//127.0.0.1/", "/relative", "http:///"])
async def test_an_address_that_is_none(transport: UpstreamTransport, url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await transport.handle_async_request(httpx.Request("GET", url))


async def test_a_malformed_request_opens_no_connection(talk: Conversation) -> None:
    request = httpx.Request("GET", talk.backend.url(), headers=[(b"X-A", b"1\r\nX-B: 2")])
    with pytest.raises(httpx.LocalProtocolError):
        await soon(talk.transport.handle_async_request(request))
    assert talk.backend.accepted == 0


async def test_a_connection_that_takes_too_long(transport: UpstreamTransport) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # takes the only place in the queue
            request = httpx.Request(
                "GET", f"http://127.0.0.1:{full.getsockname()[1]}/", extensions={"timeout": {"connect": 0.1}}
            )
            with pytest.raises(httpx.ConnectTimeout, match=r"within 0\.1 s"):
                await soon(transport.handle_async_request(request))


async def test_silence_before_the_head(talk: Conversation) -> None:
    call = talk.ask(talk.backend.request(timeout={"read": 0.1}))
    peer = await talk.backend.accept()
    await peer.hears_head()
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout, match=r"sent nothing for 0\.1 s"):
        await soon(call)
    assert time.monotonic() - began < 1
    await peer.sees_hang_up()


async def test_a_head_that_drips_is_no_silence(talk: Conversation) -> None:
    call = talk.ask(talk.backend.request(timeout={"read": 0.2}))
    peer = await talk.backend.accept()
    await peer.hears_head()
    for start in range(0, len(OK), 10):
        peer.says(OK[start : start + 10])
        await asyncio.sleep(0.1)
    assert await talk.read(await soon(call)) == b"ok"


async def test_the_limits_can_be_set(backend: Backend) -> None:
    transport = UpstreamTransport(limits=ResponseLimits(head_bytes=100))
    talk = Conversation(transport, backend)
    with pytest.raises(httpx.RemoteProtocolError, match="larger than 100"):
        await talk.get(b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 100 + b"\r\nContent-Length: 0\r\n\r\n")
    await talk.close()


async def test_a_backend_that_sends_heads_without_end_is_cut(talk: Conversation) -> None:
    call = talk.ask()
    peer = await talk.backend.accept()
    await peer.answers(b"HTTP/1.1 200 OK\r\n")
    while not call.done():
        peer.says(b"X-Endless: " + b"x" * 1000 + b"\r\n")
        await asyncio.sleep(0)
    with pytest.raises(httpx.RemoteProtocolError, match="larger than 65536"):
        await call
    await peer.sees_hang_up()


async def test_closing_the_transport_ends_what_is_under_way(talk: Conversation) -> None:
    streaming = await talk.get(b"HTTP/1.1 200 OK\r\n\r\nhello")
    waiting = talk.ask()
    await (await talk.backend.accept()).hears_head()
    await soon(talk.transport.aclose())
    with pytest.raises(httpx.ReadError, match="closed on this side"):
        await soon(waiting)
    with pytest.raises(httpx.ReadError, match="closed on this side"):
        await talk.read(streaming)
    for peer in talk.backend.peers:
        await peer.sees_hang_up()


async def test_a_closed_transport_connects_no_more(talk: Conversation) -> None:
    await talk.transport.aclose()
    with pytest.raises(httpx.ConnectError, match="closed"):
        await soon(talk.transport.handle_async_request(talk.backend.request()))
    assert talk.backend.accepted == 0


async def test_a_transport_that_is_closed_while_connecting_keeps_no_connection(talk: Conversation) -> None:
    call = talk.ask()
    await asyncio.sleep(0)
    await talk.transport.aclose()
    with pytest.raises(httpx.ConnectError, match="closed"):
        await soon(call)
