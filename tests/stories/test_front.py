"""The front door: what is no proper request is refused in the dialect of its path, and no backend ever hears of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.stories.conftest import CHAT, MODEL, OPENAI_CHAT, Chat
from tests.stories.raw import Connection, Raw, connected, request

from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

LIMIT = 2000
ASK = Chat(CHAT, stream=False)
BODY = json.dumps(ASK.body()).encode()
POLLS = {"/api/tags", "/api/version"}


@pytest.fixture
async def gateway(first: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    async with running_gateway(first, toml=f"[server]\nmax_body = {LIMIT}\n") as running:
        yield running


def forwarded(backend: SimulatedOllama) -> list[str]:
    assert backend.malformed == []
    return [request.path for request in backend.requests if request.path not in POLLS]


def message_of(reply: Raw, path: str) -> str:
    """The message of an error. Fails if it does not have the shape of the path's family."""
    assert reply.header("content-type") == "application/json"
    said: dict[str, Any] = json.loads(reply.body)
    if path.startswith("/v1/messages"):
        assert (set(said), said["type"]) == ({"type", "error", "request_id"}, "error")
        assert said["request_id"] == reply.header("x-request-id")
        assert set(said["error"]) == {"type", "message"}
        return str(said["error"]["message"])
    assert set(said) == {"error"}
    if path.startswith("/v1/"):
        assert set(said["error"]) == {"message", "type", "param", "code"}
        return str(said["error"]["message"])
    assert isinstance(said["error"], str)
    return str(said["error"])


# bodies

BAD_BODIES: dict[bytes, str] = {
    b"": "missing request body",
    b" \n": "missing request body",
    b"{": "not valid JSON",
    b"{'model': 'llama3.2'}": "not valid JSON",
    BODY + b"x": "not valid JSON",
    BODY + BODY: "not valid JSON",
    b"[]": "must be a JSON object",
    b"null": "must be a JSON object",
    b'"llama3.2"': "must be a JSON object",
    b"\xef\xbb\xbf" + BODY: "byte order mark",
    b'{"model":"llama3.2","options":{"seed":NaN}}': "not valid JSON",
    b'{"model":"llama3.2","x":"\xff"}': "not valid UTF-8",
    b'{"model":"llama3.2","x":"\\ud800"}': "not valid JSON",
    b'{"model":"llama3.2","model":"llama3.2"}': "given twice",
    b'{"model":"llama3.2","MODEL":"only-second"}': "differ only in case",
    b'{"Model":"llama3.2"}': "would be read as 'model'",
    b'{"model":"llama3.2","x":1,"X":2}': "differ only in case",
    '{"model":"llama3.2","\u017ftream":true}'.encode(): "would be read as 'stream'",
    '{"model":"llama3.2","\u212aeep_alive":0}'.encode(): "would be read as 'keep_alive'",
    b'{"model":"llama3.2","\\u006dodel":"only-second"}': "given twice",
    b"{}": "model is required",
    b'{"model":""}': "model is required",
    b'{"model":null}': "model is required",
    b'{"name":""}': "model is required",
    b'{"model":5}': 'the field "model" must be a string',
    b'{"model":["llama3.2"]}': 'the field "model" must be a string',
    b'{"model":"a b"}': "invalid model name",
    b'{"model":"../etc/passwd"}': "invalid model name",
    b'{"model":"m:"}': "invalid model name",
    b'{"model":"/m"}': "invalid model name",
    b'{"model":"a:b:c"}': "invalid model name",
    b'{"model":"llama3.2@sha256:abc"}': "invalid model name",
    b'{"model":"llama3.2:local:cloud"}': "either :local or :cloud",
    b'{"model":"' + b"x" * 500 + b'"}': "invalid model name",
}
BAD_STREAMS: dict[bytes, str] = {
    b'{"model":"llama3.2","stream":"yes"}': 'the field "stream" must be true or false',
    b'{"model":"llama3.2","stream":1}': 'the field "stream" must be true or false',
}


@pytest.mark.parametrize("path", [CHAT, "/api/generate", "/api/embed", "/api/show", OPENAI_CHAT, "/v1/embeddings"])
async def test_a_body_that_nobody_could_read_alike_is_refused_here(
    gateway: RunningGateway, first: SimulatedOllama, path: str
) -> None:
    streams = path in {CHAT, "/api/generate", OPENAI_CHAT}
    async with connected(gateway) as connection:
        for body, why in {**BAD_BODIES, **(BAD_STREAMS if streams else {})}.items():
            reply = await connection.ask("POST", path, body)
            assert (reply.status, reply.header("connection")) == (400, "keep-alive"), body
            assert why in message_of(reply, path), body
        for nothing in ({}, {"Content-Length": "0"}):
            reply = await connection.ask("POST", path, headers=nothing)
            assert (reply.status, message_of(reply, path)) == (400, "missing request body")
    assert forwarded(first) == []


async def test_a_compressed_body_is_not_read(gateway: RunningGateway, first: SimulatedOllama) -> None:
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", CHAT, b"\x28\xb5\x2f\xfd", {"Content-Encoding": "zstd"})
        assert reply.status == 415
        assert "zstd" in message_of(reply, CHAT)
        assert (await connection.ask("POST", CHAT, BODY, {"Content-Encoding": "identity"})).status == 200
    assert forwarded(first) == [CHAT]


def padded(size: int) -> bytes:
    body = json.dumps({**ASK.body(), "padding": ""}).encode()
    return body[:-2] + b"x" * (size - len(body)) + b'"}'


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


CHUNKED = {"Transfer-Encoding": "chunked"}


async def test_a_body_of_exactly_the_limit_is_taken(gateway: RunningGateway, first: SimulatedOllama) -> None:
    async with connected(gateway) as connection:
        assert (await connection.ask("POST", CHAT, padded(LIMIT))).status == 200
        connection.send(request("POST", CHAT, headers=CHUNKED) + chunked(padded(LIMIT)))
        assert (await connection.reply()).status == 200
    assert [each.body for each in first.requests if each.path == CHAT] == [padded(LIMIT)] * 2


@pytest.mark.parametrize("path", [CHAT, OPENAI_CHAT])
async def test_a_body_over_the_limit_is_refused(gateway: RunningGateway, first: SimulatedOllama, path: str) -> None:
    over = padded(LIMIT + 1)
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", path, over)
        assert (reply.status, message_of(reply, path)) == (413, "request body too large")
        assert reply.header("connection") == "keep-alive"
        connection.send(request("POST", path, headers=CHUNKED) + chunked(over))
        reply = await connection.reply()
        assert (reply.status, message_of(reply, path)) == (413, "request body too large")
        assert await connection.rest() == b""
    async with connected(gateway) as connection:
        connection.send(
            request("POST", path, headers=CHUNKED) + chunked(*(over[i : i + 50] for i in range(0, 2001, 50)))
        )
        assert (await connection.reply()).status == 413
    assert forwarded(first) == []


async def test_a_much_too_large_body_is_refused_before_it_is_sent(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    async with connected(gateway) as connection:
        connection.send(request("POST", CHAT, headers={"Content-Length": str(10**12)}))
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (413, "close")
    async with connected(
        gateway
    ) as connection:  # one that sends everything before it reads gets the reply all the same
        connection.send(request("POST", CHAT, padded(3_000_000)))
        assert (await connection.reply()).status == 413
    assert forwarded(first) == []


@pytest.mark.parametrize("sent_chunked", [False, True], ids=["length", "chunked"])
async def test_a_large_body_reaches_the_backend_byte_for_byte(first: SimulatedOllama, sent_chunked: bool) -> None:
    """With its length, however it came: an Ollama that still waits for the last chunk does not see its client leave."""
    body = padded(2_000_000)
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        if sent_chunked:
            pieces = [body[start : start + 70_000] for start in range(0, len(body), 70_000)]
            connection.send(request("POST", CHAT, headers=CHUNKED) + chunked(*pieces))
        else:
            connection.send(request("POST", CHAT, body))
        assert (await connection.reply()).status == 200
    (received,) = [each for each in first.requests if each.path == CHAT]
    assert received.body == body
    assert received.values("content-length") == (str(len(body)),)
    assert received.values("transfer-encoding") == ()


async def test_a_body_may_come_in_drops(gateway: RunningGateway, first: SimulatedOllama) -> None:
    async with connected(gateway) as connection:
        for byte in request("POST", CHAT, BODY):
            connection.send(bytes([byte]))
            await connection.writer.drain()
            await asyncio.sleep(0)
        assert (await connection.reply()).status == 200
    assert [each.body for each in first.requests if each.path == CHAT] == [BODY]


# framing

HOST = b"Host: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
GET = b"GET /api/version HTTP/1.1\r\n" + HOST
POST = b"POST /api/chat HTTP/1.1\r\n"
CHUNKS = chunked(BODY)
SMUGGLED = b"GET /api/tags HTTP/1.1\r\n" + HOST + b"\r\n"
"""Follows every request below: a gateway that cuts differently than a proxy in front of it would answer this, too."""
MALFORMED = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "words": b"hello there\r\n\r\n",
    "another version": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "lower-case protocol": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab": b"GET\t/api/version HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path that is no ASCII": "GET /api/tägs HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "a path that begins nowhere": b"GET api/version HTTP/1.1\r\n" + HOST + b"\r\n",
    "a broken address": b"GET http://[ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tunnel": b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no colon": GET + b"nonsense\r\n\r\n",
    "no name": GET + b": nonsense\r\n\r\n",
    "no Host": b"GET /api/version HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: other\r\n\r\n",
    "NUL": GET + b"X: a\x00b\r\n\r\n",
    "a bare LF": GET + b"X: a\nX-Api-Key: b\r\n\r\n",
    "a bare CR": GET + b"X: a\rb\r\n\r\n",
    "a folded line": GET + b"X: a\r\n b\r\n\r\n",
    "a name with a space": GET + b"X Y: a\r\n\r\n",
    "a length that is no number": POST + HOST + b"Content-Length: abc\r\n\r\n" + BODY,
    "a negative length": POST + HOST + b"Content-Length: -5\r\n\r\n" + BODY,
    "a signed length": POST + HOST + b"Content-Length: +79\r\n\r\n" + BODY,
    "a length in hexadecimal": POST + HOST + b"Content-Length: 0x4f\r\n\r\n" + BODY,
    "a length in other digits": POST + HOST + "Content-Length: ٧٩\r\n\r\n".encode() + BODY,
    "an empty length": POST + HOST + b"Content-Length:\r\n\r\n" + BODY,
    "a list of lengths": POST + HOST + b"Content-Length: 79, 79\r\n\r\n" + BODY,
    "two lengths": POST + HOST + LENGTH + LENGTH + b"\r\n" + BODY,
    "a length behind a space": POST + HOST + LENGTH.replace(b":", b" :") + b"\r\n" + BODY,
    "a length behind a tab": POST + HOST + LENGTH.replace(b":", b"\t:") + b"\r\n" + BODY,
    "length and chunks": POST + HOST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "chunks behind a space": POST + HOST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "chunks of something": POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "another coding": POST + HOST + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "a coding with a vertical tab": POST + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "chunks without a size": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunks of negative size": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a trailer": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS[:-2] + b"X-Api-Key: x\r\n\r\n",
}


@pytest.mark.parametrize("path", [CHAT, OPENAI_CHAT])
@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_proper_http_ends_its_connection_with_a_400(
    gateway: RunningGateway, first: SimulatedOllama, caplog: pytest.LogCaptureFixture, what: str, path: str
) -> None:
    sent = MALFORMED[what].replace(CHAT.encode(), path.encode())
    async with connected(gateway) as connection:
        connection.send(sent + SMUGGLED)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (400, "close")
        assert message_of(reply, path if path.encode() in sent else "/")
        assert await connection.rest() == b""
    assert forwarded(first) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n", b"\r\n"], ids=repr)
async def test_nothing_that_follows_chunks_is_taken_for_a_request(gateway: RunningGateway, end: bytes) -> None:
    """Sanic reads chunks leniently. So there may be another request in what it took for the first one's end."""
    async with connected(gateway) as connection:
        odd = CHUNKS.replace(b"\r\n0\r\n\r\n", b"XX0\r\n\r\n") + end
        connection.send(request("POST", CHAT, headers=CHUNKED) + odd + SMUGGLED)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (200, "close")
        assert await connection.rest() == b""


async def test_a_refused_request_with_broken_chunks_is_no_fault_of_the_gateway(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(gateway) as connection:
        connection.send(request("POST", "/api/pull", headers=CHUNKED) + b"zz\r\nnonsense")
        assert (await connection.reply()).status == 403
        assert await connection.rest() == b""
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


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
    monkeypatch.setattr("herdgate.front.app.HEAD_SILENCE", 0.2)
    monkeypatch.setattr("herdgate.front.responder.SILENCE", 0.2)
    monkeypatch.setattr("herdgate.front.responder.LINGER", 60.0)
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        connection.send(sent)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (408, "close")
        assert "in time" in message_of(reply, CHAT)
    assert forwarded(first) == []


@pytest.mark.parametrize("sent", [b"GET /api/tags HT", POST + HOST, POST + HOST + LENGTH + b"\r\n" + BODY[:-1]])
async def test_a_caller_that_leaves_while_it_sends_leaves_nothing_behind(
    gateway: RunningGateway, first: SimulatedOllama, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    before = len(asyncio.all_tasks())
    async with connected(gateway) as connection:
        connection.send(sent)
        await connection.writer.drain()
        await until(lambda: len(asyncio.all_tasks()) > before)
    await until(lambda: len(asyncio.all_tasks()) <= before)
    assert forwarded(first) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# paths and methods


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("POST", "/api/web_search", 404, None),
        ("GET", "/v1/files", 404, None),
        ("POST", "/v1/images/generations", 404, None),
        ("GET", "/v1/models/", 404, None),
        ("POST", "/v1/messages/count_tokens", 404, None),
        ("POST", "/api/chat/", 404, None),
        ("POST", "//api/chat", 404, None),
        ("POST", "/api/../api/chat", 404, None),
        ("POST", "/api/%63hat", 404, None),
        ("POST", "/API/CHAT", 404, None),
        ("POST", "/api/chat;x=1", 404, None),
        ("GET", "/api/chat", 405, "OPTIONS, POST"),
        ("PUT", "/api/pull", 405, "OPTIONS, POST"),
        ("POST", "/api/tags", 405, "GET, HEAD, OPTIONS"),
        ("HEAD", "/api/ps", 405, "GET, OPTIONS"),
        ("GET", "/api/delete", 405, "DELETE, OPTIONS"),
        ("GET", "/v1/chat/completions", 405, "OPTIONS, POST"),
        ("DELETE", "/v1/models/llama3.2", 405, "GET, OPTIONS"),
        ("GET", "/v1/messages", 405, "OPTIONS, POST"),
        ("BREW", "/api/chat", 405, "OPTIONS, POST"),
        ("TRACE", "/api/chat", 405, "OPTIONS, POST"),
        ("POST", "/", 405, "GET, HEAD, OPTIONS"),
        ("get", "/api/tags", 405, "GET, HEAD, OPTIONS"),
    ],
)
async def test_unknown_paths_and_wrong_methods_get_json_and_go_nowhere(
    gateway: RunningGateway, first: SimulatedOllama, method: str, path: str, status: int, allow: str | None
) -> None:
    async with connected(gateway) as connection:
        for body in (None, BODY):
            reply = await connection.ask(method, path, body)
            assert (reply.status, reply.header("allow"), reply.header("connection")) == (status, allow, "keep-alive")
            if method == "HEAD":
                assert int(reply.header("content-length") or 0) > 0
            else:
                assert message_of(reply, path) == {404: "not found", 405: "method not allowed"}[status]
    assert forwarded(first) == []


async def test_a_query_goes_no_further(gateway: RunningGateway, first: SimulatedOllama) -> None:
    async with connected(gateway) as connection:
        assert (await connection.ask("POST", f"{CHAT}?ts=123&model=other", BODY)).status == 200
    (received,) = [each for each in first.requests if each.path == CHAT]
    assert received.head.target == CHAT


# connections


@pytest.mark.parametrize("family", [CHAT, OPENAI_CHAT])
async def test_old_clients_get_a_stream_that_ends_with_its_connection(gateway: RunningGateway, family: str) -> None:
    chat = Chat(family, stream=True)
    asked = request("POST", family, chat.body()).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connected(gateway) as connection:
        connection.send(asked)
        reply = await connection.reply()
    assert (reply.status, reply.header("connection"), reply.header("transfer-encoding")) == (200, "close", None)
    whole = await chat.ask(gateway)
    assert [event.keys() for event in chat.events_of(reply.body.decode())] == [
        event.keys() for event in chat.events_of(whole.text)
    ]
    assert whole.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    ("version", "said", "stays"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive", True),
    ],
)
async def test_the_connection_stays_open_as_its_caller_wants(
    gateway: RunningGateway, version: str, said: str | None, stays: bool
) -> None:
    headers = {} if said is None else {"Connection": said}
    sent = request("POST", CHAT, BODY, headers).replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    async with connected(gateway) as connection:
        connection.send(sent)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (200, "keep-alive" if stays else "close")
        assert reply.header("content-length") is not None
        if stays:
            connection.send(sent)
            assert (await connection.reply()).status == 200
        else:
            assert await connection.rest() == b""


async def test_requests_may_be_sent_ahead(gateway: RunningGateway, first: SimulatedOllama) -> None:
    """Answered one after the other, in order, whatever becomes of each."""
    stream = Chat(CHAT, stream=True)
    async with connected(gateway) as connection:
        connection.send(
            request("GET", "/api/version")
            + request("POST", CHAT, ASK.body(say="one"))
            + request("POST", CHAT, b"no JSON")
            + request("HEAD", "/api/tags")
            + request("POST", CHAT, stream.body(say="two"))
            + request("POST", "/api/pull", b"x" * 5000)
            + request("GET", "/nothing", BODY)
            + request("POST", CHAT, ASK.body(say="three"))
        )
        replies = [await connection.reply(bodiless=number == 3) for number in range(8)]
    assert [reply.status for reply in replies] == [200, 200, 400, 200, 200, 403, 404, 200]
    said = [json.loads(replies[number].body)["message"]["content"] for number in (1, 7)]
    assert [text.rsplit(": ", 1)[1] for text in said] == ["one", "three"]
    events = stream.events_of(replies[4].body.decode())
    assert events[-1]["done"] is True
    assert forwarded(first) == [CHAT] * 3


async def waits_for_leave(connection: Connection, path: str, length: int) -> Raw:
    connection.send(request("POST", path, headers={"Content-Length": str(length), "Expect": "100-continue"}))
    return await connection.reply()


async def test_a_caller_that_asks_before_it_sends_is_told_to_go_on(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    async with connected(gateway) as connection:
        assert (await waits_for_leave(connection, CHAT, len(BODY))).head == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(BODY)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (200, "keep-alive")
        assert (await connection.ask("POST", CHAT, BODY)).status == 200
    assert forwarded(first) == [CHAT] * 2


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/api/pull", 50, 403), ("/nothing", 50, 404), ("/api/tags", 50, 405), (CHAT, LIMIT + 1, 413)],
)
async def test_a_caller_that_asks_before_it_sends_is_refused_without_sending(
    gateway: RunningGateway,
    first: SimulatedOllama,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    length: int,
    status: int,
) -> None:
    monkeypatch.setattr("herdgate.front.responder.LINGER", 0.1)
    async with connected(gateway) as connection:
        reply = await waits_for_leave(connection, path, length)
        # closed: nobody could tell whether what comes next is the body or another request
        assert (reply.status, reply.header("connection")) == (status, "close")
        connection.send(SMUGGLED)
        assert await connection.rest() == b""
    assert forwarded(first) == []


async def test_no_other_expectation_can_be_met(gateway: RunningGateway) -> None:
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", OPENAI_CHAT, BODY, {"Expect": "tea"})
        assert (reply.status, message_of(reply, OPENAI_CHAT)) == (417, "expectation cannot be met")


# what is known of a request

KEPT = ["a", "A-b_c.9", "x" * 64]
MADE_ANEW = ["", "x" * 65, "with space", "semi;colon", "ünï", "{}", "a/b"]


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models/no-such-model", "/nothing", "/"])
async def test_a_harmless_request_id_is_kept_and_any_other_replaced(gateway: RunningGateway, path: str) -> None:
    async with connected(gateway) as connection:
        for given in KEPT:
            assert (await connection.ask("GET", path, headers={"X-Request-Id": given})).header("x-request-id") == given
        strange = ({}, *({"X-Request-Id": given} for given in MADE_ANEW))
        made = [(await connection.ask("GET", path, headers=headers)).header("x-request-id") for headers in strange]
    assert len(set(made)) == len(made)
    assert all(identity and identity.isalnum() and len(identity) <= 64 for identity in made)
    assert not set(made) & set(MADE_ANEW)


FORWARDED_FOR = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}


@pytest.mark.parametrize(
    ("trusted", "client"), [([], "127.0.0.1"), (["10.0.0.0/8"], "127.0.0.1"), (["127.0.0.0/8"], "198.51.100.7")]
)
async def test_only_a_trusted_proxy_is_believed_about_who_calls(
    first: SimulatedOllama, caplog: pytest.LogCaptureFixture, trusted: list[str], client: str
) -> None:
    caplog.set_level(logging.INFO, "herdgate.access")
    async with running_gateway(first, toml=f"[server]\ntrusted_proxies = {json.dumps(trusted)}\n") as gateway:
        await ASK.ask(gateway, **FORWARDED_FOR)
        await until(lambda: any(record.name == "herdgate.access" for record in caplog.records))
    (line,) = [record for record in caplog.records if record.name == "herdgate.access"]
    assert vars(line)["client"] == client
    (received,) = [each for each in first.requests if each.path == CHAT]
    assert received.values("x-forwarded-for") == ()


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/version", "/healthz", "/readyz"])
async def test_head_is_get_without_its_body(gateway: RunningGateway, path: str) -> None:
    async with connected(gateway) as connection:
        got = await connection.ask("GET", path)
        head = await connection.ask("HEAD", path)
    assert got.status == 200
    assert len(got.body) > 0
    assert head.undated == Raw(got.head, b"").undated


async def test_the_model_is_answered_as_it_was_asked_for(gateway: RunningGateway) -> None:
    for name in (MODEL, MODEL.upper(), f"{MODEL}:latest", f"library/{MODEL}", f" {MODEL} "):
        response = await gateway.client.post(CHAT, json=ASK.body(name))
        assert (response.status_code, response.json()["model"]) == (200, name)
