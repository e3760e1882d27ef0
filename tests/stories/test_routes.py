"""Paths that a plugin answers: who gets through to its handler, what the handler may do, and how its replies end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stories.conftest import plugin_of, with_plugin

from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

PLUGIN = """
import asyncio, json
from herdgate import *

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}

class Extra:
    herdgate_api = 1

    def __init__(self):
        self.calls, self.ended, self.closed = [], [], 0
        self.go = asyncio.Event()

    @hookimpl
    def authorise(self, identity, action, resources):
        if action is Action.MANAGE and identity.admin:
            return [Deny("precious") if r.model and r.model.model == "precious" else Allow() for r in resources]

    @hookimpl
    def routes(self, app, fleet):
        self.fleet = fleet
        posts = frozenset({"POST"})
        return [
            Route("/herdgate/echo", self.echo, Action.ADMINISTER, frozenset({"GET", "HEAD", "POST"})),
            Route("/herdgate/below/", self.echo, Action.ADMINISTER),
            Route("/herdgate/model", self.model, Action.MANAGE, posts),
            Route("/herdgate/lines", self.stream, Action.ADMINISTER),
            Route("/herdgate/late", self.late, Action.ADMINISTER, deadline=0.2),
            Route("/herdgate/versions", self.versions, Action.ADMINISTER),
            Route("/api/pull", self.echo, Action.MANAGE, posts),
            Route("/api/blobs/", self.blob, Action.MANAGE, posts),
        ]

    @hookimpl
    def exchange_ended(self, summary):
        if summary.exchange.path == "/herdgate/lines":
            self.ended.append(summary)

    async def echo(self, call):
        self.calls.append(call.exchange.path)
        body = (await call.body()).raw.decode() if call.exchange.method == "POST" else None
        said = {"who": call.identity.name, "query": call.query, "length": call.length, "body": body}
        return Reply(200, JSON, json.dumps(said).encode())

    async def model(self, call):
        name = call.model((await call.body()).text("model"))
        await call.require(Action.MANAGE, name)
        self.calls.append(name.display)
        return Reply(200, JSON, b"{}")

    async def blob(self, call):
        size = 0
        async for piece in call.pieces():
            size += len(piece)
        return Reply(201, {}, f"{size} of {call.length}".encode())

    async def late(self, call):
        await asyncio.sleep(60)

    async def versions(self, call):
        found = [(await self.fleet.client(b, 5).get("/api/version")).json() for b in self.fleet.backends]
        return Reply(200, JSON, json.dumps(found).encode())

    async def stream(self, call):
        headers = LINES if call.query.get("type") != "text" else {"content-type": "text/plain"}
        return StreamedReply(200, headers, self.lines(int(call.query.get("break", 99))))

    async def lines(self, end):
        try:
            for number in range(3):
                if number == end:
                    raise RuntimeError("boom")
                yield b'{"n":%d}\\n' % number
                if number == 0:
                    await self.go.wait()
        finally:
            self.closed += 1
"""


@pytest.fixture
async def gateway(first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(first, second, toml=with_plugin(tmp_path, PLUGIN), directory=tmp_path) as running:
        yield running


@pytest.fixture
async def admin(gateway: RunningGateway) -> dict[str, str]:
    return await gateway.make_key("*", name="root", admin=True)


@pytest.fixture
async def user(gateway: RunningGateway) -> dict[str, str]:
    return await gateway.make_key("*", name="alice")


def seen(reply: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that a caller can tell a reply by, but for its id and date."""
    headers = [pair for pair in reply.headers.multi_items() if pair[0] not in {"x-request-id", "date"}]
    return reply.status_code, headers, reply.content


async def test_an_admin_gets_through_and_the_handler_sees_who_asks_for_what(
    gateway: RunningGateway, admin: dict[str, str]
) -> None:
    reply = await gateway.client.get("/herdgate/echo?a=1&b=%C3%A4&a=2&c", headers=admin)
    assert reply.json() == {"who": "root", "query": {"a": "2", "b": "ä", "c": ""}, "length": 0, "body": None}
    reply = await gateway.client.post("/herdgate/echo", headers=admin, content=b'{"x": 1}')
    assert reply.json() == {"who": "root", "query": {}, "length": 8, "body": '{"x": 1}'}
    head = await gateway.client.head("/herdgate/echo", headers=admin)
    assert (head.status_code, head.content) == (200, b"")
    assert (await gateway.client.get("/herdgate/below/a/b", headers=admin)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/herdgate/echo"), ("POST", "/api/pull"), ("POST", "/api/blobs/sha256:1"), ("HEAD", "/herdgate/echo")],
)
async def test_without_the_right_a_route_is_the_generic_403_like_any_other(
    gateway: RunningGateway, user: dict[str, str], method: str, path: str
) -> None:
    """The same for a path that no plugin answers, and for a model that does not exist."""
    body = b'{"model":"nothing"}' if method == "POST" else None
    reply = await gateway.client.request(method, path, headers=user, content=body)
    refused = await gateway.client.request("POST", "/api/copy", headers=user, content=b'{"model":"nothing"}')
    unknown = await gateway.client.post("/api/generate", headers=user, content=b'{"model":"nothing"}')
    assert seen(refused) == seen(unknown)
    assert reply.status_code == 403
    if method != "HEAD":
        assert seen(reply) == seen(unknown)
    assert plugin_of(gateway, "extra").calls == []


async def test_the_body_of_a_caller_without_the_right_is_not_looked_at(
    gateway: RunningGateway, user: dict[str, str]
) -> None:
    reply = await gateway.client.post("/herdgate/echo", headers=user, content=b"{" * 100)
    assert reply.json() == {"error": "access to this model is not allowed"}


async def test_a_right_that_only_the_body_decides_about_is_masked_as_well(
    gateway: RunningGateway, admin: dict[str, str]
) -> None:
    good = await gateway.client.post("/herdgate/model", headers=admin, content=b'{"model":"plain"}')
    assert good.status_code == 200
    denied = await gateway.client.post("/herdgate/model", headers=admin, content=b'{"model":"precious"}')
    unknown = await gateway.client.post("/api/chat", headers=admin, content=b'{"model":"nothing"}')
    assert seen(denied) == seen(unknown)
    assert plugin_of(gateway, "extra").calls == ["plain:latest"]


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b"[]", {}, 400, "the request body must be a JSON object"),
        (b'{"model":"a b"}', {}, 400, "invalid model name"),
        (b'{"model":1}', {}, 400, 'the field "model" must be a string'),
        (b'{"model":"%s"}' % (b"x" * 1024 * 1024), {}, 413, "request body too large"),
        (b"{}", {"content-encoding": "zstd"}, 415, "content-encoding zstd is not supported here"),
    ],
)
async def test_a_body_that_cannot_be_read_is_the_callers_mistake(
    gateway: RunningGateway,
    admin: dict[str, str],
    content: bytes,
    headers: dict[str, str],
    status: int,
    message: str,
) -> None:
    reply = await gateway.client.post("/herdgate/model", headers={**admin, **headers}, content=content)
    assert reply.status_code == status
    assert message in reply.json()["error"]
    assert gateway.gateway.runtime.points.ledger.faults == {}


async def test_other_methods_are_not_there(
    gateway: RunningGateway, admin: dict[str, str], user: dict[str, str]
) -> None:
    for headers in (admin, user):
        reply = await gateway.client.delete("/herdgate/echo", headers=headers)
        assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
        reply = await gateway.client.head("/api/blobs/sha256:1", headers=headers)
        assert reply.status_code == 403, "the table has it, the plugin does not: as without the plugin"
        assert (await gateway.client.get("/herdgate/nothing", headers=headers)).status_code == 404
    assert (await gateway.client.get("/herdgate/echo")).status_code == 401


async def test_a_large_body_is_read_as_it_comes(gateway: RunningGateway, admin: dict[str, str]) -> None:
    size = 5_000_000
    whole = await gateway.client.post("/api/blobs/sha256:1", headers=admin, content=b"x" * size)
    assert (whole.status_code, whole.text) == (201, f"{size} of {size}")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1000

    chunked = await gateway.client.post("/api/blobs/sha256:1", headers=admin, content=pieces())
    assert (chunked.status_code, chunked.text) == (201, "5000 of None")


async def test_a_handler_may_ask_the_backends(gateway: RunningGateway, admin: dict[str, str]) -> None:
    assert len((await gateway.client.get("/herdgate/versions", headers=admin)).json()) == 2


async def test_a_stream_comes_piece_by_piece_and_ends(gateway: RunningGateway, admin: dict[str, str]) -> None:
    extra = plugin_of(gateway, "extra")
    async with gateway.client.stream("GET", "/herdgate/lines", headers=admin) as reply:
        lines = reply.aiter_lines()
        assert await anext(lines) == '{"n":0}'
        extra.go.set()
        assert [line async for line in lines] == ['{"n":1}', '{"n":2}']
        assert reply.headers["x-accel-buffering"] == "no"
    await until(lambda: len(extra.ended) == 1)
    assert (extra.ended[0].outcome.value, extra.ended[0].sent, extra.closed) == ("answered", 24, 1)


async def test_a_client_that_leaves_ends_the_handlers_stream(gateway: RunningGateway, admin: dict[str, str]) -> None:
    extra = plugin_of(gateway, "extra")
    async with gateway.client.stream("GET", "/herdgate/lines", headers=admin) as reply:
        await anext(reply.aiter_lines())
    await until(lambda: len(extra.ended) == 1)
    assert extra.closed == 1
    assert extra.ended[0].outcome.value == "client_left"


async def test_a_stream_that_breaks_says_so(gateway: RunningGateway, admin: dict[str, str]) -> None:
    extra = plugin_of(gateway, "extra")
    extra.go.set()
    reply = await gateway.client.get("/herdgate/lines?break=1", headers=admin)
    last: dict[str, Any] = json.loads(reply.text.splitlines()[-1])
    assert last == {"error": "the reply was interrupted"}
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.client.get("/herdgate/lines?break=1&type=text", headers=admin)
    assert gateway.gateway.runtime.points.ledger.faults == {("extra", "routes"): 2}
    await until(lambda: len(extra.ended) == 2)
    assert {summary.outcome.value for summary in extra.ended} == {"broken"}


async def test_a_stream_that_fails_before_it_begins_is_a_503(gateway: RunningGateway, admin: dict[str, str]) -> None:
    reply = await gateway.client.get("/herdgate/lines?break=0", headers=admin)
    assert reply.status_code == 503
    assert "boom" not in reply.text


async def test_a_handler_out_of_time_is_a_503(gateway: RunningGateway, admin: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        reply = await gateway.client.get("/herdgate/late", headers=admin)
    assert reply.status_code == 503
    assert gateway.gateway.runtime.points.ledger.faults == {("extra", "routes"): 1}
