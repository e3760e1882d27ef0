"""What does not exist, what is not the caller's, what is hidden and what nobody may do: one and the same reply."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stories.conftest import CHAT, EVERY_WAY, MODEL, OPENAI_CHAT, Chat, plugin_of, with_plugin
from tests.stories.doors import told
from tests.stories.raw import connected, request

from herdgate.testing.faults import Status
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

UNKNOWN, FORBIDDEN, HIDDEN = "no-such-model", "only-second", "hidden"
NAMES = [
    UNKNOWN,
    FORBIDDEN,
    HIDDEN,
    f"{MODEL}:not-this-tag",
    f"hf.co/somebody/{MODEL}",
    f"{MODEL}:cloud",
    f"{FORBIDDEN.upper()}:LATEST",
]
DIGEST = "sha256:" + "0" * 64

HIDE_AND_COUNT = """
from contextlib import asynccontextmanager
from pydantic import BaseModel
from herdgate import Refusal, hookimpl

class Extra:
    herdgate_api = 1

    class Settings(BaseModel):
        limit: int = 1_000_000

    def __init__(self, settings):
        self.limit = settings.limit
        self.admitted = {}
        self.running = 0
        self.ended = []

    @hookimpl
    def shape_catalogue(self, entries):
        return [entry for entry in entries if entry.name.model != "hidden"]

    @hookimpl
    def admit(self, identity):
        self.admitted[identity.name] = self.admitted.get(identity.name, 0) + 1
        if self.admitted[identity.name] > self.limit:
            return Refusal("too many", retry_after=7)
        return self.counted()

    @asynccontextmanager
    async def counted(self):
        self.running += 1
        yield
        self.running -= 1

    @hookimpl
    def exchange_ended(self, summary):
        self.ended.append((summary.outcome.value, summary.status, summary.backend))
"""


@dataclass(frozen=True)
class Ask:
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """The one reply of a family, and everything that must be answered with it."""

    body: bytes
    asks: list[Ask]
    welcome: Ask
    """What the same caller may ask for."""

    def reply(self, *, bodiless: bool = False) -> bytes:
        length = len(self.body) if b'"ID"' not in self.body else len(self.body) - len("ID") + len("fixed-id")
        head = (
            b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: ID\r\n"
            b"date: DATE\r\nconnection: keep-alive\r\n\r\n" % length
        )
        return head if bodiless else head + self.body


def asking(path: str, name: str, **more: object) -> Ask:
    fields = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi", "max_tokens": 9, **more}
    return Ask("POST", path, {"model": name, **fields})


def spoken(name: str) -> Ask:
    """A recording to be written down."""
    parts = {'name="model"': name, 'name="file"; filename="a.wav"': "RIFF"}
    body = "".join(
        f"--limit\r\nContent-Disposition: form-data; {part}\r\n\r\n{text}\r\n" for part, text in parts.items()
    )
    kind = {"Content-Type": "multipart/form-data; boundary=limit"}
    return Ask("POST", "/v1/audio/transcriptions", f"{body}--limit--\r\n".encode(), kind)


NATIVE = Family(
    b'{"error":"access to this model is not allowed"}',
    [
        *(
            asking(f"/api/{path}", name, **more)
            for name in NAMES
            for path in ("chat", "generate", "embed", "embeddings", "show")
            for more in ({}, {"stream": False})
        ),
        Ask("POST", "/api/show", {"name": HIDDEN}),
        Ask("POST", "/api/show", {"model": "", "name": UNKNOWN}),
        # whoever may use a model may still not evict it
        *(Ask("POST", "/api/generate", {"model": name, "keep_alive": 0}) for name in (MODEL, UNKNOWN, HIDDEN)),
        *(Ask("POST", CHAT, {"model": name, "messages": [], "keep_alive": "0s"}) for name in (MODEL, FORBIDDEN)),
        *(Ask("POST", f"/api/{path}", {"model": name}) for path in ("pull", "push", "create") for name in (MODEL, "x")),
        Ask("POST", "/api/pull", b"this is no JSON"),
        Ask("POST", "/api/pull", b""),
        Ask("POST", "/api/pull"),
        Ask("POST", "/api/create", {"model": "mine", "from": MODEL, "files": {"a": DIGEST}, "padding": "x" * 60_000}),
        Ask("POST", "/api/copy", {"source": MODEL, "destination": "mine"}),
        Ask("DELETE", "/api/delete", {"model": MODEL}),
        Ask("DELETE", "/api/delete", {"name": UNKNOWN}),
        Ask("POST", f"/api/blobs/{DIGEST}", b"\x00" * 50_000),
        Ask("HEAD", f"/api/blobs/{DIGEST}"),
        *(Ask(method, path) for path in ("/api/me", "/api/signout") for method in ("GET", "POST", "HEAD")),
        Ask("DELETE", "/api/user/keys/abc"),
        Ask("POST", "/api/experimental/web_search", {"query": "news"}),
        Ask("GET", "/api/experimental/model-recommendations"),
        Ask("HEAD", "/api/experimental/anything"),
    ],
    asking(CHAT, MODEL, stream=False),
)
OPENAI = Family(
    b'{"error":{"message":"access to this model is not allowed","type":"permission_error","param":null,'
    b'"code":"model_not_allowed"}}',
    [
        *(
            asking(f"/v1/{path}", name, **more)
            for name in NAMES
            for path in ("chat/completions", "completions", "embeddings", "responses")
            for more in ({}, {"stream": True})
        ),
        *(Ask("GET", f"/v1/models/{name}") for name in NAMES),
        Ask("GET", "/v1/models/%6Eo-such-model"),
        *(spoken(name) for name in NAMES),
    ],
    asking(OPENAI_CHAT, MODEL),
)
ANTHROPIC = Family(
    b'{"type":"error","error":{"type":"permission_error","message":"access to this model is not allowed"},'
    b'"request_id":"ID"}',
    [
        *(asking("/v1/messages", name, **more) for name in NAMES for more in ({}, {"stream": True})),
        *(asking("/v1/messages/count_tokens", name) for name in NAMES),
    ],
    asking("/v1/messages", MODEL),
)
FAMILIES = pytest.mark.parametrize("family", [NATIVE, OPENAI, ANTHROPIC], ids=["native", "openai", "anthropic"])


@pytest.fixture
async def gateway(first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """Both backends have a model that a plugin hides, and all three models are loaded."""
    for backend in (first, second):
        backend.models.add(HIDDEN)
        async with httpx.AsyncClient(base_url=backend.url) as direct:
            for model in backend.models:
                await direct.post("/api/generate", json={"model": model.name})
    async with running_gateway(
        first, second, toml=with_plugin(tmp_path, HIDE_AND_COUNT), directory=tmp_path
    ) as running:
        yield running


def forwarded(*backends: SimulatedOllama) -> list[str]:
    """What backends were asked besides the polls, in the fixture above too."""
    polls = {"/api/tags", "/api/version", "/api/ps"}
    return [asked.path for backend in backends for asked in backend.requests if asked.path not in polls]


@FAMILIES
async def test_every_denial_is_the_same_reply_byte_for_byte_and_the_connection_stays_usable(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, family: Family
) -> None:
    key = {**await gateway.make_key(MODEL), "X-Request-Id": "fixed-id"}
    before = forwarded(first, second)
    async with connected(gateway) as connection:
        for ask in family.asks:
            reply = await connection.ask(ask.method, ask.path, ask.body, {**key, **ask.headers})
            assert reply.undated == family.reply(bodiless=ask.method == "HEAD"), ask
        assert forwarded(first, second) == before
        welcome = await connection.ask("POST", family.welcome.path, family.welcome.body, key)
        assert welcome.status == 200


@FAMILIES
async def test_all_denials_of_a_family_can_be_pipelined(gateway: RunningGateway, family: Family) -> None:
    key = {**await gateway.make_key(MODEL), "X-Request-Id": "fixed-id"}
    async with connected(gateway) as connection:
        for ask in family.asks:
            connection.send(request(ask.method, ask.path, ask.body, {**key, **ask.headers}))
        for ask in family.asks:
            bodiless = ask.method == "HEAD"
            assert (await connection.reply(bodiless=bodiless)).undated == family.reply(bodiless=bodiless), ask


@FAMILIES
async def test_the_same_for_admins_and_for_callers_without_a_key(gateway: RunningGateway, family: Family) -> None:
    """Who may use every model learns no more of one that does not exist, and is offered no management either."""
    denied = [ask for ask in family.asks if FORBIDDEN not in str(ask).lower()]
    nobody = {"X-Request-Id": "fixed-id"}
    async with connected(gateway) as connection:
        for make_key in (None, gateway.make_key("*", admin=True)):
            key = nobody if make_key is None else {**nobody, **await make_key}
            for ask in denied:
                reply = await connection.ask(ask.method, ask.path, ask.body, {**key, **ask.headers})
                assert reply.undated == family.reply(bodiless=ask.method == "HEAD"), ask


@FAMILIES
async def test_every_denial_counts_alike(gateway: RunningGateway, family: Family) -> None:
    extra = plugin_of(gateway, "extra")
    extra.limit = 2
    async with connected(gateway) as connection:
        for number, ask in enumerate(family.asks):
            key = await gateway.make_key(MODEL, name=f"caller-{number}")
            for _ in range(extra.limit):
                assert (await connection.ask(ask.method, ask.path, ask.body, {**key, **ask.headers})).status == 403
            over = await connection.ask(ask.method, ask.path, ask.body, {**key, **ask.headers})
            assert (over.status, over.header("retry-after")) == (429, "7")
    assert {name: count for name, count in extra.admitted.items() if name.startswith("caller-")} == {
        f"caller-{number}": 3 for number in range(len(family.asks))
    }
    assert extra.running == 0


@FAMILIES
async def test_what_plugins_are_told_of_the_end_is_the_same_too(gateway: RunningGateway, family: Family) -> None:
    key = await gateway.make_key(MODEL)
    extra = plugin_of(gateway, "extra")
    extra.ended.clear()
    async with connected(gateway) as connection:
        for ask in family.asks:
            await connection.ask(ask.method, ask.path, ask.body, {**key, **ask.headers})
    assert extra.ended == [("denied", 403, None)] * len(family.asks)


async def test_a_method_that_an_endpoint_does_not_have_tells_nothing_of_models(gateway: RunningGateway) -> None:
    key = await gateway.make_key(MODEL)
    async with connected(gateway) as connection:
        replies = {
            (await connection.ask("HEAD", f"/v1/models/{name}", headers=key)).undated for name in (MODEL, *NAMES)
        }
    (only,) = replies
    assert only.startswith(b"HTTP/1.1 405 ")


async def test_a_large_refused_upload_gets_the_same_body_before_its_connection_is_closed(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    upload = request("POST", f"/api/blobs/{DIGEST}", b"\x00" * 1_000_000)
    async with connected(gateway) as connection:
        connection.send(upload)
        reply = await connection.reply()
        assert reply.undated == NATIVE.reply().replace(b"keep-alive", b"close")
        assert await connection.rest() == b""
    assert f"/api/blobs/{DIGEST}" not in forwarded(first)


@pytest.mark.parametrize("chat", EVERY_WAY, ids=told)
async def test_a_model_that_all_its_backends_deny_is_one_that_nobody_has(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, chat: Chat
) -> None:
    for backend in (first, second):
        backend.script(chat.path, Status(404, f"model '{MODEL}' not found"), times=None)
    family = NATIVE if chat.path == CHAT else OPENAI
    async with connected(gateway) as connection:
        assert (await connection.ask("POST", chat.path, chat.body())).undated == family.reply()


@pytest.mark.parametrize("chat", EVERY_WAY, ids=told)
async def test_a_forbidden_model_stays_forbidden_when_its_backend_is_away(
    gateway: RunningGateway, second: SimulatedOllama, chat: Chat
) -> None:
    key = await gateway.make_key(MODEL)
    await second.stop()
    family = NATIVE if chat.path == CHAT else OPENAI
    async with connected(gateway) as connection:
        for name in (FORBIDDEN, UNKNOWN):
            asked = Ask("POST", chat.path, chat.body(name))
            reply = await connection.ask("POST", chat.path, asked.body, key)
            assert reply.undated == family.reply()


@pytest.mark.parametrize(
    ("patterns", "shown"),
    [
        ([MODEL], {f"{MODEL}:latest"}),
        (["only-*"], {"only-first:latest", "only-second:latest"}),
        (["*"], {f"{MODEL}:latest", "only-first:latest", "only-second:latest"}),
        ([UNKNOWN, HIDDEN], set()),
    ],
    ids=told,
)
async def test_listings_show_what_the_caller_may_use_and_nothing_else(
    gateway: RunningGateway, patterns: list[str], shown: set[str]
) -> None:
    key = await gateway.make_key(*patterns)
    tags = (await gateway.client.get("/api/tags", headers=key)).json()["models"]
    running = (await gateway.client.get("/api/ps", headers=key)).json()["models"]
    models = (await gateway.client.get("/v1/models", headers=key)).json()
    assert {entry["name"] for entry in tags} == shown
    assert {entry["name"] for entry in running} == shown
    assert models["object"] == "list"
    assert {entry["id"] for entry in models["data"]} == shown
    for name in (f"{MODEL}:latest", "only-first:latest", "only-second:latest", HIDDEN):
        allowed = 200 if name in shown else 403
        assert (await gateway.client.get(f"/v1/models/{name}", headers=key)).status_code == allowed
        assert (await gateway.client.post("/api/show", json={"model": name}, headers=key)).status_code == allowed


async def test_a_single_model_keeps_the_name_it_was_asked_for_by(gateway: RunningGateway) -> None:
    for asked in (MODEL, MODEL.upper(), f"{MODEL}:latest", f"library/{MODEL}"):
        entry = (await gateway.client.get(f"/v1/models/{asked}")).json()
        assert (entry["id"], entry["object"], entry["owned_by"]) == (asked, "model", "library")


async def test_only_an_admin_learns_which_backend_answered(gateway: RunningGateway, chat: Chat) -> None:
    assert not named(await chat.ask(gateway))
    admin = await gateway.make_key("*", admin=True, name="boss")
    user = await gateway.make_key("*")
    assert not named(await chat.ask(gateway, **user))
    answered = await chat.ask(gateway, **admin)
    assert answered.headers["x-herdgate-backend"] == "first"
    assert named(answered) == {"x-herdgate-backend"}


def named(response: httpx.Response) -> set[str]:
    """The headers that tell something of the inside."""
    usual = {"content-type", "content-length", "transfer-encoding", "date", "connection", "x-request-id"}
    return set(response.headers) - usual - {"cache-control", "x-accel-buffering"}


async def test_a_plugin_may_let_a_caller_unload(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    """The refusal is a decision and not a wall: `authorise` is asked about managing."""
    allows = """
from herdgate import Action, Allow, hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    def authorise(self, identity, action):
        return Allow("an admin") if identity.admin and action is Action.MANAGE else None
"""
    async with running_gateway(first, second, toml=with_plugin(tmp_path, allows), directory=tmp_path) as gateway:
        admin = await gateway.make_key("*", admin=True, name="boss")
        user = await gateway.make_key("*")
        unload = {"model": MODEL, "keep_alive": 0}
        assert (await gateway.client.post("/api/generate", json=unload, headers=user)).status_code == 403
        done = await gateway.client.post("/api/generate", json=unload, headers=admin)
        assert done.json()["done_reason"] == "unload"
