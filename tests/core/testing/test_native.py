"""The native paths against the wire reference."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from herdgate.testing.simulated import SimModel, SimulatedOllama


@pytest.fixture
async def client(sim: SimulatedOllama) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sim.url) as client:
        yield client


FULL_NAME = "registry.ollama.ai/library/llama3.2:latest"


def lines(reply: httpx.Response) -> list[Any]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.content.endswith(b"\n")
    return [json.loads(line) for line in reply.content.split(b"\n")[:-1]]


async def test_chat_streams_unless_told_otherwise(client: httpx.AsyncClient, chat: Any) -> None:
    *words, last = lines(await client.post("/api/chat", json=chat))
    assert words[0].keys() == {"model", "created_at", "message", "done"}
    assert words[0]["message"] == {"role": "assistant", "content": "Hello "}
    text = "".join(word["message"]["content"] for word in words)
    assert text == "Hello from simulated backend gpu-1. You said: hi there"
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (2, 9)
    assert last["total_duration"] == sum(last[f"{part}_duration"] for part in ("load", "prompt_eval", "eval"))


async def test_chat_without_a_stream(client: httpx.AsyncClient, chat: Any) -> None:
    reply = await client.post("/api/chat", json={**chat, "stream": False})
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert "content-length" in reply.headers
    assert reply.json()["message"]["content"].endswith("You said: hi there")
    assert (reply.json()["done"], reply.json()["eval_count"]) == (True, 9)


async def test_generate(client: httpx.AsyncClient) -> None:
    asked = {"model": "llama3.2", "prompt": "hi", "system": "be brief"}
    *words, last = lines(await client.post("/api/generate", json=asked))
    assert "".join(word["response"] for word in words).endswith("You said: hi")
    assert (last["response"], last["done_reason"], last["prompt_eval_count"]) == ("", "stop", 3)
    assert len(last["context"]) == 3 + last["eval_count"]
    whole = (await client.post("/api/generate", json={**asked, "stream": False})).json()
    assert whole["response"].endswith("You said: hi")


async def test_a_name_is_echoed_as_it_was_written(client: httpx.AsyncClient, chat: Any) -> None:
    for name in ("LLAMA3.2", " llama3.2:Latest ", "registry.ollama.ai/library/llama3.2", "llama3.2:local"):
        reply = await client.post("/api/chat", json={**chat, "model": name, "stream": False})
        assert reply.json()["model"] == name


async def test_thinking(client: httpx.AsyncClient, chat: Any) -> None:
    thinker = {**chat, "model": "team/thinker:8b", "stream": False}
    assert (await client.post("/api/chat", json=thinker)).json()["message"]["thinking"] == "Let me think."
    assert "thinking" not in (await client.post("/api/chat", json={**thinker, "think": False})).json()["message"]
    streamed = lines(await client.post("/api/chat", json={**thinker, "stream": True}))
    assert [line["message"].get("thinking") for line in streamed[:4]] == ["Let ", "me ", "think.", None]
    refused = await client.post("/api/chat", json={**chat, "think": True})
    assert (refused.status_code, refused.json()) == (400, {"error": '"llama3.2" does not support thinking'})


@pytest.mark.parametrize(
    ("path", "fields", "status", "error"),
    [
        ("chat", {"model": "nope"}, 404, "model 'nope' not found"),
        ("generate", {"model": "Nope:1"}, 404, "model 'Nope:1' not found"),
        ("generate", {}, 404, "model '' not found"),
        ("chat", {}, 400, "model is required"),
        ("embed", {"model": "nope", "input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("embed", {"input": "x"}, 404, "model '' not found"),
        ("embeddings", {"prompt": "x"}, 400, "model is required"),
        ("show", {"model": "Nope"}, 404, "model 'Nope:latest' not found"),
        ("show", {}, 400, "model is required"),
        ("chat", {"model": "a b"}, 400, "invalid model name"),
        ("chat", {"model": "m@sha256:00"}, 400, "invalid model name"),
        ("chat", {"model": "nomic-embed-text"}, 400, '"nomic-embed-text" does not support chat'),
        ("generate", {"model": "nomic-embed-text"}, 400, '"nomic-embed-text" does not support generate'),
        ("generate", {"model": "llama3.2", "suffix": "x"}, 400, f"{FULL_NAME} does not support insert"),
        ("embed", {"model": "llama3.2", "input": [1]}, 400, "invalid input type"),
        ("chat", {"model": "llama3.2:cloud"}, 403, "ollama cloud is disabled: remote model is unavailable"),
        ("chat", {"model": "gpt-oss:20b-CLOUD"}, 403, "ollama cloud is disabled: remote model is unavailable"),
        ("generate", {"model": "llama3.2", "keep_alive": "300"}, 400, 'time: missing unit in duration "300"'),
        ("generate", {"model": "llama3.2", "keep_alive": "5x"}, 400, 'time: unknown unit in duration "5x"'),
        ("generate", {"model": "llama3.2", "keep_alive": True}, 400, "Unsupported type: 'bool'"),
    ],
)  # fmt: skip
async def test_refusals(client: httpx.AsyncClient, path: str, fields: object, status: int, error: str) -> None:
    reply = await client.post(f"/api/{path}", json=fields)
    assert (reply.status_code, reply.json()) == (status, {"error": error})
    assert reply.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{",
        b"[]",
        b'"x"',
        b"\xef\xbb\xbf{}",
        b'{"model": NaN}',
        b'{"model": 1}',
        b'{"stream": "false"}',
        b"[" * 100_000,
    ],
)
async def test_bodies_go_would_not_read(client: httpx.AsyncClient, body: bytes) -> None:
    reply = await client.post("/api/chat", content=body)
    assert reply.status_code == 400
    assert isinstance(reply.json()["error"], str)


async def test_an_array_as_content_is_refused(client: httpx.AsyncClient) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    assert (await client.post("/api/chat", json={"model": "llama3.2", "messages": parts})).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"nope","MODEL":"llama3.2"}',
        b'{"model":"nope","model":"llama3.2"}',
        b'{"model":"llama3.2"} junk',
        b'{"model":"llama3.2","\xc5\xbftream":true,"x":"\xff"}',
        b'{"mod\\u0065l":"llama3.2","stream":null}',
    ],
)
async def test_bodies_are_read_as_go_reads_them(sim: SimulatedOllama, client: httpx.AsyncClient, body: bytes) -> None:
    reply = await client.post("/api/generate", content=body, headers={"content-type": "text/plain"})
    assert (reply.status_code, reply.json()["model"]) == (200, "llama3.2")
    assert sim.requests[-1].model == "llama3.2"


async def test_load_and_unload(client: httpx.AsyncClient) -> None:
    async def loaded() -> list[str]:
        return [entry["name"] for entry in (await client.get("/api/ps")).json()["models"]]

    assert (await client.get("/api/ps")).json() == {"models": []}
    reply = await client.post("/api/generate", json={"model": "LLAMA3.2"})
    assert reply.json().keys() == {"model", "created_at", "response", "done", "done_reason"}
    assert (reply.json()["done"], reply.json()["done_reason"]) == (True, "load")
    assert await loaded() == ["llama3.2:latest"]
    reply = await client.post("/api/chat", json={"model": "qwen3:8b", "keep_alive": -1})
    assert reply.json()["done_reason"] == "load"
    assert await loaded() == ["qwen3:8b", "llama3.2:latest"]
    for name in ("qwen3:8b", "llama3.2", "llama3.2"):
        reply = await client.post("/api/chat", json={"model": name, "keep_alive": 0})
        assert reply.json()["done_reason"] == "unload"
    assert await loaded() == []
    reply = await client.post("/api/generate", json={"model": "llama3.2", "prompt": "x", "keep_alive": "0"})
    assert reply.status_code == 200
    assert await loaded() == []
    await client.post("/api/generate", json={"model": "llama3.2", "prompt": "x", "keep_alive": "1h30m"})
    assert await loaded() == ["llama3.2:latest"]


async def test_ps_waits_for_a_load_and_version_does_not(
    sim: SimulatedOllama, client: httpx.AsyncClient, dial: Any
) -> None:
    sim.behaviour.load_time = 60
    loading = await dial(sim)
    await loading.ask("/api/generate", {"model": "llama3.2"})
    await sim.wait_for(lambda sim: sim.concurrent == 1)
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/api/ps", timeout=0.05)
    assert (await client.get("/api/version")).json() == {"version": "0.32.15"}
    await loading.close()
    await sim.wait_for(lambda sim: sim.concurrent == 0)
    assert (await client.get("/api/ps")).json() == {"models": []}


async def test_tags(sim: SimulatedOllama, client: httpx.AsyncClient) -> None:
    sim.models.add(SimModel("stub:cloud", remote_host="https://ollama.com:443", remote_model="gpt-oss:20b"))
    sim.models.add(SimModel("hf.co/org/Repo-GGUF:Q4_K_M", modified_at="2026-06-01T00:00:00+02:00", capabilities=()))
    entries = (await client.get("/api/tags")).json()["models"]
    assert [entry["name"] for entry in entries] == [
        "hf.co/org/Repo-GGUF:Q4_K_M",
        "llama3.2:latest",
        "qwen3:8b",
        "team/Thinker:8B",
        "nomic-embed-text:latest",
        "stub:cloud",
    ]
    newest, first, *_, stub = entries
    assert first["model"] == first["name"]
    assert len(bytes.fromhex(first["digest"])) == 32
    assert first["capabilities"] == ["completion", "tools"]
    assert "capabilities" not in newest
    assert "remote_host" not in first
    assert (stub["remote_model"], stub["remote_host"]) == ("gpt-oss:20b", "https://ollama.com:443")
    sim.models.remove("LLAMA3.2")
    assert len((await client.get("/api/tags")).json()["models"]) == 5


def test_the_same_name_has_the_same_digest_everywhere() -> None:
    assert SimModel("llama3.2").digest == SimModel("LLAMA3.2:latest").digest != SimModel("qwen3").digest


async def test_show(client: httpx.AsyncClient) -> None:
    for fields in ({"model": "LLAMA3.2"}, {"name": "llama3.2"}):
        shown = (await client.post("/api/show", json=fields)).json()
        assert shown["capabilities"] == ["completion", "tools"]
        assert shown["model_info"]["llama.context_length"] == shown["details"]["context_length"] == 8192
        assert "model" not in shown


async def test_embeddings(client: httpx.AsyncClient) -> None:
    asked = {"model": "nomic-embed-text", "input": ["one two", "three"]}
    reply = (await client.post("/api/embed", json=asked)).json()
    assert (len(reply["embeddings"]), reply["prompt_eval_count"]) == (2, 3)
    assert reply == (await client.post("/api/embed", json=asked)).json()
    assert all(math.isclose(sum(x * x for x in vector), 1) for vector in reply["embeddings"])
    nothing = {"model": "nomic-embed-text", "embeddings": []}
    empties: list[dict[str, object]] = [{}, {"input": ""}, {"input": []}]
    for empty in empties:
        assert (await client.post("/api/embed", json={"model": "nomic-embed-text", **empty})).json() == nothing
    old = (await client.post("/api/embeddings", json={"model": "nomic-embed-text", "prompt": "one two"})).json()
    assert sum(x * x for x in old["embedding"]) == pytest.approx(4, rel=1e-3)
    empty_prompt = await client.post("/api/embeddings", json={"model": "nomic-embed-text"})
    assert empty_prompt.json() == {"embedding": []}


async def test_a_stub_is_not_local(sim: SimulatedOllama, client: httpx.AsyncClient) -> None:
    sim.models.add(SimModel("stub", remote_host="https://ollama.com:443", remote_model="gpt-oss:20b"))
    assert (await client.post("/api/generate", json={"model": "stub", "prompt": "x"})).status_code == 200
    assert (await client.post("/api/generate", json={"model": "stub:local", "prompt": "x"})).status_code == 404


async def test_a_model_is_loaded_once(sim: SimulatedOllama, client: httpx.AsyncClient) -> None:
    sim.behaviour.load_time = 0.3
    asked = {"model": "llama3.2", "prompt": "x"}
    waited = []
    for _ in range(2):
        started = asyncio.get_running_loop().time()
        await client.post("/api/generate", json=asked)
        waited.append(asyncio.get_running_loop().time() - started)
    assert waited[0] >= 0.3 > waited[1]


async def test_cloud_names_are_answered_if_the_backend_is_signed_in(chat: Any) -> None:
    async with SimulatedOllama(cloud=True) as sim, httpx.AsyncClient(base_url=sim.url) as client:
        reply = await client.post("/api/chat", json={**chat, "model": "gpt-oss:20b-cloud", "stream": False})
    assert reply.json()["remote_host"] == "https://ollama.com:443"


async def test_go_escapes(client: httpx.AsyncClient) -> None:
    asked = {"model": "llama3.2", "prompt": "<a>&\u2028\u0085ä", "stream": False}
    raw = (await client.post("/api/generate", json=asked)).content
    assert b"\\u003ca\\u003e\\u0026" in raw
    assert "ä".encode() in raw
