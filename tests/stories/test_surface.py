"""Every cell of `docs/surface.md`: each endpoint, with each of its methods, in each situation."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.stories.conftest import MODEL
from tests.stories.raw import Raw, connected

from herdgate.expected import Situation, expected
from herdgate.surface import ENDPOINTS, Endpoint, Family, Treatment
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

NAMES = {Situation.FORBIDDEN: "only-second", Situation.UNKNOWN: "no-such-model"}
BELOW = {"model": "{name}", "blobs": "sha256:" + "0" * 64, "user": "keys/x", "experimental": "web_search"}
FORM = {"Content-Type": "multipart/form-data; boundary=limit"}


def path_of(endpoint: Endpoint, situation: Situation) -> str:
    name = "a%20b" if situation is Situation.MALFORMED else NAMES.get(situation, MODEL)
    return endpoint.path + (BELOW[endpoint.name].format(name=name) if endpoint.prefix else "")


def body_of(endpoint: Endpoint, situation: Situation) -> bytes:
    if situation is Situation.MALFORMED:
        return b"{"
    name = NAMES.get(situation, MODEL)
    if endpoint.form:
        parts = {'name="model"': name, 'name="file"; filename="a.wav"': "RIFF"}
        lines = (f"--limit\r\nContent-Disposition: form-data; {part}\r\n\r\n{text}\r\n" for part, text in parts.items())
        return "".join([*lines, "--limit--\r\n"]).encode()
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": name, "messages": messages, "prompt": "hi", "input": "hi", "max_tokens": 9}).encode()


@asynccontextmanager
async def in_situation(situation: Situation) -> AsyncIterator[tuple[RunningGateway, dict[str, str]]]:
    """A gateway, and the headers of a caller."""
    first = SimulatedOllama(name="first", models=[MODEL])
    second = SimulatedOllama(name="second", models=[MODEL, "only-second"])
    async with first, second, running_gateway(first, second) as gateway:
        for backend in (first, second):
            async with httpx.AsyncClient(base_url=backend.url) as direct:  # what is loaded is listed, too
                for model in backend.models:
                    await direct.post("/api/generate", json={"model": model.name})
        key = await gateway.make_key(MODEL)
        if situation is Situation.DOWN:
            await first.stop()
            await second.stop()
        yield gateway, {} if situation is Situation.NO_KEY else key


CELLS = [
    (endpoint, situation)
    for endpoint in ENDPOINTS
    for situation in Situation
    if expected(endpoint, situation) is not None
]


@pytest.mark.parametrize("situation", Situation)
async def test_every_endpoint_answers_as_the_table_says(situation: Situation, subtests: pytest.Subtests) -> None:
    async with in_situation(situation) as (gateway, key), connected(gateway) as connection:
        for endpoint in (endpoint for endpoint, where in CELLS if where is situation):
            for method in sorted(endpoint.methods):
                with subtests.test(endpoint=endpoint.name, method=method):
                    body = body_of(endpoint, situation) if method not in {"GET", "HEAD"} else None
                    headers = {**key, **(FORM if endpoint.form else {})}
                    reply = await connection.ask(method, path_of(endpoint, situation), body, headers)
                    assert reply.status == expected(endpoint, situation)
                    assert reply.header("x-request-id")
                    if reply.status >= 400 and method != "HEAD":
                        assert has_shape_of(endpoint.family, reply)
                    if situation is Situation.FORBIDDEN and reply.status == 200:
                        assert b"only-second" not in reply.body
                        assert MODEL.encode() in reply.body or method == "HEAD"


def has_shape_of(family: Family, reply: Raw) -> bool:
    """Whether this is an error as the family's clients read it: JSON, with a text for people."""
    assert reply.header("content-type") == "application/json"
    error = json.loads(reply.body)["error"]
    text = error if family is Family.OLLAMA else error["message"]
    return isinstance(text, str) and len(text) > 8


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_endpoint_says_what_happens_in_the_situations_that_concern_it(endpoint: Endpoint) -> None:
    told = {situation for situation in Situation if expected(endpoint, situation) is not None}
    assert {Situation.NO_KEY, Situation.ALLOWED, Situation.DOWN} <= told
    named = bool(endpoint.model_fields) or endpoint.name == "model" or endpoint.treatment is Treatment.REFUSED
    assert ({Situation.UNKNOWN, Situation.MALFORMED} <= told) == named


def test_the_table_has_no_empty_column() -> None:
    assert {situation for _, situation in CELLS} == set(Situation)
    assert len(CELLS) > 120
