"""What is no proper HTTP ends its connection, in the dialect of its path, and nothing of it is taken for a request."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from tests.stories.conftest import CHAT, OPENAI_CHAT
from tests.stories.doors import BODY, CHUNKED, chunked, forwarded, message_of
from tests.stories.raw import connected, request

from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

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


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_proper_http_ends_its_connection_with_a_400(
    gateway: RunningGateway, first: SimulatedOllama, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    for path in (CHAT, OPENAI_CHAT):
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
