"""Headers: a backend sees what is on the list and nothing else, and so does a caller."""

from __future__ import annotations

import json

import pytest
from tests.stories.conftest import CHAT, OPENAI_CHAT, Chat
from tests.stories.raw import Connection, connected, request

from herdgate.testing.faults import RawReply, Status
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

PASSED = {
    "Accept": "application/json",
    "User-Agent": "GitHubCopilotChat/1.0",
    "Anthropic-Version": "2023-06-01",
    "Anthropic-Beta": "tools",
    "OpenAI-Beta": "assistants=v2",
}
KEPT_HERE = {
    "Accept-Encoding": "gzip, zstd",
    "Accept-Language": "de",
    "Authorization": "Basic c2VjcmV0",
    "Baggage": "a=b",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive, X-Hop",
    "Content-Language": "de",
    "Content-Type": "text/plain; charset=latin-1",
    "Cookie": "session=secret",
    "Forwarded": "for=203.0.113.7",
    "If-None-Match": '"x"',
    "Keep-Alive": "timeout=5",
    "OpenAI-Organization": "org",
    "Origin": "http://localhost:3000",
    "Priority": "u=1",
    "Proxy-Authorization": "Basic c2VjcmV0",
    "Proxy-Connection": "keep-alive",
    "Range": "bytes=0-1",
    "Referer": "http://localhost:3000/page",
    "TE": "trailers",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Upgrade": "h2c",
    "Via": "1.1 proxy",
    "X-Api-Key": "secret",
    "X-Custom": "secret",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Host": "example.com",
    "X-Forwarded-Prefix": "/evil",
    "X-Hop": "secret",
    "X-Real-Ip": "203.0.113.7",
    "X-Request-Id": "asked-by-me",
    "X-Stainless-Lang": "python",
}


@pytest.mark.parametrize("path", [CHAT, OPENAI_CHAT, "/v1/responses", "/v1/messages", "/api/show"])
async def test_a_backend_sees_what_is_on_the_list(gateway: RunningGateway, first: SimulatedOllama, path: str) -> None:
    body = {**Chat(path, stream=False).body(), "input": "hi", "max_tokens": 9}
    for headers in ({**PASSED, **KEPT_HERE}, {}):
        async with connected(gateway) as connection:
            assert (await connection.ask("POST", path, body, headers)).status == 200
    full, bare = (each for each in first.requests if each.path == path)
    own = {
        "host": first.url.removeprefix("http://"),
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(json.dumps(body))),
    }
    assert sorted((name.lower(), value) for name, value in full.headers) == sorted(
        {**own, **{name.lower(): value for name, value in PASSED.items()}}.items()
    )
    assert sorted((name.lower(), value) for name, value in bare.headers) == sorted(
        {**own, "user-agent": "herdgate"}.items()
    )


async def test_doubled_and_empty_headers_do_not_go_on(gateway: RunningGateway, first: SimulatedOllama) -> None:
    body = json.dumps(Chat(CHAT, stream=False).body()).encode()
    sent = request("POST", CHAT, body, {"Accept": "a/b", "accept": "c/d", "User-Agent": "", "OpenAI-Beta": ""})
    async with connected(gateway) as connection:
        connection.send(sent)
        assert (await connection.reply()).status == 200
    (received,) = [each for each in first.requests if each.path == CHAT]
    assert (received.values("accept"), received.values("user-agent")) == (("a/b, c/d",), ("herdgate",))
    assert received.values("openai-beta") == ()


OF_A_BACKEND = (
    ("Access-Control-Allow-Origin", "*"),
    ("Cache-Control", "max-age=9"),
    ("Connection", "X-Hop"),
    ("Content-Disposition", "attachment"),
    ("Keep-Alive", "timeout=5"),
    ("Link", "</x>; rel=preload"),
    ("Location", "http://10.0.0.1/"),
    ("Server", "backend/1.0"),
    ("Set-Cookie", "a=b"),
    ("Set-Cookie", "c=d"),
    ("Strict-Transport-Security", "max-age=9"),
    ("Vary", "X-Secret"),
    ("Via", "1.1 inside"),
    ("WWW-Authenticate", "Basic realm=inside"),
    ("X-Herdgate-Backend", "forged"),
    ("X-Hop", "secret"),
    ("X-Powered-By", "inside"),
    ("X-Request-Id", "of-the-backend"),
)
SEEN_WHOLE = ["content-length", "content-type", "date", "connection", "x-request-id"]


def names_of(head: bytes) -> list[str]:
    return [line.partition(b":")[0].decode() for line in head.split(b"\r\n")[1:] if line]


async def asked(connection: Connection) -> tuple[int, list[str], bytes]:
    reply = await connection.ask("POST", CHAT, Chat(CHAT, stream=False).body())
    return reply.status, names_of(reply.head), reply.head


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_caller_sees_what_is_on_the_list(first: SimulatedOllama, status: int) -> None:
    first.script(CHAT, Status(status, b'{"done":true,"message":{}}', headers=OF_A_BACKEND), times=None)
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        _, names, head = await asked(connection)
    assert sorted(names) == sorted(SEEN_WHOLE)
    assert b"of-the-backend" not in head


async def test_a_stream_says_how_it_is_to_be_passed_on(first: SimulatedOllama) -> None:
    lines = b'{"message":{"content":"a"},"done":false}\n{"done":true}\n'
    first.script(CHAT, Status(200, lines, "application/x-ndjson", OF_A_BACKEND))
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        reply = await connection.ask("POST", CHAT, Chat(CHAT, stream=True).body())
    assert reply.body == lines
    assert (reply.header("cache-control"), reply.header("x-accel-buffering")) == ("no-cache", "no")
    assert len(names_of(reply.head)) == len(set(names_of(reply.head)))


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Type: application/json\r\nContent-Type: text/html",
        b"content-type: application/json\r\nContent-Encoding: ",
        b"content-type: application/json\r\nContent-Encoding: Identity",
    ],
    ids=["twice", "empty", "says nothing"],
)
async def test_a_header_comes_once_and_never_empty(first: SimulatedOllama, fields: bytes) -> None:
    body = b'{"done":true,"message":{}}'
    raw = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (fields, len(body), body)
    first.script(CHAT, RawReply(raw))
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        status, names, head = await asked(connection)
    assert (status, sorted(names)) == (200, sorted(SEEN_WHOLE))
    assert b"content-type: application/json\r\n" in head
