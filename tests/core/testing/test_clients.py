"""The real client libraries find nothing odd about the simulated backend."""

from collections.abc import AsyncIterator
from typing import Any

import ollama
import openai
import pytest

from herdgate.testing.faults import Cut, ErrorEvent, Status
from herdgate.testing.simulated import SimulatedOllama

HI = [{"role": "user", "content": "hi"}]


class TestOllama:
    @pytest.fixture
    async def client(self, sim: SimulatedOllama) -> AsyncIterator[ollama.AsyncClient]:
        client = ollama.AsyncClient(sim.url)
        yield client
        await client._client.aclose()

    async def test_list_show_ps(self, client: ollama.AsyncClient) -> None:
        assert [model.model for model in (await client.list()).models][:2] == ["llama3.2:latest", "qwen3:8b"]
        assert "completion" in ((await client.show("llama3.2")).capabilities or [])
        await client.chat("llama3.2", HI)
        (running,) = (await client.ps()).models
        assert running.expires_at is not None
        assert running.expires_at.tzinfo is not None

    async def test_chat_and_generate(self, client: ollama.AsyncClient) -> None:
        whole = await client.chat("llama3.2", HI)
        stream: Any = await client.chat("llama3.2", HI, stream=True)
        parts = [part async for part in stream]
        assert "".join(part.message.content for part in parts) == whole.message.content
        assert (parts[-1].done, parts[-1].eval_count) == (True, whole.eval_count)
        assert (await client.generate("llama3.2", "hi")).response == whole.message.content

    async def test_embed(self, client: ollama.AsyncClient) -> None:
        assert len((await client.embed("nomic-embed-text", ["a", "b"])).embeddings) == 2
        assert len((await client.embeddings("nomic-embed-text", "a")).embedding) == 16

    async def test_management(self, sim: SimulatedOllama, client: ollama.AsyncClient) -> None:
        sim.behaviour.registry = ("gemma3",)
        progress: Any = await client.pull("gemma3", stream=True)
        assert [step.status async for step in progress][-1] == "success"
        assert (await client.copy("gemma3", "mine")).status == "success"
        assert (await client.delete("mine")).status == "success"

    async def test_errors(self, sim: SimulatedOllama, client: ollama.AsyncClient) -> None:
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
            await client.chat("nope", HI)
        assert caught.value.status_code == 404
        sim.script("/api/chat", ErrorEvent(2, "out of memory"))
        stream: Any = await client.chat("llama3.2", HI, stream=True)
        with pytest.raises(ollama.ResponseError, match="out of memory"):
            [part async for part in stream]

    async def test_nobody_there(self, sim: SimulatedOllama, client: ollama.AsyncClient) -> None:
        await sim.stop()
        with pytest.raises(ConnectionError):
            await client.list()


class TestOpenAI:
    @pytest.fixture
    async def client(self, sim: SimulatedOllama) -> AsyncIterator[openai.AsyncOpenAI]:
        async with openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="unused", max_retries=0) as client:
            yield client

    async def test_models(self, client: openai.AsyncOpenAI) -> None:
        assert [model.id async for model in client.models.list()][:2] == ["llama3.2:latest", "qwen3:8b"]
        assert (await client.models.retrieve("llama3.2")).id == "llama3.2"

    async def test_chat(self, client: openai.AsyncOpenAI) -> None:
        messages: Any = HI
        whole = await client.chat.completions.create(model="llama3.2", messages=messages)
        stream = await client.chat.completions.create(
            model="llama3.2", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage == whole.usage

    async def test_completions_embeddings_responses(self, client: openai.AsyncOpenAI) -> None:
        completion = await client.completions.create(model="llama3.2", prompt="hi")
        assert completion.choices[0].text.endswith("You said: hi")
        vectors = await client.embeddings.create(model="nomic-embed-text", input=["a", "b"])
        assert [len(entry.embedding) for entry in vectors.data] == [16, 16]
        response = await client.responses.create(model="llama3.2", input="hi")
        assert response.output_text.endswith("You said: hi")
        async with client.responses.stream(model="llama3.2", input="hi") as stream:
            assert (await stream.get_final_response()).output_text == response.output_text

    async def test_errors(self, sim: SimulatedOllama, client: openai.AsyncOpenAI) -> None:
        messages: Any = HI
        with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
            await client.chat.completions.create(model="nope", messages=messages)
        sim.script("/v1/chat/completions", Status(503, "busy"), Cut(after=2))
        with pytest.raises(openai.InternalServerError, match="busy"):
            await client.chat.completions.create(model="llama3.2", messages=messages)
        stream = await client.chat.completions.create(model="llama3.2", messages=messages, stream=True)
        with pytest.raises(openai.APIConnectionError):
            [chunk async for chunk in stream]
