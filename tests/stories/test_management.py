"""Managing models through the gateway: who may, which backends it reaches, and what the caller is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from tests.stories.conftest import BUILT_IN, MODEL

from herdgate.testing.faults import Events, Hang, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

MANAGED = BUILT_IN.replace(
    "# What a refusal looks like",
    '[[plugin]]\nuse = "herdgate_plugins.model_management:ModelManagement"\n\n# What a refusal looks like',
)
PRECIOUS = """
from herdgate import *

class Extra:
    herdgate_api = 1

    @hookimpl
    def authorise(self, action, resources):
        return [Deny("precious") if r.model and r.model.model.lower() == "precious" else None for r in resources]
"""
BLOB = b"x" * 300_000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
CALLS: list[tuple[str, str, dict[str, object] | None]] = [
    ("POST", "/api/pull", {"model": "fresh"}),
    ("POST", "/api/push", {"model": MODEL}),
    ("POST", "/api/create", {"model": "mine", "from": MODEL}),
    ("POST", "/api/copy", {"source": MODEL, "destination": "twin"}),
    ("DELETE", "/api/delete", {"model": MODEL}),
    ("POST", f"/api/blobs/{DIGEST}", {}),
    ("HEAD", f"/api/blobs/{DIGEST}", None),
    ("POST", "/api/generate", {"model": MODEL, "keep_alive": 0}),
]
POLLS = {"/api/tags", "/api/version"}


@pytest.fixture
async def first() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama("first", [MODEL, "only-first"], registry=("fresh",)) as backend:
        yield backend


@pytest.fixture
async def second() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama("second", [MODEL, "only-second"], registry=("fresh", "only-second")) as backend:
        yield backend


class Managed:
    """A gateway with the plugin, as an admin sees it."""

    def __init__(self, gateway: RunningGateway, headers: dict[str, str]) -> None:
        self.gateway, self.headers = gateway, headers

    async def __call__(self, method: str, path: str, on: str | None = None, **more: Any) -> httpx.Response:
        named = {} if on is None else {"x-herdgate-backend": on}
        return await self.gateway.client.request(method, path, headers={**self.headers, **named}, **more)

    async def lines(self, path: str, body: dict[str, object], on: str | None = None) -> list[dict[str, Any]]:
        reply = await self("POST", path, on, json=body)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ndjson")
        return [json.loads(line) for line in reply.text.splitlines()]


@pytest.fixture
async def admin(first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path) -> AsyncIterator[Managed]:
    async with running_gateway(first, second, toml=MANAGED, directory=tmp_path) as gateway:
        yield Managed(gateway, await gateway.make_key("*", name="root", admin=True))


def asked(backend: SimulatedOllama) -> list[str]:
    return [f"{each.method} {each.path}" for each in backend.requests if each.path not in POLLS]


def seen(reply: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    headers = [pair for pair in reply.headers.multi_items() if pair[0] not in {"x-request-id", "date"}]
    return reply.status_code, headers, reply.content


# who may


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=lambda value: str(value)[:20])
async def test_without_the_right_nobody_can_tell_that_the_plugin_is_there(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama, method: str, path: str, body: dict[str, object]
) -> None:
    user = await admin.gateway.make_key("*", name="alice")
    async with running_gateway(first, second) as plain:
        plain_user = await plain.make_key("*", name="alice")
        plain_admin = await plain.make_key("*", name="root", admin=True)
        without = [
            seen(await plain.client.request(method, path, headers={**key, "x-herdgate-backend": "first"}, json=body))
            for key in (plain_user, plain_admin)
        ]
    denied = await admin.gateway.client.request(method, path, headers={**user, "x-herdgate-backend": "x"}, json=body)
    assert [seen(denied), seen(denied)] == without
    assert denied.status_code == 403
    assert asked(first) == asked(second) == []


async def test_another_plugin_may_keep_single_models_from_admins(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    (tmp_path / "extra.py").write_text(PRECIOUS)
    toml = f'{MANAGED}\n[[plugin]]\nuse = "./extra.py:Extra"\n'
    async with running_gateway(first, second, toml=toml, directory=tmp_path) as gateway:
        root = Managed(gateway, await gateway.make_key("*", name="root", admin=True))
        unknown = seen(await root("POST", "/api/chat", json={"model": "nothing"}))
        for method, path, body in [
            ("POST", "/api/pull", {"name": "precious"}),
            ("POST", "/api/copy", {"source": MODEL, "destination": "precious:latest"}),
            ("POST", "/api/create", {"model": "new", "from": "PRECIOUS"}),
            ("DELETE", "/api/delete", {"model": "precious"}),
        ]:
            assert seen(await root(method, path, json=body)) == unknown
    assert asked(first) == asked(second) == []


# pull


async def test_a_new_model_goes_to_the_first_backend_and_can_be_used_at_once(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    lines = await admin.lines("/api/pull", {"model": "fresh"})
    assert lines[0] == {"status": "pulling manifest"}
    assert [line.get("completed") for line in lines[1:6]] == [0, 325_000_000, 650_000_000, 975_000_000, 1_300_000_000]
    assert [line["status"] for line in lines[6:]] == ["verifying sha256 digest", "writing manifest", "success"]
    assert ("fresh" in first.models, "fresh" in second.models) == (True, False)
    await admin.gateway.knows("fresh:latest")


async def test_a_model_is_pulled_again_where_it_is(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    await admin.lines("/api/pull", {"name": "only-second", "stream": True})
    assert (asked(first), asked(second)) == ([], ["POST /api/pull"])


@pytest.mark.parametrize("on", ["all", "first, second"])
async def test_a_pull_to_several_backends_is_one_stream_with_one_success(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama, on: str
) -> None:
    first.behaviour.pace, second.behaviour.pace = 0.002, 0.005
    lines = await admin.lines("/api/pull", {"model": "fresh"}, on)
    statuses = [line["status"] for line in lines]
    assert [statuses.count(each) for each in ("pulling manifest", "writing manifest", "success")] == [1, 1, 1]
    assert statuses[-1] == "success"
    amounts = [line["completed"] for line in lines if "digest" in line]
    assert amounts == sorted(amounts)
    assert amounts[-1] == 2_600_000_000
    assert {line["total"] for line in lines if "digest" in line} == {2_600_000_000}
    assert ("fresh" in first.models, "fresh" in second.models) == (True, True)


async def test_a_pull_that_fails_on_one_of_two_backends_is_no_success(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    second.behaviour.registry = ()
    lines = await admin.lines("/api/pull", {"model": "fresh"}, "all")
    assert lines[-1] == {"error": "second: pull model manifest: file does not exist (done on: first)"}
    assert not any(line.get("status") == "success" for line in lines)
    await second.stop()
    lines = await admin.lines("/api/pull", {"model": "fresh"}, "all")
    assert lines[-1] == {"error": "second: it cannot be reached (done on: first)"}


async def test_a_backend_that_stops_before_the_end_has_not_pulled(admin: Managed, first: SimulatedOllama) -> None:
    first.script("/api/pull", Status(200, ""))
    lines = await admin.lines("/api/pull", {"model": "fresh"})
    assert "error" in lines[-1]


async def test_a_pull_that_does_not_stream_says_how_it_ended(admin: Managed) -> None:
    good = await admin("POST", "/api/pull", json={"model": "fresh", "stream": False})
    assert (good.status_code, good.json()) == (200, {"status": "success"})
    bad = await admin("POST", "/api/pull", json={"model": "nowhere", "stream": False})
    assert (bad.status_code, bad.json()) == (500, {"error": "pull model manifest: file does not exist"})


async def test_a_client_that_leaves_ends_the_pull_on_every_backend(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    for backend in (first, second):
        backend.script("/api/pull", Hang(2))
    headers = {**admin.headers, "x-herdgate-backend": "all"}
    async with admin.gateway.client.stream("POST", "/api/pull", headers=headers, json={"model": "fresh"}) as reply:
        await anext(reply.aiter_lines())
        await until(lambda: asked(first) == asked(second) == ["POST /api/pull"])
    for backend in (first, second):
        await backend.wait_for(
            lambda each: any(r.path == "/api/pull" and r.outcome == "client_left" for r in each.requests)
        )


@pytest.mark.parametrize(
    ("body", "on", "message"),
    [
        ({"model": "fresh"}, "gpu9", "x-herdgate-backend: no backend gpu9; there are first, second"),
        ({"model": "a b"}, None, "invalid model name"),
        ({}, None, "invalid model name"),
        ({"model": "big:cloud"}, None, "may not use models of the cloud"),
        ({"model": "fresh", "Model": "other"}, None, "differ only in case"),
    ],
)
async def test_a_mistake_is_said_before_anything_is_asked(
    admin: Managed, first: SimulatedOllama, body: dict[str, object], on: str | None, message: str
) -> None:
    reply = await admin("POST", "/api/pull", on, json=body)
    assert reply.status_code == 400
    assert message in reply.json()["error"]
    assert asked(first) == []


async def test_the_ollama_client_pulls_with_progress_and_can_name_backends(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    headers = {**admin.headers, "X-Herdgate-Backend": "second"}
    client = ollama.AsyncClient(host=admin.gateway.url, headers=headers)
    steps = [step async for step in await client.pull("fresh", stream=True)]
    assert steps[-1].status == "success"
    assert ("fresh" in first.models, "fresh" in second.models) == (False, True)
    await client.copy("fresh", "twin")
    await client.delete("fresh")
    assert ("fresh" in second.models, "twin" in second.models) == (False, True)
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        async for _ in await client.pull("nowhere", stream=True):
            pass


# the rest


async def test_delete_and_copy_reach_every_backend_that_has_the_model(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    copied = await admin("POST", "/api/copy", json={"source": MODEL, "destination": "twin"})
    assert (copied.status_code, copied.content) == (200, b"")
    assert "twin" in first.models
    assert "twin" in second.models
    deleted = await admin("DELETE", "/api/delete", json={"name": MODEL})
    assert (deleted.status_code, deleted.content) == (200, b"")
    assert MODEL not in first.models
    assert MODEL not in second.models
    await until(lambda: not admin.gateway.gateway.runtime.discovery.catalogue.holders(_name(MODEL)))
    again = await admin("DELETE", "/api/delete", json={"model": MODEL})
    assert (again.status_code, again.json()) == (404, {"error": f"model '{MODEL}:latest' not found"})


def _name(text: str) -> Any:
    from herdgate import ModelName

    return ModelName.parse(text)


async def test_a_delete_that_fails_somewhere_says_where_it_was_done(admin: Managed, second: SimulatedOllama) -> None:
    second.script("/api/delete", Status(500, "disk is full at /var/lib/models"))
    reply = await admin("DELETE", "/api/delete", json={"model": MODEL})
    assert reply.status_code == 502
    assert reply.json()["error"].startswith("second: disk is full at …")
    assert reply.json()["error"].endswith("(done on: first)")


async def test_a_model_is_created_where_its_blobs_are(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    path = f"/api/blobs/{DIGEST}"
    assert (await admin("HEAD", path, "second")).status_code == 404
    assert (await admin("POST", path, "second", content=BLOB)).status_code == 201
    assert (await admin("HEAD", path, "second")).status_code == 200
    assert (await admin("HEAD", path)).status_code == 404, "the first backend does not have it"
    sent = next(each for each in second.requests if each.method == "POST" and each.path == path)
    assert sent.values("content-length") == (str(len(BLOB)),)
    before = len(second.requests)
    assert (await admin("POST", path, "second", content=BLOB)).status_code == 200
    assert [each.method for each in second.requests[before:] if each.path == path] == ["HEAD"], "asked for it first"
    body = {"model": "mine", "files": {"m.gguf": DIGEST}, "system": "Sei höflich", "stream": False}
    made = await admin("POST", "/api/create", "second", json=body)
    assert (made.status_code, made.json()) == (200, {"status": "success"})
    assert ("mine" in first.models, "mine" in second.models) == (False, True)
    created = next(each for each in second.requests if each.path == "/api/create")
    assert json.loads(created.body) == {**body, "stream": True}


async def test_a_blob_comes_through_piece_by_piece(admin: Managed, first: SimulatedOllama) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(BLOB), 1000):
            yield BLOB[start : start + 1000]

    assert (await admin("POST", f"/api/blobs/{DIGEST}", content=pieces())).status_code == 201
    wrong = DIGEST[:-1] + ("0" if DIGEST[-1] != "0" else "1")
    bad = await admin("POST", f"/api/blobs/{wrong}", content=BLOB)
    assert (bad.status_code, bad.json()["error"][:15]) == (400, "digest mismatch")
    assert (await admin("POST", "/api/blobs/sha256:1", content=BLOB)).json() == {"error": "invalid digest format"}


async def test_a_model_is_created_where_its_base_is_and_sends_no_prompts_elsewhere(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    lines = await admin.lines("/api/create", {"model": "mine", "from": "only-second"})
    assert lines[-1] == {"status": "success"}
    assert ("mine" in first.models, "mine" in second.models) == (False, True)
    spying = {"model": "mine", "from": "only-second", "remote_host": "https://spy.example.com"}
    assert (await admin("POST", "/api/create", json=spying)).status_code == 400
    assert (await admin("POST", "/api/create", "all", json={"model": "a", "from": MODEL})).status_code == 400


async def test_a_model_is_pushed_from_the_backend_that_has_it(admin: Managed, second: SimulatedOllama) -> None:
    assert (await admin.lines("/api/push", {"model": "only-second"}))[-1] == {"status": "success"}
    assert asked(second) == ["POST /api/push"]
    assert (await admin("POST", "/api/push", json={"model": "nothing"})).status_code == 404


async def test_an_admin_loads_on_the_backend_that_is_named_and_unloads_everywhere(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    assert (await admin("POST", "/api/generate", "second", json={"model": MODEL})).json()["done_reason"] == "load"
    assert (await admin("POST", "/api/generate", "first", json={"model": MODEL})).json()["done_reason"] == "load"
    assert (asked(first), asked(second)) == (["POST /api/generate"], ["POST /api/generate"])
    reply = await admin("POST", "/api/generate", json={"model": MODEL, "keep_alive": 0})
    assert reply.json()["done_reason"] == "unload"
    assert (await admin("GET", "/api/ps")).json() == {"models": []}
    assert asked(first).count("POST /api/generate") == asked(second).count("POST /api/generate") == 2
    assert (await admin("POST", "/api/generate", "gpu9", json={"model": MODEL})).status_code == 503


async def test_an_unload_does_not_wait_for_a_backend_that_is_down(
    admin: Managed, first: SimulatedOllama, second: SimulatedOllama, caplog: pytest.LogCaptureFixture
) -> None:
    await second.stop()
    async with asyncio.timeout(10):
        reply = await admin("POST", "/api/chat", json={"model": MODEL, "messages": [], "keep_alive": 0})
    assert reply.json()["done_reason"] == "unload"
    assert "not unloaded from backend second" in caplog.text


async def test_a_key_without_rights_does_not_choose_backends(admin: Managed, first: SimulatedOllama) -> None:
    user = await admin.gateway.make_key("*", name="alice")
    headers = {**user, "x-herdgate-backend": "second"}
    assert (await admin.gateway.client.post("/api/generate", headers=headers, json={"model": MODEL})).status_code == 200
    assert asked(first) == ["POST /api/generate"]


async def test_what_was_changed_is_known_before_the_next_poll(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    env = {"HERDGATE_DISCOVERY_INTERVAL": "600"}
    async with running_gateway(first, second, toml=MANAGED, directory=tmp_path, env=env) as gateway:
        root = Managed(gateway, await gateway.make_key("*", name="root", admin=True))
        await root.lines("/api/pull", {"model": "fresh"})
        await gateway.knows("fresh:latest")
        assert (await root("DELETE", "/api/delete", json={"model": "only-second"})).status_code == 200
        await until(lambda: not gateway.gateway.runtime.discovery.catalogue.holders(_name("only-second")))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("line", [b"nope\n", b'{"status":' + b"[" * 100_000 + b"\n"], ids=["none", "deep"])
async def test_what_is_no_json_that_can_be_read_ends_what_its_backend_does(
    admin: Managed, first: SimulatedOllama, line: bytes, *, stream: bool
) -> None:
    first.script("/api/pull", Events((line,)))
    async with asyncio.timeout(10):
        reply = await admin("POST", "/api/pull", on="first,second", json={"model": "fresh", "stream": stream})
    assert reply.status_code == (200 if stream else 500)
    last = json.loads(reply.text.splitlines()[-1])
    assert last == {"error": "first: it answered something that is not JSON (done on: second)"}
