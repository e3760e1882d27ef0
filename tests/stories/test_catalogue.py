"""What all backends host together, while they come and go: no request ever waits for one that does not answer."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest
from tests.stories.conftest import CHAT, EVERY_WAY, MODEL, OPENAI_CHAT, Chat, plugin_of, with_plugin

from herdgate import BackendSettings
from herdgate.config import load
from herdgate.hooks import INFO
from herdgate.server import Gateway
from herdgate.testing.faults import EmptyOk, EndlessLine, Events, Fault, Hang, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimModel, SimulatedOllama

ASK = Chat(CHAT, stream=False)
AT_ONCE = 1.0
"""Seconds: no answer that is made here takes nearly as long."""


async def tags(gateway: RunningGateway, **headers: str) -> dict[str, dict[str, Any]]:
    """The listing by name. Fails if a name is in it twice."""
    entries = (await gateway.client.get("/api/tags", headers=headers)).json()["models"]
    by_name = {entry["name"]: entry for entry in entries}
    assert len(by_name) == len(entries)
    return by_name


async def listed(gateway: RunningGateway, model: str, *, present: bool = True) -> None:
    """Wait until a model is listed, or no longer is."""

    async def as_wanted() -> bool:
        return (model in await tags(gateway)) == present

    await until(as_wanted)


async def chat(gateway: RunningGateway, model: str = MODEL, **headers: str) -> httpx.Response:
    return await gateway.client.post(CHAT, json=ASK.body(model), headers=headers)


async def polled_again(backend: SimulatedOllama, times: int = 2) -> None:
    """Wait for polls that began from now on."""

    def polls() -> int:
        return sum(request.path == "/api/tags" for request in backend.requests)

    seen = polls()
    await backend.wait_for(lambda _: polls() > seen + times)


# one list of all


async def test_a_model_of_several_backends_is_listed_once_as_the_first_one_has_it() -> None:
    old, new = "2025-01-01T00:00:00Z", "2026-01-01T00:00:00+02:00"
    async with (
        SimulatedOllama(
            name="one",
            models=[SimModel("shared", size=11, modified_at=old), SimModel("Team/Mine:8B", size=12, modified_at=new)],
        ) as one,
        SimulatedOllama(
            name="two",
            models=[
                SimModel("SHARED:latest", size=21, digest="b" * 64, modified_at=new),
                SimModel("team/mine:8b", size=22),
                SimModel("other", size=23, modified_at="2025-06-01T00:00:00Z"),
            ],
        ) as two,
        running_gateway(one, two) as gateway,
        httpx.AsyncClient(base_url=one.url) as direct,
    ):
        entries = await tags(gateway)
        assert list(entries) == ["Team/Mine:8B", "other:latest", "shared:latest"]
        assert [entry["size"] for entry in entries.values()] == [12, 23, 11]
        for entry in (await direct.get("/api/tags")).json()["models"]:
            assert entries[entry["name"]] == entry
        assert (await gateway.client.get("/v1/models")).json() == {
            "object": "list",
            "data": [
                {"id": "Team/Mine:8B", "object": "model", "created": 1767218400, "owned_by": "Team"},
                {"id": "other:latest", "object": "model", "created": 1748736000, "owned_by": "library"},
                {"id": "shared:latest", "object": "model", "created": 1735689600, "owned_by": "library"},
            ],
        }
        for asked in ("shared", "SHARED", "team/mine:8b"):
            assert (
                (await chat(gateway, asked)).json()["message"]["content"].startswith("Hello from simulated backend one")
            )


async def test_what_is_loaded_is_listed_once_too(quick_keys: None) -> None:
    async with (
        SimulatedOllama(name="one", models=["shared", "one"]) as one,
        SimulatedOllama(name="two", models=["shared", "two"]) as two,
        running_gateway(one, two) as gateway,
    ):
        assert (await gateway.client.get("/api/ps")).json() == {"models": []}
        for backend, model, minutes in ((one, "one", 5), (two, "two", 60), (one, "shared", 10), (two, "shared", 99)):
            async with httpx.AsyncClient(base_url=backend.url) as direct:
                await direct.post("/api/generate", json={"model": model, "keep_alive": f"{minutes}m"})
        rows = (await gateway.client.get("/api/ps")).json()["models"]
        assert [row["name"] for row in rows] == ["two:latest", "shared:latest", "one:latest"]
        async with httpx.AsyncClient(base_url=one.url) as direct:
            first_rows = {row["name"]: row for row in (await direct.get("/api/ps")).json()["models"]}
        assert rows[1] == first_rows["shared:latest"]
        admin = await gateway.make_key("*", admin=True)
        seen = (await gateway.client.get("/api/ps", headers=admin)).json()["models"]
        size = rows[1]["size"]
        sums = {"backends": ["one", "two"], "size": 2 * size, "size_vram": 2 * size}
        assert seen[1] == {**rows[1], "herdgate": sums}
        assert [row["herdgate"]["backends"] for row in seen] == [["two"], ["one", "two"], ["one"]]


async def test_one_backend_that_hangs_keeps_no_list_of_loaded_models_back(
    first: SimulatedOllama, second: SimulatedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ollama answers `/api/ps` only once a model that it loads at the moment is loaded."""
    monkeypatch.setattr("herdgate.running.PS_DEADLINE", 0.3)
    async with running_gateway(first, second) as gateway:
        for model in ("only-first", "only-second"):
            assert (await chat(gateway, model)).status_code == 200
        first.script("/api/ps", Hang(), times=None)
        began = time.monotonic()
        rows = (await gateway.client.get("/api/ps")).json()["models"]
        assert time.monotonic() - began < AT_ONCE
        assert [row["name"] for row in rows] == ["only-second:latest"]


async def test_the_version_is_the_lowest_there_is() -> None:
    async with (
        SimulatedOllama(name="one", version="0.12.0-rc1") as one,
        SimulatedOllama(name="two", version="0.9.10") as two,
        SimulatedOllama(name="three", version="0.10.1") as three,
        running_gateway(one, two, three) as gateway,
    ):
        assert (await gateway.client.get("/api/version")).json() == {"version": "0.9.10"}


async def test_the_version_of_a_backend_that_is_away_counts_only_while_all_are() -> None:
    async with (
        SimulatedOllama(name="one", version="0.12.0") as one,
        SimulatedOllama(name="two", version="0.9.10") as two,
        running_gateway(one, two) as gateway,
    ):
        assert (await gateway.client.get("/api/version")).json() == {"version": "0.9.10"}
        discovery = gateway.gateway.runtime.discovery
        await two.stop()
        await until(lambda: discovery.versions == ["0.12.0"])
        assert (await gateway.client.get("/api/version")).json() == {"version": "0.12.0"}
        await one.stop()
        await until(lambda: discovery.versions == ["0.12.0", "0.9.10"])
        assert (await gateway.client.get("/api/version")).json() == {"version": "0.9.10"}


@pytest.mark.parametrize("version", ["0.\u00b2", "0." + "9" * 5000, "0.1 beta", ""])
async def test_a_version_that_is_none_is_left_out(version: str) -> None:
    async with (
        SimulatedOllama(name="one", version=version) as one,
        SimulatedOllama(name="two", version="0.12.1") as two,
        running_gateway(one, two) as gateway,
    ):
        assert (await gateway.client.get("/api/version")).json() == {"version": "0.12.1"}


async def test_no_number_beyond_json_leaves_the_gateway(first: SimulatedOllama) -> None:
    entry = (
        b'{"name":"odd","size":1e999,"sizes":[1,NaN],"details":{"family":"llama","x":-1e999},"size_vram":1e999,"y":1.5}'
    )
    for path in ("/api/tags", "/api/ps"):
        first.script(path, Status(200, b'{"models":[%b]}' % entry), times=None)
    async with running_gateway(first) as gateway:
        for path in ("/api/tags", "/api/ps", "/v1/models"):
            reply = await gateway.client.get(path)
            assert b"odd:latest" in reply.content
            assert b"Infinity" not in reply.content
            assert b"NaN" not in reply.content
        (row,) = (await gateway.client.get("/api/tags")).json()["models"]
    assert (row["size"], row["details"]["family"], row["y"], "sizes" in row) == (0, "", 1.5, False)


async def test_stubs_that_send_prompts_elsewhere_are_hidden_unless_the_operator_wants_them() -> None:
    stub = SimModel("gpt-oss:20b-cloud", remote_host="https://ollama.com:443", remote_model="gpt-oss:20b")
    disguised = SimModel("innocent", remote_host="https://ollama.com:443", remote_model="gpt-oss:120b")
    async with SimulatedOllama(name="one", models=[MODEL, stub, disguised], cloud=True) as backend:
        async with running_gateway(backend) as gateway:
            assert set(await tags(gateway)) == {f"{MODEL}:latest"}
            for name in ("gpt-oss:20b-cloud", "innocent", "gpt-oss:cloud", f"{MODEL}:cloud"):
                assert (await chat(gateway, name)).status_code == 403
                assert (await gateway.client.get(f"/v1/models/{name}")).status_code == 403
                assert (await gateway.client.post("/api/show", json={"model": name})).status_code == 403
            assert (await gateway.client.get("/api/status")).json()["cloud"]["disabled"] is True
            assert [each.path for each in backend.requests if each.path in {CHAT, "/api/show"}] == []
        async with running_gateway({"name": "one", "base_url": backend.url, "cloud": True}) as gateway:
            assert {"gpt-oss:20b-cloud", "innocent:latest"} < set(await tags(gateway))
            assert (await chat(gateway, "gpt-oss:20b-cloud")).status_code == 200
            assert (await chat(gateway, f"{MODEL}:cloud")).status_code == 403
            assert (await gateway.client.get("/api/status")).json()["cloud"]["disabled"] is False


async def test_the_cloud_needs_the_backend_and_the_key(quick_keys: None) -> None:
    """Neither alone is enough, and a caller without learns no more than of a model that nobody has."""
    stub = SimModel("gpt-oss:20b-cloud", remote_host="https://ollama.com:443", remote_model="gpt-oss:20b")
    disguised = SimModel("innocent", remote_host="https://ollama.com:443", remote_model="gpt-oss:120b")
    names = ["gpt-oss:20b-cloud", "GPT-OSS:20b:cloud", "innocent"]
    async with (
        SimulatedOllama(name="one", models=[MODEL, stub, disguised], cloud=True) as backend,
        running_gateway({"name": "one", "base_url": backend.url, "cloud": True}) as gateway,
    ):
        for cloud, status in ((False, 403), (True, 200)):
            key = await gateway.make_key("*", name=f"key {cloud}", cloud=cloud)
            for name in names:
                assert (await chat(gateway, name, **key)).status_code == status
                assert (await gateway.client.get(f"/v1/models/{name}", headers=key)).status_code == status
                shown = await gateway.client.post("/api/show", json={"model": name}, headers=key)
                assert shown.status_code == status
            assert ("innocent:latest" in await tags(gateway, **key)) == cloud
            told = (await gateway.client.get("/api/status", headers=key)).json()["cloud"]
            assert told["disabled"] == (not cloud)


# backends come and go


async def test_a_model_is_seen_soon_after_it_came_and_after_it_went(
    gateway: RunningGateway, second: SimulatedOllama
) -> None:
    assert (await chat(gateway, "new")).status_code == 403
    second.models.add("new")
    await listed(gateway, "new:latest")
    assert (await chat(gateway, "new")).status_code == 200
    second.models.remove("new")
    await listed(gateway, "new:latest", present=False)
    assert (await chat(gateway, "new")).status_code == 403


async def test_the_next_backend_shows_its_entry_when_the_first_one_gives_a_model_up(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    second.models.add(SimModel(MODEL, size=2))
    first.models.remove(MODEL)

    async def seconds() -> bool:
        return bool((await tags(gateway))[f"{MODEL}:latest"]["size"] == 2)

    await until(seconds)
    assert "backend second" in ASK.text_of(await chat(gateway))


async def test_a_backend_that_dies_keeps_its_models_for_a_while_and_is_remembered_for_ever(
    first: SimulatedOllama, second: SimulatedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(first, second, env={"HERDGATE_DISCOVERY_INTERVAL": "0.05"}) as gateway:
        await first.stop()
        await polled_again(second, times=5)
        assert "only-first:latest" in await tags(gateway)
        assert (await gateway.client.get("/v1/models/only-first")).status_code == 200
        assert (await chat(gateway, "only-first")).status_code == 502
        monkeypatch.setattr("herdgate.catalogue.GONE_AFTER", 1.0)
        await listed(gateway, "only-first:latest", present=False)
        assert set(await tags(gateway)) == {f"{MODEL}:latest", "only-second:latest"}
        for asked in (
            chat(gateway, "only-first"),
            gateway.client.post(OPENAI_CHAT, json=ASK.body("only-first")),
            gateway.client.post("/api/show", json={"model": "only-first"}),
            gateway.client.get("/v1/models/only-first"),
        ):
            response = await asked
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
        assert (await chat(gateway, "no-such-model")).status_code == 403
        assert "backend second" in ASK.text_of(await chat(gateway))
        await first.start()
        await listed(gateway, "only-first:latest")
        assert (await chat(gateway, "only-first")).status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        Status(500),
        Status(401),
        Status(200, body=b"<html>", content_type="text/html"),
        EmptyOk(),
        Events((b'{"models":null}',)),
        Events((b"[]",)),
        Events((b'{"error":"starting"}',)),
    ],
    ids=repr,
)
async def test_a_reply_that_is_no_list_changes_nothing(
    first: SimulatedOllama, second: SimulatedOllama, fault: Fault
) -> None:
    async with running_gateway(first, second, env={"HERDGATE_DISCOVERY_INTERVAL": "0.05"}) as gateway:
        before = await tags(gateway)
        first.script("/api/tags", fault, times=None)
        await polled_again(first)
        assert await tags(gateway) == before
        assert "backend first" in ASK.text_of(await chat(gateway))


@pytest.mark.parametrize("path", ["/api/tags", "/api/version", "/api/ps"])
async def test_an_answer_without_end_is_given_up_long_before_it_fills_the_memory(
    gateway: RunningGateway, first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("herdgate.upstream.bounded.ANSWER_LIMIT", 1_000_000)
    before = await tags(gateway)
    first.script(path, EndlessLine(), times=None)
    began = time.monotonic()
    if path == "/api/ps":
        assert (await gateway.client.get(path)).json() == {"models": []}
    else:
        await polled_again(first)
    assert time.monotonic() - began < 2 * AT_ONCE
    await first.wait_for(lambda sim: any(each.path == path and each.left_at is not None for each in sim.requests))
    assert await tags(gateway) == before


async def test_entries_that_make_no_sense_are_left_out(gateway: RunningGateway, first: SimulatedOllama) -> None:
    entries = [{"name": "good", "size": 7}, {"name": "a b"}, {"name": 5}, {}, None, "x", {"model": "named-so"}]
    first.script("/api/tags", Events((json.dumps({"models": entries}).encode(),)), times=None)
    await listed(gateway, "good:latest")
    assert {name for name in await tags(gateway) if "second" not in name} - {f"{MODEL}:latest"} <= {
        "good:latest",
        "named-so:latest",
    }


SHAPES = """
from herdgate import hookimpl

class Extra:
    herdgate_api = 1
    broken = False

    @hookimpl
    def shape_catalogue(self, entries):
        if self.broken:
            raise RuntimeError("no shape")
        return [entry for entry in entries if entry.name.model != "hidden"]
"""


async def test_the_last_good_list_stays_while_a_plugin_cannot_shape_a_new_one(
    first: SimulatedOllama, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first.models.add("hidden")
    async with running_gateway(first, toml=with_plugin(tmp_path, SHAPES), directory=tmp_path) as gateway:
        before = await tags(gateway)
        assert set(before) == {f"{MODEL}:latest", "only-first:latest"}
        plugin_of(gateway, "extra").broken = True
        first.models.add("new")
        await polled_again(first)
        assert await tags(gateway) == before
        assert [record.message for record in caplog.records if record.name == "herdgate.discovery"] == [
            "backend first cannot be polled: RuntimeError: no shape"
        ]
        plugin_of(gateway, "extra").broken = False
        await listed(gateway, "new:latest")
        assert "hidden:latest" not in await tags(gateway)


async def test_a_404_for_a_listed_model_has_the_backend_asked_again(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    """In the background: the request itself goes on to the next backend at once."""
    async with running_gateway(first, second, env={"HERDGATE_DISCOVERY_INTERVAL": "1h"}) as gateway:
        first.models.remove(MODEL, "only-first")
        assert "backend second" in ASK.text_of(await chat(gateway))
        await listed(gateway, "only-first:latest", present=False)
        asked = len(first.requests)
        assert "backend second" in ASK.text_of(await chat(gateway))
        assert len(first.requests) == asked


# backends that do not answer


@asynccontextmanager
async def starting(directory: Path, *backends: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    """A gateway whose first discovery round may not be over yet."""
    environ = {
        "OLLAMA_BACKENDS": json.dumps([{"name": backend.name, "base_url": backend.url} for backend in backends]),
        "HERDGATE_PORT": "0",
        "HERDGATE_STATE": f"sqlite://{directory}/state.db",
        "HERDGATE_DISCOVERY_INTERVAL": "0.1",
    }
    async with (
        Gateway(load({}, environ, directory)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30.0, trust_env=False) as client,
    ):
        yield RunningGateway(gateway, client)


async def test_a_backend_that_hangs_delays_nobody(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(INFO, "list_models", replace(INFO["list_models"], deadline=1.0))
    await first.freeze()
    async with starting(tmp_path, first, second) as gateway:
        await gateway.knows("only-second:latest")
        starts = await gateway.client.get("/readyz")
        assert (starts.status_code, starts.json()) == (503, {"status": "starting"})
        assert (await gateway.client.get("/healthz")).status_code == 200
        assert "backend second" in ASK.text_of(await chat(gateway))  # all that is known of serves already
        await until(lambda: gateway.gateway.runtime.ready)
        for path in ("/readyz", "/api/tags", "/v1/models", f"/v1/models/{MODEL}", "/api/version"):
            began = time.monotonic()
            assert (await gateway.client.get(path)).status_code == 200
            assert time.monotonic() - began < AT_ONCE
        await first.thaw()
        await listed(gateway, "only-first:latest")


@pytest.mark.parametrize("fault", [Hang(), Hang("headers"), Status(404), Events((b"x",) * 200)], ids=lambda _: None)
async def test_a_backend_that_does_not_tell_its_version_is_listed_all_the_same(
    first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Other servers than Ollama have none."""
    monkeypatch.setattr("herdgate.poll.POLL_DEADLINE", 0.3)
    first.behaviour.pace = 0.1 if isinstance(fault, Events) else 0.0  # 20 s, were it not for the deadline
    first.script("/api/version", fault, times=None)
    async with running_gateway(first) as gateway:
        assert f"{MODEL}:latest" in await tags(gateway)
        assert (await gateway.client.get("/api/version")).json() == {"version": "0.0.0"}
        first.models.add("new")
        await listed(gateway, "new:latest")


async def test_before_any_list_is_known_the_answer_is_come_back_and_not_an_empty_list(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    for backend in (first, second):
        await backend.stop()
    async with running_gateway(first, second) as gateway:
        for method, path, body in (
            ("GET", "/api/tags", None),
            ("GET", "/api/ps", None),
            ("GET", "/v1/models", None),
            ("GET", f"/v1/models/{MODEL}", None),
            ("GET", "/v1/models/no-such-model", None),
            ("POST", "/api/show", {"model": MODEL}),
            *(("POST", way.path, way.body()) for way in EVERY_WAY),
            ("POST", CHAT, ASK.body("no-such-model")),
        ):
            response = await gateway.client.request(method, path, json=body)
            assert response.status_code == 503, path
            assert int(response.headers["retry-after"]) > 0
            error = response.json()["error"]
            assert "does not know its models yet" in (error["message"] if path.startswith("/v1/") else error)
        assert (await gateway.client.head("/api/tags")).status_code == 503
        assert (await gateway.client.post("/api/pull", json={"model": MODEL})).status_code == 403
        assert (await gateway.client.get("/api/version")).json() == {"version": "0.0.0"}
        assert (await gateway.client.get("/readyz")).status_code == 200
        await second.start()
        await gateway.knows("only-second:latest")
        assert (await chat(gateway)).status_code == 200
        assert (await chat(gateway, "no-such-model")).status_code == 403


async def test_a_backend_without_models_is_no_unknown_one() -> None:
    async with SimulatedOllama(models=[]) as backend, running_gateway(backend) as gateway:
        assert (await gateway.client.get("/api/tags")).json() == {"models": []}
        assert (await gateway.client.get("/v1/models")).json() == {"object": "list", "data": []}
        assert (await chat(gateway)).status_code == 403


# one backend


async def test_a_deployment_with_one_backend_is_no_special_case() -> None:
    async with SimulatedOllama(models=[MODEL, "other"], auth_token="its-token") as backend:
        env = {"OLLAMA_BACKENDS": "", "OLLAMA_BASE_URL": f"{backend.url}/", "OLLAMA_AUTH_TOKEN": "its-token"}
        async with running_gateway(env={**env, "HERDGATE_ADMIN_KEY": "the-admin-key-of-this-test"}) as gateway:
            gateway.client.headers["authorization"] = "Bearer the-admin-key-of-this-test"
            assert set(await tags(gateway)) == {f"{MODEL}:latest", "other:latest"}
            for way in EVERY_WAY:
                response = await way.ask(gateway)
                assert "You said: hi" in way.text_of(response)
                assert response.headers["x-herdgate-backend"] == "default"
            shown = await gateway.client.post("/api/show", json={"model": MODEL})
            assert shown.json()["model_info"]
            assert (await chat(gateway, "no-such-model")).status_code == 403
            assert {request.values("authorization") for request in backend.requests} == {("Bearer its-token",)}
            await backend.stop()
            assert (await chat(gateway)).status_code == 502
            assert len(await tags(gateway)) == 2


async def test_a_backend_that_wants_another_token_is_no_backend() -> None:
    """Its refusal speaks of the gateway's credentials, and nobody who calls can do anything about them."""
    async with SimulatedOllama(auth_token="its-token") as backend:
        env = {"OLLAMA_BACKENDS": "", "OLLAMA_BASE_URL": backend.url, "OLLAMA_AUTH_TOKEN": "another-token"}
        async with running_gateway(env=env) as gateway:
            assert (await gateway.client.get("/api/tags")).status_code == 503
            backend.behaviour.auth_token = "another-token"
            await gateway.knows(f"{MODEL}:latest")
            backend.behaviour.auth_token = "its-token"
            response = await chat(gateway)
            assert response.status_code == 502
            assert "token" not in response.text


async def test_a_burst_of_listings_costs_the_backends_nothing(gateway: RunningGateway, first: SimulatedOllama) -> None:
    await first.stop()
    began = time.monotonic()
    await asyncio.gather(*(gateway.client.get("/api/tags") for _ in range(50)))
    assert time.monotonic() - began < AT_ONCE


async def test_a_list_that_cannot_be_stored_does_not_end_the_polling(first: SimulatedOllama, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from herdgate import ModelEntry, hookimpl\n\n\nclass Odd:\n    herdgate_api = 1\n    polls = 0\n\n"
        "    @hookimpl\n    def list_models(self):\n        self.polls += 1\n"
        '        return [ModelEntry.from_tags({"name": f"poll{self.polls}", "odd": {1, 2}})]\n'
    )
    toml = "\n".join(f'[[plugin]]\nuse = "{use}"' for use in ("configured_backends", "./odd.py:Odd", "api_keys"))
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        await gateway.knows("poll3:latest")


# lists of backends that change


SOURCE = """
from herdgate import hookimpl

class Extra:
    herdgate_api = 1
    now = []

    @hookimpl
    def backend_sources(self, app):
        return self

    def list(self):
        return list(self.now)
"""


async def test_a_backend_that_cannot_be_used_keeps_no_other_out_of_a_new_list(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = tmp_path / "ca.pem"
    shutil.copy(certifi.where(), certificates)
    bad = BackendSettings(name="bad", base_url="https://127.0.0.1:9", ca_file=certificates)
    moved = BackendSettings(name="bad", base_url="https://127.0.0.1:8", ca_file=certificates)
    toml = with_plugin(tmp_path, SOURCE)
    async with (
        SimulatedOllama(name="one", models=["one"]) as one,
        SimulatedOllama(name="two", models=["two"]) as two,
        SimulatedOllama(name="three", models=["three"]) as three,
        running_gateway(one, toml=toml, directory=tmp_path, env={"HERDGATE_DISCOVERY_INTERVAL": "0.05"}) as gateway,
    ):
        certificates.unlink()
        second, third = (BackendSettings(name=each.name, base_url=each.url) for each in (two, three))
        source = plugin_of(gateway, "extra")
        discovery = gateway.gateway.runtime.discovery
        source.now = [second, bad, third]
        await listed(gateway, "three:latest")
        assert [backend.name for backend in discovery.backends] == ["one", "two", "three"]
        source.now = [bad, third]
        await listed(gateway, "two:latest", present=False)
        await two.wait_for(lambda backend: not backend.open_connections)
        await polled_again(three, times=5)
        left_out = [record for record in caplog.records if "left out" in record.message]
        assert len(left_out) == 1, "it is told once"
        assert "backend bad" in left_out[0].message
        assert "ca.pem" in left_out[0].message
        shutil.copy(certifi.where(), certificates)
        await until(lambda: [backend.name for backend in discovery.backends] == ["one", "bad", "three"])
        certificates.unlink()
        source.now = [moved, third]
        await until(lambda: [backend.name for backend in discovery.backends] == ["one", "three"])
        assert set(await tags(gateway)) == {"one:latest", "three:latest"}


async def test_a_step_of_the_clock_makes_no_backend_silent(
    first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(first, env={"HERDGATE_DISCOVERY_INTERVAL": "3600"}) as gateway:
        discovery = gateway.gateway.runtime.discovery
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 400)
        discovery._rebuild()
        assert (await chat(gateway)).status_code == 200
        assert "only-first:latest" in await tags(gateway)
