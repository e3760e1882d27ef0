"""The client libraries that people use find an ordinary server here, and errors that they can show to their users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from tests.stories.conftest import CHAT, MODEL, OPENAI_CHAT, plugin_of, with_plugin

from herdgate.testing.faults import Cut, Delay, ErrorEvent, Fault, FirstEvent, ResetBeforeHeaders, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimModel, SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

HI: Any = [{"role": "user", "content": "hi"}]
VECTORS = "nomic-embed-text"
DENIED = "access to this model is not allowed"
FAILS_OVER = [
    ResetBeforeHeaders(),
    Status(503),
    Status(500),
    Status(404),
    FirstEvent(b'{"error":"out of memory"}\n'),
    Cut(after="headers"),
]


@pytest.fixture
async def gateway(first: SimulatedOllama, second: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    for backend in (first, second):
        backend.models.add(SimModel(VECTORS, capabilities=("embedding",)))
    async with running_gateway(first, second) as running:
        yield running


@asynccontextmanager
async def native(gateway: RunningGateway, **headers: str) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(gateway.url, headers=headers)
    try:
        yield client
    finally:
        await client._client.aclose()


@asynccontextmanager
async def compatible(gateway: RunningGateway, key: str = "unused") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def key_for(gateway: RunningGateway, *models: str) -> str:
    return (await gateway.make_key(*models))["authorization"].removeprefix("Bearer ")


# ollama


async def test_ollama_lists_and_shows(gateway: RunningGateway) -> None:
    async with native(gateway) as client:
        models = (await client.list()).models
        assert {model.model for model in models} == {
            f"{MODEL}:latest",
            "only-first:latest",
            "only-second:latest",
            f"{VECTORS}:latest",
        }
        assert all(model.digest and model.size and model.modified_at and model.details for model in models)
        for name in (MODEL, "only-second"):
            assert "completion" in ((await client.show(name)).capabilities or [])
        assert (await client.ps()).models == []
        await client.chat(MODEL, HI)
        (running,) = (await client.ps()).models
        assert (running.model, running.expires_at is not None) == (f"{MODEL}:latest", True)


async def test_ollama_chats_and_generates(gateway: RunningGateway) -> None:
    async with native(gateway) as client:
        whole = await client.chat(MODEL, HI)
        assert whole.message.content == "Hello from simulated backend first. You said: hi"
        parts = [part async for part in await client.chat(MODEL, HI, stream=True)]
        assert "".join(part.message.content or "" for part in parts) == whole.message.content
        assert (parts[-1].done, parts[-1].eval_count) == (True, whole.eval_count)
        said = await client.generate(MODEL, "hi")
        pieces = [piece async for piece in await client.generate(MODEL, "hi", stream=True)]
        assert "".join(piece.response or "" for piece in pieces) == said.response == whole.message.content
        loaded = await client.generate(MODEL)
        assert (loaded.done_reason, loaded.response) == ("load", "")


async def test_ollama_embeds(gateway: RunningGateway) -> None:
    async with native(gateway) as client:
        assert [len(vector) for vector in (await client.embed(VECTORS, ["a", "b"])).embeddings] == [16, 16]
        assert len((await client.embeddings(VECTORS, "a")).embedding) == 16


@pytest.mark.parametrize("fault", FAILS_OVER, ids=repr)
async def test_ollama_sees_nothing_of_a_failover(gateway: RunningGateway, first: SimulatedOllama, fault: Fault) -> None:
    first.script("*", fault, times=None)
    async with native(gateway) as client:
        assert (await client.chat(MODEL, HI)).message.content == "Hello from simulated backend second. You said: hi"
        parts = [part async for part in await client.chat(MODEL, HI, stream=True)]
        assert parts[-1].done
        assert "second" in "".join(part.message.content or "" for part in parts)
        assert "second" in ((await client.generate(MODEL, "hi")).response or "")
        assert len((await client.embed(VECTORS, "a")).embeddings) == 1
        assert (await client.show(MODEL)).modelinfo
        assert len((await client.list()).models) == 4


async def test_ollama_tells_its_user_what_is_wrong(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    key = await key_for(gateway, MODEL)
    async with native(gateway, Authorization=f"Bearer {key}") as client:
        for name in ("no-such-model", "only-first"):
            for ask in (
                client.chat(name, HI),
                client.generate(name, "hi"),
                client.embed(name, "hi"),
                client.show(name),
                client.pull(name),
                client.delete(name),
                client.copy(MODEL, name),
            ):
                await _raises(ask, 403, DENIED)
            with pytest.raises(ollama.ResponseError, match=DENIED) as caught:
                [part async for part in await client.chat(name, HI, stream=True)]
            assert caught.value.status_code == 403
        await _raises(client.chat("a b", HI), 400, "invalid model name")
        for backend in (first, second):
            backend.script(CHAT, Status(400, f'"{MODEL}" does not support thinking'))
        await _raises(client.chat(MODEL, HI, think=True), 400, f'"{MODEL}" does not support thinking')
        first.clear_script()
        second.clear_script()
        first.script(CHAT, ErrorEvent(2, "out of memory"), Cut(after=2))
        for why in ("out of memory", "the model's reply was interrupted"):
            with pytest.raises(ollama.ResponseError, match=why):
                [part async for part in await client.chat(MODEL, HI, stream=True)]
        await first.stop()
        await second.stop()
        await _raises(client.chat(MODEL, HI), 502, "backend unavailable")
    async with native(gateway) as stranger:
        await _raises(stranger.list(), 401, "unauthorized: a valid API key is required")


async def _raises(ask: Any, status: int, message: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        await ask
    assert caught.value.status_code == status
    assert caught.value.error.startswith(message)


async def test_ollama_presents_its_key_from_the_environment(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", await key_for(gateway, MODEL))
    async with native(gateway) as client:
        assert [model.model for model in (await client.list()).models] == [f"{MODEL}:latest"]


async def test_names_with_slashes_work_everywhere(gateway: RunningGateway, second: SimulatedOllama) -> None:
    """Where Ollama itself finds no such name: in a path."""
    name = "hf.co/org/repo-GGUF:Q4_K_M"
    second.models.add(name)
    await gateway.knows(name)
    async with native(gateway) as client:
        assert "second" in ((await client.chat(name, HI)).message.content or "")
        assert (await client.show(name)).modelinfo
    async with compatible(gateway) as other:
        assert (await other.models.retrieve(name)).id == name
        assert (await other.chat.completions.create(model=name, messages=HI)).model == name
    for path in (name, name.replace("/", "%2F"), name.upper()):
        assert (await gateway.client.get(f"/v1/models/{path}")).status_code == 200


# openai


async def test_openai_lists_models(gateway: RunningGateway) -> None:
    async with compatible(gateway) as client:
        listed = [model async for model in client.models.list()]
        assert f"{MODEL}:latest" in {model.id for model in listed}
        assert all(model.created > 0 and model.owned_by == "library" for model in listed)
        for name in (MODEL, "only-second:latest"):
            assert (await client.models.retrieve(name)).id == name


async def test_openai_chats_and_completes(gateway: RunningGateway) -> None:
    async with compatible(gateway) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=HI)
        assert whole.choices[0].message.content == "Hello from simulated backend first. You said: hi"
        stream = await client.chat.completions.create(
            model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage == whole.usage
        completion = await client.completions.create(model=MODEL, prompt="hi")
        pieces = [piece async for piece in await client.completions.create(model=MODEL, prompt="hi", stream=True)]
        assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == completion.choices[0].text


async def test_openai_embeds(gateway: RunningGateway) -> None:
    async with compatible(gateway) as client:
        vectors = await client.embeddings.create(model=VECTORS, input=["a", "b"])
        assert [len(entry.embedding) for entry in vectors.data] == [16, 16]


@pytest.mark.parametrize("fault", FAILS_OVER, ids=repr)
async def test_openai_sees_nothing_of_a_failover(gateway: RunningGateway, first: SimulatedOllama, fault: Fault) -> None:
    first.script("*", fault, times=None)
    async with compatible(gateway) as client:
        whole = await client.chat.completions.create(model=MODEL, messages=HI)
        assert whole.choices[0].message.content == "Hello from simulated backend second. You said: hi"
        stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == whole.choices[0].message.content
        assert "second" in (await client.completions.create(model=MODEL, prompt="hi")).choices[0].text
        assert len((await client.embeddings.create(model=VECTORS, input="a")).data) == 1


async def test_openai_tells_its_user_what_is_wrong(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    key = await key_for(gateway, MODEL)
    async with compatible(gateway, key) as client:
        chat = client.chat.completions.create
        for name in ("no-such-model", "only-first"):
            for ask in (
                chat(model=name, messages=HI),
                chat(model=name, messages=HI, stream=True),
                client.completions.create(model=name, prompt="hi"),
                client.embeddings.create(model=name, input="hi"),
                client.models.retrieve(name),
            ):
                with pytest.raises(openai.PermissionDeniedError, match=DENIED) as denied:
                    await ask
                assert denied.value.code == "model_not_allowed"
                assert denied.value.request_id
        with pytest.raises(openai.BadRequestError, match="invalid model name"):
            await chat(model="a b", messages=HI)
        with pytest.raises(openai.NotFoundError, match="not found"):
            await client.files.list()
        for status, kind in ((400, openai.BadRequestError), (422, openai.UnprocessableEntityError)):
            first.script(OPENAI_CHAT, Status(status, "say that differently"))
            with pytest.raises(kind, match="say that differently"):
                await chat(model=MODEL, messages=HI)
        first.script(OPENAI_CHAT, Cut(after=2))
        with pytest.raises(openai.APIError, match="the model's reply was interrupted"):
            [chunk async for chunk in await chat(model=MODEL, messages=HI, stream=True)]
        for backend in (first, second):
            backend.script(OPENAI_CHAT, Status(429))
        with pytest.raises(openai.RateLimitError, match="rate limit exceeded"):
            await chat(model=MODEL, messages=HI)
        await first.stop()
        await second.stop()
        with pytest.raises(openai.InternalServerError, match="backend unavailable") as failed:
            await chat(model=MODEL, messages=HI)
        assert failed.value.status_code == 502
    async with compatible(gateway, "sk-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError, match="a valid API key is required"):
            await stranger.models.list()


async def test_openai_comes_back_by_itself_when_it_is_told_to(
    first: SimulatedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second try, after the 503 of a gateway that knows no models yet, finds them."""
    monkeypatch.setattr("herdgate.routed.RETRY_AFTER", 1.0)
    await first.stop()
    counts = "from herdgate import hookimpl\n\nclass Extra:\n    herdgate_api = 1\n    ended = 0\n\n"
    counts += "    @hookimpl\n    def exchange_ended(self):\n        self.ended += 1\n"
    toml = with_plugin(tmp_path, counts)
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway, compatible(gateway) as client:
        patient = client.with_options(max_retries=2)
        asking = asyncio.create_task(patient.chat.completions.create(model=MODEL, messages=HI))
        await until(lambda: plugin_of(gateway, "extra").ended == 1)
        await first.start()
        assert "first" in ((await asking).choices[0].message.content or "")


@pytest.mark.parametrize("library", ["ollama", "openai"])
async def test_a_client_that_gives_up_stops_the_backend(
    gateway: RunningGateway, first: SimulatedOllama, library: str
) -> None:
    path = CHAT if library == "ollama" else OPENAI_CHAT
    first.script(path, Delay(60.0))
    async with native(gateway) as one, compatible(gateway) as other:
        ask: Any = (
            one.chat(MODEL, HI) if library == "ollama" else other.chat.completions.create(model=MODEL, messages=HI)
        )
        task = asyncio.ensure_future(ask)
        await first.wait_for(lambda sim: sim.concurrent == 1)
        task.cancel()
        await asyncio.wait([task])
        await first.wait_for(lambda sim: sim.concurrent == 0)
    (received,) = [request for request in first.requests if request.path == path]
    assert received.outcome == "client_left"
