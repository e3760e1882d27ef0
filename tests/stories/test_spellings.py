"""Names: every spelling reaches the same model, the reply keeps the caller's, and what is no name is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from tests.stories.conftest import MODEL
from tests.stories.doors import forwarded, message_of
from tests.stories.raw import connected

from herdgate.surface import ENDPOINTS, Endpoint, Treatment
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimModel, SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

SPELLINGS = [
    MODEL,
    f"{MODEL}:latest",
    MODEL.upper(),
    f"{MODEL}:LATEST",
    f"library/{MODEL}",
    f"Library/{MODEL}:Latest",
    f"registry.ollama.ai/library/{MODEL}",
    f"https://registry.ollama.ai/library/{MODEL}:latest",
    f"  {MODEL}\t\n",
    f"{MODEL}:local",
]
NO_NAMES = ["a b", "m:", "/m", "../m", "a:b:c", "m@sha256:ab", "m:local:cloud", "-m", "m\x00", "ä", "x" * 500]
JSON_ENDPOINTS = [endpoint for endpoint in ENDPOINTS if endpoint.model_fields and not endpoint.form]
ROUTED = [endpoint for endpoint in JSON_ENDPOINTS if endpoint.treatment is Treatment.ROUTED]


def asked(name: str, *, stream: bool = False) -> dict[str, object]:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": name, "stream": stream, "messages": messages, "prompt": "hi", "input": "hi", "max_tokens": 9}


def names_in(value: object) -> Iterator[str]:
    """Every `model` in a reply, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "model" and isinstance(inner, str):
                yield inner
            yield from names_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names_in(inner)


def values_in(body: bytes) -> list[object]:
    """Every JSON value of a reply: the whole, or the lines or events of a stream."""
    lines = (line.removeprefix("data: ") for line in body.decode().splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("endpoint", ROUTED, ids=lambda endpoint: endpoint.name)
async def test_every_spelling_reaches_the_model_and_comes_back(
    gateway: RunningGateway, first: SimulatedOllama, endpoint: Endpoint
) -> None:
    key = await gateway.make_key(MODEL)
    async with connected(gateway) as connection:
        for name in SPELLINGS:
            for stream in (False, True)[: 1 if endpoint.streams is None else 2]:
                reply = await connection.ask("POST", endpoint.path, asked(name, stream=stream), key)
                assert reply.status == 200, name
                said = set(names_in(values_in(reply.body)))
                assert said == (set() if endpoint.name in {"embeddings", "show"} else {name})
    assert {request.json["model"] for request in first.requests if request.path == endpoint.path} == set(SPELLINGS)


async def test_every_spelling_is_found_among_the_models(gateway: RunningGateway) -> None:
    key = await gateway.make_key(MODEL)
    async with connected(gateway) as connection:
        for name in SPELLINGS:
            for written in {quote(name), quote(name, safe="")}:
                reply = await connection.ask("GET", f"/v1/models/{written}", headers=key)
                assert (reply.status, json.loads(reply.body)["id"]) == (200, name)


@pytest.mark.parametrize("endpoint", JSON_ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_what_is_no_name_is_refused(gateway: RunningGateway, first: SimulatedOllama, endpoint: Endpoint) -> None:
    async with connected(gateway) as connection:
        for name in NO_NAMES:
            reply = await connection.ask("POST", endpoint.path, asked(name))
            assert (reply.status, message_of(reply, endpoint.path)[:18]) == (400, "invalid model name"), name
        for nothing in ("", "  ", None, 5, ["m"], {"a": 1}, True):
            reply = await connection.ask("POST", endpoint.path, {**asked(MODEL), "model": nothing})
            assert reply.status == 400, nothing
    assert forwarded(first) == []


async def test_a_path_with_no_name_in_it_is_refused(gateway: RunningGateway) -> None:
    async with connected(gateway) as connection:
        for name in NO_NAMES:
            reply = await connection.ask("GET", f"/v1/models/{quote(name, safe='')}")
            assert reply.status == 400, name


async def test_the_old_field_counts_only_where_it_is_read(gateway: RunningGateway, first: SimulatedOllama) -> None:
    key = await gateway.make_key(MODEL)
    async with connected(gateway) as connection:
        bodies: list[tuple[dict[str, object], int]] = [
            ({"name": MODEL}, 200),
            ({"model": "", "name": MODEL}, 200),
            ({"model": MODEL, "name": "only-first"}, 200),  # `model` wins, here as there
            ({"model": "only-first", "name": MODEL}, 403),
            ({"name": "only-first"}, 403),
        ]
        for body, status in bodies:
            assert (await connection.ask("POST", "/api/show", body, key)).status == status, body
        for endpoint in ROUTED:
            if endpoint.name != "show":
                body = {**asked(MODEL), "name": MODEL}
                del body["model"]
                assert (await connection.ask("POST", endpoint.path, body, key)).status == 400
    assert len(forwarded(first)) == 3


async def test_models_of_other_places_keep_their_full_names(first: SimulatedOllama) -> None:
    names = ["team/mine:8b", "hf.co/org/repo-GGUF:Q4_K_M", "registry.example.com:5000/team/m:v1"]
    first.models.add(*(SimModel(name) for name in names))
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        for name in names:
            for spelled in (name, name.upper()):
                reply = await connection.ask("POST", "/api/chat", asked(spelled))
                assert (reply.status, json.loads(reply.body)["model"]) == (200, spelled)
                found = await connection.ask("GET", f"/v1/models/{spelled}")
                assert (found.status, json.loads(found.body)["id"]) == (200, spelled)
        mine = await connection.ask("POST", "/api/chat", asked("mine:8b"))
        assert mine.status == 403
