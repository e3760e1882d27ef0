"""All example plugins in one gateway, as plugins.toml names them once they are installed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from herdgate.testing import RunningGateway, SimulatedOllama, running_gateway

FIVE = {"openai_backend", "jwt_access", "business_hours", "weighted", "redact_stream"}
KEY = ec.generate_private_key(ec.SECP256R1())

TOML = """
[[plugin]]
use = "configured_backends"
[[plugin]]
use = "openai_backend"
[[plugin]]
use = "ollama_discovery"
[[plugin]]
use = "jwt_access"
issuer = "URL"
audience = "herdgate"
algorithms = ["ES256"]
groups = { staff = ["llama3.2"], night = ["llama3.2"] }
[[plugin]]
use = "model_access"
[[plugin]]
use = "business_hours"
opens = 00:00:00
closes = 00:00:00
days = DAYS
exempt = ["night-porter"]
[[plugin]]
use = "weighted"
weights = { vllm = 1, near = 0 }
[[plugin]]
use = "redact_stream"
words = ["Osprey"]
"""
EVERY_DAY = '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]'


@contextmanager
def elsewhere() -> Iterator[str]:
    """One server that is an OpenID provider, and a backend that speaks OpenAI's API and streams a secret in pieces."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            public = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key()))
            pages: dict[str, Any] = {
                "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/jwks"},
                "/jwks": {"keys": [{**public, "kid": "one", "use": "sig"}]},
                "/v1/models": {"data": [{"id": "llama3.2"}]},
            }
            page = pages.get(self.path)
            self._send(404 if page is None else 200, "application/json", json.dumps(page).encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            events = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("vllm: Os", "prey", "!")]
            lines = [f"data: {json.dumps(event)}\n\n" for event in events]
            self._send(200, "text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode())

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield url
        http.shutdown()
        thread.join()


@pytest.fixture(params=[EVERY_DAY, "[]"], ids=["open", "closed"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SimulatedOllama("near", ["llama3.2", "other"]) as near:
        with elsewhere() as url:
            vllm = {"name": "vllm", "base_url": url, "tags": ["openai"]}
            toml = TOML.replace("URL", url).replace("DAYS", request.param)
            async with running_gateway(near, vllm, toml=toml, directory=tmp_path) as running:
                running.client.headers["x-issuer"] = url
                yield running


def as_caller(gateway: RunningGateway, name: str, group: str = "staff") -> dict[str, str]:
    issuer = gateway.client.headers["x-issuer"]
    claims = {"iss": issuer, "aud": "herdgate", "sub": name, "exp": time.time() + 60, "groups": [group]}
    return {"authorization": f"Bearer {jwt.encode(claims, KEY, 'ES256', headers={'kid': 'one'})}"}


async def chat(gateway: RunningGateway, path: str, headers: dict[str, str], model: str = "llama3.2") -> httpx.Response:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    return await gateway.client.post(path, json=body, headers=headers)


async def test_the_five_work_together(gateway: RunningGateway, request: pytest.FixtureRequest) -> None:
    plugins = gateway.gateway.runtime.points.plugins
    assert {plugin.distribution for plugin in plugins if plugin.name in FIVE} == {
        f"herdgate-{name.replace('_', '-')}" for name in FIVE
    }
    porter, alice = as_caller(gateway, "night-porter"), as_caller(gateway, "alice")

    openai = await chat(gateway, "/v1/chat/completions", porter)
    assert openai.status_code == 200
    assert "vllm: " in openai.text, "the weights prefer it"
    assert "[removed]" in openai.text
    assert "prey" not in openai.text

    native = await chat(gateway, "/api/chat", porter)
    assert "near" in "".join(json.loads(line)["message"]["content"] for line in native.text.splitlines())
    assert (await chat(gateway, "/api/chat", porter, "other")).status_code == 403
    assert (await chat(gateway, "/api/chat", {})).status_code == 401

    is_open = "open" in request.node.name
    assert (await chat(gateway, "/api/chat", alice)).status_code == (200 if is_open else 403)
    assert not gateway.gateway.runtime.points.ledger.faults
