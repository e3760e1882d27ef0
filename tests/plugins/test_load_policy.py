"""What callers say about loading a model: passed on, clamped, or dropped."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate import (
    Attempt,
    BackendSettings,
    Body,
    Candidate,
    Exchange,
    Identity,
    ModelEntry,
    UpstreamRequest,
)
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.load_policy import LoadPolicy, Override, changed

ROOT = Path(__file__).parents[2]
BUILT_IN = (ROOT / "plugins.toml").read_text()
CLAMP = Override(keep_alive_max=600, num_ctx_max=4096)
MODEL = "llama3.2"


def left(body: object, policy: Override = CLAMP) -> Any:
    read = Body.read(json.dumps(body).encode())
    return json.loads(read.replaced(changed(read, policy)))


@pytest.mark.parametrize("alive", [0, 0.5, 600, "0", "10m", "9m59s", "600s", "1.5m", ".5s", "+3s", "5000ms", "1m0h"])
def test_a_short_keep_alive_passes_as_it_is(alive: object) -> None:
    body = {"model": "m", "keep_alive": alive}
    assert left(body) == body


@pytest.mark.parametrize(
    "alive",
    [601, -1, "-1s", "-5m", "1h", "10m1s", "1h0m", "9999999h", 1e300, "5x", "300", "", True, {}, [], "\uff11s", "-"],
)
def test_a_keep_alive_that_is_long_or_cannot_be_read_becomes_the_longest(alive: object) -> None:
    assert left({"model": "m", "keep_alive": alive}) == {"model": "m", "keep_alive": 600}


def test_a_keep_alive_of_absurd_length_becomes_the_longest_at_once() -> None:
    assert left({"model": "m", "keep_alive": "1" * 1_000_000}) == {"model": "m", "keep_alive": 600}


def test_a_keep_alive_may_be_dropped_or_passed() -> None:
    body = {"model": "m", "keep_alive": "24h", "prompt": "x"}
    assert left(body, Override(keep_alive="drop")) == {"model": "m", "prompt": "x"}
    assert left(body, Override(keep_alive="pass")) == body


@pytest.mark.parametrize(
    ("asked", "got"), [(2048, 2048), (4096, 4096), (4097, 4096), ("8192", 4096), (True, 4096), (1e9, 4096)]
)
def test_a_context_is_clamped(asked: object, got: object) -> None:
    body = {"model": "m", "options": {"temperature": 0.5, "num_ctx": asked, "stop": ["é"]}}
    assert left(body)["options"] == {"temperature": 0.5, "num_ctx": got, "stop": ["é"]}


def test_what_else_has_a_model_loaded_anew_is_left_out() -> None:
    options = {"num_gpu": 1, "NUM_THREAD": 2, "use_mmap": False, "num_batch": 1, "main_gpu": 0, "seed": 7}
    assert left({"model": "m", "options": options})["options"] == {"seed": 7}
    everything = {**options, "num_ctx": 1}
    assert left({"model": "m", "options": everything}, Override(options="drop"))["options"] == {"seed": 7}
    assert left({"model": "m", "options": everything}, Override(options="pass"))["options"] == everything


@pytest.mark.parametrize(
    "body", [{"model": "m"}, {"options": None}, {"options": [1]}, {"options": {}}, {"keep_alive": None}]
)
def test_what_says_nothing_of_loading_is_not_touched(body: dict[str, object]) -> None:
    assert changed(Body.read(json.dumps(body).encode()), CLAMP) == {}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(rest=st.dictionaries(st.text("xyz", min_size=1, max_size=3), JSON, max_size=4), alive=JSON, options=JSON)
def test_the_rest_of_a_body_keeps_its_very_text(rest: dict[str, Any], alive: Any, options: Any) -> None:
    raw = json.dumps({**rest, "keep_alive": alive, "options": options}).encode()
    read = Body.read(raw)
    again = Body.read(read.replaced(changed(read, CLAMP)))
    for name in rest:
        assert bytes(again.fields[name]) == bytes(read.fields[name])


# through a gateway


@pytest.fixture
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama("first", [MODEL]) as backend:
        yield backend


@pytest.fixture
async def gateway(backend: SimulatedOllama, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningGateway]:
    monkeypatch.setattr("herdgate_plugins.api_keys.SYNC_EVERY", 0.02)
    toml = f"""{BUILT_IN}
[[plugin]]
use = "herdgate_plugins.load_policy:LoadPolicy"
keep_alive_max = "5m"
num_ctx_max = 2048
callers = {{ bob = {{ keep_alive = "drop" }}, ops = {{ options = "drop" }} }}
"""
    async with running_gateway(backend, toml=toml) as running:
        yield running


LONG = {"model": MODEL, "stream": False, "keep_alive": -1, "options": {"num_ctx": 99_999, "seed": 1}}


async def sent(gateway: RunningGateway, backend: SimulatedOllama, path: str, body: dict[str, Any], **key: str) -> Any:
    reply = await gateway.client.post(path, json=body, headers=key)
    assert reply.status_code == httpx.codes.OK, reply.text
    return backend.requests[-1].json


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/api/generate", {"prompt": "hi"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/api/embed", {"input": "hi"}),
    ],
)
async def test_the_backend_gets_what_the_policy_leaves(
    gateway: RunningGateway, backend: SimulatedOllama, path: str, more: dict[str, Any]
) -> None:
    clamped = {**LONG, **more, "keep_alive": 300, "options": {"num_ctx": 2048, "seed": 1}}
    alice = await gateway.make_key("*", name="alice")
    assert await sent(gateway, backend, path, {**LONG, **more}, **alice) == clamped


async def test_single_callers_have_a_policy_of_their_own_and_admins_none(
    gateway: RunningGateway, backend: SimulatedOllama
) -> None:
    body = {**LONG, "prompt": "hi"}
    bob = await gateway.make_key("*", name="bob")
    said = await sent(gateway, backend, "/api/generate", body, **bob)
    assert "keep_alive" not in said
    assert said["options"] == {"seed": 1, "num_ctx": 2048}
    root = await gateway.make_key("*", name="root", admin=True)
    assert await sent(gateway, backend, "/api/generate", body, **root) == body
    ops = await gateway.make_key("*", name="ops", admin=True)
    assert await sent(gateway, backend, "/api/generate", body, **ops) == {
        **body,
        "keep_alive": 300,
        "options": {"seed": 1},
    }


async def test_other_dialects_and_bodies_within_the_policy_go_on_byte_for_byte(
    gateway: RunningGateway, backend: SimulatedOllama
) -> None:
    raw = b'{ "model":"llama3.2", "prompt":"hi",  "keep_alive":"1m", "stream":false }'
    await gateway.client.post("/api/generate", content=raw)
    assert backend.requests[-1].body == raw
    raw = b'{"model":"llama3.2","keep_alive":-1,"messages":[{"role":"user","content":"hi"}]}'
    await gateway.client.post("/v1/chat/completions", content=raw)
    assert backend.requests[-1].body == raw


@pytest.mark.parametrize("settings", [{"keep_alive": "never"}, {"num_ctx_max": 0}, {"callers": {"a": {"x": 1}}}])
def test_a_policy_that_cannot_be_read_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        LoadPolicy.Settings(**settings)


def test_what_was_allowed_as_an_unload_stays_one() -> None:
    """Without its `keep_alive` it would load the model instead."""
    settings = BackendSettings(name="gpu1", base_url="http://gpu1")
    entry = ModelEntry.from_tags({"name": MODEL})
    attempt = Attempt(1, Candidate(settings.view(), entry))
    raw = b'{"model":"llama3.2","keep_alive":0}'
    exchange = Exchange("r1", method="POST", path="/api/generate", client="127.0.0.1")
    exchange.identity, exchange.body, exchange.unloads = Identity("ops"), Body.read(raw), True
    dropping = LoadPolicy(LoadPolicy.Settings(keep_alive="drop"))
    request = UpstreamRequest("POST", "/api/generate", (), raw)
    assert dropping.prepare_upstream(exchange, attempt, request) is None
    exchange.unloads = False
    after = dropping.prepare_upstream(exchange, attempt, request)
    assert after is not None
    assert after.body == b'{"model":"llama3.2"}'


def test_what_another_plugin_has_changed_is_not_undone() -> None:
    raw, other = b'{"model":"a","keep_alive":-1}', b'{"model":"a","prompt":"longer","keep_alive":-1}'
    attempt = Attempt(
        1, Candidate(BackendSettings(name="a", base_url="http://a").view(), ModelEntry.from_tags({"name": "a"}))
    )
    exchange = Exchange("r1", method="POST", path="/api/generate", client="127.0.0.1")
    exchange.identity, exchange.body = Identity("alice"), Body.read(raw)
    policy = LoadPolicy(LoadPolicy.Settings(keep_alive_max=60))
    after = policy.prepare_upstream(exchange, attempt, UpstreamRequest("POST", "/api/generate", (), other))
    assert after is not None
    assert json.loads(after.body) == {"model": "a", "prompt": "longer", "keep_alive": 60}
