from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from herdgate.testing import SimulatedOllama, assert_plugin_is_well_behaved, running_gateway, until

from herdgate_openai_backend import OpenaiBackend

TOML = """
[[plugin]]
use = "configured_backends"
[[plugin]]
use = "herdgate_openai_backend:OpenaiBackend"
[[plugin]]
use = "ollama_discovery"
[[plugin]]
use = "api_keys"
[[plugin]]
use = "model_access"
"""
MESSAGES = [{"role": "user", "content": "hi"}]


class OpenAIServer:
    """A server with `/v1/models` and `/v1/chat/completions`, and nothing else. It knows its models by one spelling."""

    def __init__(self, *models: object, status: int = 200) -> None:
        self.listing: object = {"object": "list", "data": list(models)}
        self.status = status
        self.asked: list[tuple[str, Any]] = []
        self.polls = 0
        self.url = ""

    async def polled_again(self) -> None:
        """Wait until an answer given from now on has been used: the next poll begins after the last one has ended."""
        seen = self.polls
        await until(lambda: self.polls >= seen + 2)

    def reply(self, path: str, body: Any) -> tuple[int, object]:
        if path == "/v1/models":
            self.polls += 1
            return self.status, self.listing
        if body is None:
            return 404, {"error": {"message": "not here"}}
        self.asked.append((path, body))
        known = [each["id"] for each in self.listing["data"]]  # type: ignore[index]
        if path != "/v1/chat/completions" or body["model"] not in known:
            return 404, {"error": {"message": "not here"}}
        message = {"role": "assistant", "content": f"I am {body['model']}"}
        return 200, {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}


@contextmanager
def serving(server: OpenAIServer) -> Iterator[OpenAIServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            status, answer = server.reply(self.path, json.loads(self.rfile.read(length) or "null"))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        yield server
        http.shutdown()
        thread.join()


def backend(server: OpenAIServer, name: str = "vllm") -> dict[str, object]:
    return {"name": name, "base_url": server.url, "tags": ["openai"]}


QWEN = {"id": "Qwen/Qwen3-8B", "created": 1_700_000_000}


async def test_its_models_are_listed_beside_those_of_ollama() -> None:
    async with SimulatedOllama("near", ["llama3.2"]) as near:
        with serving(OpenAIServer(QWEN, {"id": "own"}, {"no": "id"}, 7)) as server:
            async with running_gateway(near, backend(server), toml=TOML) as gateway:
                tags = (await gateway.client.get("/api/tags")).json()["models"]
                models = (await gateway.client.get("/v1/models")).json()["data"]
    assert {model["name"] for model in tags} == {"llama3.2:latest", "Qwen/Qwen3-8B:latest", "own:latest"}
    assert {model["created"] for model in models if model["id"].startswith("Qwen")} == {1_700_000_000}


@pytest.mark.parametrize("asked", ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B:latest", "qwen/qwen3-8b"])
async def test_a_backend_is_asked_by_its_own_spelling(asked: str) -> None:
    with serving(OpenAIServer(QWEN)) as server:
        async with running_gateway(backend(server), toml=TOML) as gateway:
            body = {"model": asked, "messages": MESSAGES, "temperature": 0.5}
            reply = await gateway.client.post("/v1/chat/completions", json=body)
    assert reply.json()["choices"][0]["message"]["content"] == "I am Qwen/Qwen3-8B"
    assert server.asked == [("/v1/chat/completions", {**body, "model": "Qwen/Qwen3-8B"})]


async def test_requests_in_the_other_dialect_go_to_ollama_alone() -> None:
    async with SimulatedOllama("near", ["llama3.2"]) as near:
        with serving(OpenAIServer({"id": "llama3.2"}, {"id": "own"})) as server:
            async with running_gateway(backend(server), near, toml=TOML) as gateway:
                chat = {"stream": False, "messages": MESSAGES}
                native = await gateway.client.post("/api/chat", json={**chat, "model": "llama3.2"})
                alone = await gateway.client.post("/api/chat", json={**chat, "model": "own"})
                openai = await gateway.client.post("/v1/chat/completions", json={**chat, "model": "llama3.2"})
    assert "backend near" in native.text
    assert alone.status_code == 503
    assert "I am llama3.2" in openai.text
    assert [path for path, _ in server.asked] == ["/v1/chat/completions"]


async def test_failover_crosses_from_one_kind_to_the_other() -> None:
    async with SimulatedOllama("near", ["llama3.2"]) as near:
        with serving(OpenAIServer({"id": "llama3.2"})) as server:
            async with running_gateway(backend(server), near, toml=TOML) as gateway:
                server.reply = lambda path, body: (503, {"error": "no"})  # type: ignore[method-assign]
                body = {"model": "llama3.2", "messages": MESSAGES}
                reply = await gateway.client.post("/v1/chat/completions", json=body)
    assert "backend near" in reply.text


@pytest.mark.parametrize("listing", [[], {"data": None}, "no"])
async def test_a_reply_that_is_no_list_leaves_the_last_one(listing: object) -> None:
    with serving(OpenAIServer(QWEN)) as server:
        async with running_gateway(backend(server), toml=TOML) as gateway:
            server.listing = listing
            await server.polled_again()
            models = (await gateway.client.get("/v1/models")).json()["data"]
            assert not gateway.gateway.runtime.points.ledger.faults
    assert [model["id"] for model in models] == ["Qwen/Qwen3-8B:latest"]


async def test_a_name_that_cannot_be_asked_for_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with serving(OpenAIServer({"id": "a b"}, {"id": "own"})) as server:
        async with running_gateway(backend(server), toml=TOML) as gateway:
            await server.polled_again()
            models = (await gateway.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["own:latest"]
    said = [each for each in caplog.record_tuples if each[0] == "herdgate_openai_backend"]
    assert [(level, text.partition(":")[0]) for _, level, text in said] == [
        (logging.WARNING, "the model 'a b' is left out")
    ]


def test_it_is_well_behaved() -> None:
    assert_plugin_is_well_behaved(OpenaiBackend)
