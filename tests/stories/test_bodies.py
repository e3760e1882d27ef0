"""Bodies: what two readers could understand differently, or is too large, is refused before any backend hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.stories.conftest import CHAT, OPENAI_CHAT
from tests.stories.doors import BODY, CHUNKED, chunked, forwarded, message_of, padded
from tests.stories.raw import connected, request

from herdgate.surface import ENDPOINTS, find
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

LIMIT = 2000


@pytest.fixture
async def gateway(first: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    async with running_gateway(first, toml=f"[server]\nmax_body = {LIMIT}\n") as running:
        yield running


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
    b'{"model":"llama3.2","x":Infinity}': "not valid JSON",
    b'{"model":"llama3.2"}\x00': "not valid JSON",
    b'{"model":"llama3.2",}': "not valid JSON",
    b'{"model":"llama3.2"/**/}': "not valid JSON",
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


JSON_PATHS = [endpoint.path for endpoint in ENDPOINTS if endpoint.model_fields and not endpoint.form]


@pytest.mark.parametrize("path", JSON_PATHS)
async def test_a_body_that_nobody_could_read_alike_is_refused_here(
    gateway: RunningGateway, first: SimulatedOllama, path: str
) -> None:
    endpoint = find(path)
    streams = endpoint is not None and endpoint.streams is not None
    async with connected(gateway) as connection:
        for body, why in {**BAD_BODIES, **(BAD_STREAMS if streams else {})}.items():
            reply = await connection.ask("POST", path, body)
            assert (reply.status, reply.header("connection")) == (400, "keep-alive"), body
            assert why in message_of(reply, path), body
        for nothing in ({}, {"Content-Length": "0"}):
            reply = await connection.ask("POST", path, headers=nothing)
            assert (reply.status, message_of(reply, path)) == (400, "missing request body")
    assert forwarded(first) == []


@pytest.mark.parametrize("path", JSON_PATHS)
async def test_a_body_nested_so_deeply_that_reading_it_could_fail_is_refused_here(
    first: SimulatedOllama, path: str
) -> None:
    deep = b'{"model":"llama3.2","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        reply = await connection.ask("POST", path, deep)
        assert (reply.status, reply.header("connection")) == (400, "keep-alive")
        assert "nested too deeply" in message_of(reply, path)
    assert forwarded(first) == []


async def test_a_compressed_body_is_not_read(gateway: RunningGateway, first: SimulatedOllama) -> None:
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", CHAT, b"\x28\xb5\x2f\xfd", {"Content-Encoding": "zstd"})
        assert reply.status == 415
        assert "zstd" in message_of(reply, CHAT)
        assert (await connection.ask("POST", CHAT, BODY, {"Content-Encoding": "identity"})).status == 200
    assert forwarded(first) == [CHAT]


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
        assert reply.header("connection") == "keep-alive"
    async with connected(gateway) as connection:
        connection.send(
            request("POST", path, headers=CHUNKED) + chunked(*(over[i : i + 50] for i in range(0, 2001, 50)))
        )
        assert (await connection.reply()).status == 413
    assert forwarded(first) == []


@pytest.mark.parametrize("announced", [LIMIT + 2, 10**9])
async def test_a_chunk_over_the_limit_is_refused_before_it_is_sent(
    gateway: RunningGateway, first: SimulatedOllama, announced: int
) -> None:
    async with connected(gateway) as connection:
        connection.send(request("POST", OPENAI_CHAT, headers=CHUNKED) + b"%x\r\n" % announced)
        reply = await connection.reply()
        assert (reply.status, message_of(reply, OPENAI_CHAT)) == (413, "request body too large")
        assert reply.header("connection") == "close"
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
