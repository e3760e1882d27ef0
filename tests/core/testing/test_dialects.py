"""The OpenAI and Anthropic paths against the wire reference."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from herdgate.testing.simulated import SimulatedOllama

MAX_TOKENS = "max_tokens is required and must be positive"
TYPES = {400: "invalid_request_error", 403: "permission_error", 404: "not_found_error"}
TEXT = "Hello from simulated backend gpu-1. You said: hi there"


@pytest.fixture
async def client(sim: SimulatedOllama) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sim.url) as client:
        yield client


def events(reply: httpx.Response) -> list[tuple[str, Any]]:
    """Name and data of each event; ``[DONE]`` stays text."""
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text.endswith("\n\n")
    found = []
    for block in reply.text.split("\n\n")[:-1]:
        *first, data = block.split("\n")
        assert data.startswith("data: ")
        name = first[0].removeprefix("event: ") if first else ""
        found.append((name, data[6:] if data == "data: [DONE]" else json.loads(data[6:])))
    return found


async def test_chat_completions_streamed(client: httpx.AsyncClient, chat: Any) -> None:
    asked = {**chat, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, finish, usage, done = [data for _, data in events(await client.post("/v1/chat/completions", json=asked))]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == TEXT
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:2]] == ["assistant", None]
    assert {chunk["choices"][0]["finish_reason"] for chunk in chunks} == {None}
    assert finish["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 11)
    assert done == "[DONE]"
    assert len({chunk["created"] for chunk in chunks}) == 1
    without = events(await client.post("/v1/chat/completions", json={**chat, "stream": True}))
    assert not any("usage" in data for _, data in without)


async def test_chat_completions_whole(client: httpx.AsyncClient, chat: Any) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]}]
    for asked in (chat, {**chat, "messages": parts}):
        reply = await client.post("/v1/chat/completions", json=asked)
        assert reply.headers["content-type"] == "application/json"
        assert reply.json()["choices"][0]["message"] == {"role": "assistant", "content": TEXT}
        assert reply.json()["choices"][0]["finish_reason"] == "stop"
        assert reply.json()["usage"] == {"prompt_tokens": 2, "completion_tokens": 9, "total_tokens": 11}


async def test_reasoning(client: httpx.AsyncClient, chat: Any) -> None:
    asked = {**chat, "model": "team/thinker:8b"}
    whole = (await client.post("/v1/chat/completions", json=asked)).json()
    assert whole["choices"][0]["message"]["reasoning"] == "Let me think."
    streamed = events(await client.post("/v1/chat/completions", json={**asked, "stream": True}))
    first = streamed[0][1]["choices"][0]["delta"]
    assert (first["role"], first["reasoning"]) == ("assistant", "Let ")


async def test_completions(client: httpx.AsyncClient) -> None:
    asked = {"model": "llama3.2", "prompt": "hi there"}
    whole = (await client.post("/v1/completions", json=asked)).json()
    assert (whole["object"], whole["choices"][0]["text"]) == ("text_completion", TEXT)
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = [data for _, data in events(await client.post("/v1/completions", json=streamed))]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == TEXT
    assert {chunk["usage"]["total_tokens"] for chunk in chunks} == {0}
    assert (usage["usage"]["total_tokens"], done) == (11, "[DONE]")
    loaded = (await client.post("/v1/completions", json={"model": "llama3.2"})).json()
    assert (loaded["choices"][0]["finish_reason"], loaded["choices"][0]["text"]) == ("load", "")


async def test_embeddings(client: httpx.AsyncClient) -> None:
    asked = {"model": "nomic-embed-text", "input": ["one", "two three"]}
    floats = (await client.post("/v1/embeddings", json=asked)).json()
    coded = (await client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"})).json()
    assert floats["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for plain, packed in zip(floats["data"], coded["data"], strict=True):
        raw = base64.b64decode(packed["embedding"])
        assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(plain["embedding"])


async def test_models(sim: SimulatedOllama, client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()["data"]
    assert [(entry["id"], entry["owned_by"]) for entry in listed][:3] == [
        ("llama3.2:latest", "library"),
        ("qwen3:8b", "library"),
        ("team/Thinker:8B", "team"),
    ]
    assert (await client.get("/v1/models/LLAMA3.2")).json()["id"] == "LLAMA3.2"
    unknown = await client.get("/v1/models/nope")
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (404, "model 'nope:latest' not found")
    assert (await client.get("/v1/models/team%2Fthinker:8b")).text == "404 page not found"
    for model in sim.models:
        sim.models.remove(model.name)
    assert (await client.get("/v1/models")).json() == {"object": "list", "data": None}


async def test_responses(client: httpx.AsyncClient) -> None:
    asked = {"model": "llama3.2", "input": "hi there"}
    whole = (await client.post("/v1/responses", json=asked)).json()
    assert (whole["status"], whole["output"][0]["content"][0]["text"]) == ("completed", TEXT)
    reply = await client.post("/v1/responses", json={**asked, "stream": True})
    assert (reply.headers["cache-control"], reply.headers["connection"]) == ("no-cache", "keep-alive")
    closing = await client.post("/v1/responses", json={**asked, "stream": True}, headers={"Connection": "close"})
    assert closing.headers.get_list("connection") == ["close"]
    streamed = events(reply)
    names = [name.removeprefix("response.") for name, _ in streamed]
    assert names[:5] == ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"]
    assert names[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [data["sequence_number"] for _, data in streamed] == list(range(len(streamed)))
    assert all(data["type"] == name for name, data in streamed)
    loaded = (await client.post("/v1/responses", json={"model": "llama3.2"})).json()
    assert (loaded["status"], loaded["output"]) == ("completed", [])


async def test_messages(client: httpx.AsyncClient, chat: Any) -> None:
    asked = {**chat, "max_tokens": 10}
    whole = (await client.post("/v1/messages", json=asked)).json()
    assert (whole["content"], whole["stop_reason"]) == ([{"type": "text", "text": TEXT}], "end_turn")
    streamed = events(await client.post("/v1/messages", json={**asked, "stream": True}))
    names = [name for name, _ in streamed]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "".join(data["delta"]["text"] for name, data in streamed if name == "content_block_delta") == TEXT
    assert streamed[-2][1]["usage"]["output_tokens"] == 9


async def test_transcriptions(sim: SimulatedOllama, client: httpx.AsyncClient) -> None:
    sound = {"file": ("a.wav", b"RIFF\r\n\r\n1234")}
    reply = await client.post("/v1/audio/transcriptions", data={"model": "llama3.2"}, files=sound)
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.json() == {"text": "Hello from simulated backend gpu-1. You sent 12 bytes."}
    form = {"model": "llama3.2", "response_format": "text"}
    assert (await client.post("/v1/audio/transcriptions", data=form, files=sound)).text.startswith("Hello")
    for data, files, missing in (({}, sound, "model"), ({"model": "llama3.2"}, {"other": b"x"}, "file")):
        refused = await client.post("/v1/audio/transcriptions", data=data, files=files)
        assert (refused.status_code, refused.json()["error"]["message"]) == (400, f"{missing} is required")
    assert (await client.post("/v1/audio/transcriptions", json={})).status_code == 400


@pytest.mark.parametrize(
    ("path", "fields", "status", "message"),
    [
        ("chat/completions", {"model": "nope", "messages": [{}]}, 404, "model 'nope' not found"),
        ("chat/completions", {"model": "llama3.2"}, 400, "[] is too short - 'messages'"),
        ("chat/completions", {"messages": [{}]}, 400, "model is required"),
        ("completions", {"model": "llama3.2", "prompt": ["x"]}, 400, None),
        ("embeddings", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("embeddings", {"model": "llama3.2"}, 400, "invalid input"),
        ("embeddings", {"model": "llama3.2", "input": [1]}, 400, "invalid input type"),
        ("embeddings", {"model": "llama3.2", "input": "x", "encoding_format": "hex"}, 400, None),
        ("messages", {"model": "llama3.2", "messages": [{}]}, 400, MAX_TOKENS),
        ("messages", {"model": "nope", "max_tokens": 1, "messages": [{}]}, 404, "model 'nope' not found"),
        ("messages", {"model": "x:cloud", "max_tokens": 1, "messages": [{}]}, 403, None),
    ],
)  # fmt: skip
async def test_refusals(client: httpx.AsyncClient, path: str, fields: object, status: int, message: str | None) -> None:
    reply = await client.post(f"/v1/{path}", json=fields)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (status, TYPES[status])
    assert message in (None, error["message"])
    assert ("request_id" in reply.json()) is (path == "messages")


async def test_an_empty_body(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/chat/completions")).json()["error"]["message"] == "EOF"
