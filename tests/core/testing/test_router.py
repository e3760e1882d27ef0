"""Paths, methods, Host, Origin, keys, and what changes a backend."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from herdgate.testing.simulated import Port, SimulatedOllama
from herdgate.testing.simulation.answers.admission import allows_host, allows_origin


@pytest.fixture
async def client(sim: SimulatedOllama) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sim.url) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
async def test_head_is_get_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    get, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content)) or "content-length" not in get.headers
    assert (await client.get("/")).text == "Ollama is running"


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/api", "/api/CHAT", "/v1/messages/count_tokens"])
async def test_unknown_paths_get_text(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.post(path, json={})
    assert (reply.status_code, reply.text) == (404, "404 page not found")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("GET", "/api/chat", "POST"), ("POST", "/", "GET, HEAD"), ("HEAD", "/api/ps", "GET")]
)
async def test_wrong_methods_are_told_the_right_ones(
    client: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    reply = await client.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("POST", "//api/chat", 301, "/api/chat"),
        ("GET", "/api/../api/tags", 301, "/api/tags"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("GET", "/api/tags/", 301, "/api/tags"),
    ],
)
async def test_odd_paths_are_redirected(
    sim: SimulatedOllama, dial: Any, method: str, path: str, status: int, location: str
) -> None:
    wire = await dial(sim)
    await wire.ask(path, {}, method)
    head, _ = await wire.reply()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nLocation: %b\r\n" % location.encode() in head


async def test_paths_are_matched_decoded(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/%74ags?x=1")).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LocalHost:80",
        "a.local",
        "b.internal:1",
        "127.0.0.1:5",
        "192.168.1.1",
        "10.1.2.3:1",
        "[::1]:80",
        "0.0.0.0",
    ],
)
def test_hosts_that_are_let_in(host: str) -> None:
    assert allows_host(host)


@pytest.mark.parametrize(
    "host", ["ai.example.com", "localhost.example.com", "8.8.8.8", "[::1]", "local", "127.0.0.1.example.com:80"]
)
def test_hosts_that_are_not(host: str) -> None:
    assert not allows_host(host)


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://127.0.0.1", "app://x", "vscode-webview://y", "http://me:1"]
)
def test_origins_that_are_let_in(origin: str) -> None:
    assert allows_origin(origin, "me:1")


@pytest.mark.parametrize(
    "origin", ["http://example.com", "null", "chrome-extension://x", "http://localhost.example.com"]
)
def test_origins_that_are_not(origin: str) -> None:
    assert not allows_origin(origin, "me:1")


@pytest.mark.parametrize("headers", [{"Host": "ai.example.com"}, {"Origin": "https://example.com"}])
async def test_a_foreign_host_or_origin_gets_an_empty_403(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    reply = await client.get("/api/tags", headers=headers)
    assert (reply.status_code, reply.content) == (403, b"")
    assert "content-type" not in reply.headers


async def test_the_host_plays_no_part_off_loopback() -> None:
    async with SimulatedOllama(port=Port("0.0.0.0")) as sim, httpx.AsyncClient() as client:
        assert (await client.get(sim.url, headers={"Host": "ai.example.com"})).status_code == 200


async def test_a_preflight(client: httpx.AsyncClient) -> None:
    reply = await client.options("/api/chat", headers={"Origin": "http://localhost:3000"})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (204, "http://localhost:3000")
    assert "content-length" not in reply.headers
    assert (await client.options("/api/chat")).status_code == 405


async def test_a_key_is_asked_for_everywhere_if_there_is_one() -> None:
    async with SimulatedOllama(auth_token="s3cret") as sim, httpx.AsyncClient(base_url=sim.url) as client:
        for value in (None, "Bearer wrong", "s3cret", "bearer s3cret"):
            reply = await client.get("/api/tags", headers={"Authorization": value} if value else {})
            assert (reply.status_code, reply.json()) == (401, {"error": "unauthorized"})
        assert (await client.get("/api/tags", headers={"Authorization": "Bearer s3cret"})).status_code == 200
    assert "s3cret" not in repr(sim.behaviour)


async def test_the_account_and_the_web_are_off(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/me")).status_code == 401
    assert (await client.post("/api/experimental/web_search", json={"query": "x"})).status_code == 403
    assert (await client.get("/api/status")).json() == {"cloud": {"disabled": True, "source": "env"}}


async def test_pull(sim: SimulatedOllama, client: httpx.AsyncClient) -> None:
    sim.behaviour.registry = ("gemma3:1b",)
    reply = await client.post("/api/pull", json={"name": "Gemma3:1b"})
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["transfer-encoding"] == "chunked"
    assert reply.text.splitlines()[-1] == '{"status":"success"}'
    assert "gemma3:1b" in sim.models
    failed = await client.post("/api/pull", json={"model": "nope"})
    assert failed.status_code == 200
    assert failed.text.splitlines()[-1] == '{"error":"pull model manifest: file does not exist"}'
    assert (await client.post("/api/pull", json={"model": "nope", "stream": False})).status_code == 500
    assert (await client.post("/api/pull", json={"model": "a b"})).status_code == 400


async def test_copy_delete_create_push(sim: SimulatedOllama, client: httpx.AsyncClient) -> None:
    copied = await client.post("/api/copy", json={"source": "llama3.2", "destination": "mine"})
    assert (copied.status_code, copied.content, copied.headers.get("content-type")) == (200, b"", None)
    assert {model.digest for model in sim.models if model.display in ("mine:latest", "llama3.2:latest")} == {
        next(model.digest for model in sim.models if model.display == "llama3.2:latest")
    }
    assert (await client.post("/api/copy", json={"source": "nope", "destination": "x"})).status_code == 404
    assert (await client.post("/api/copy", json={"source": "x y", "destination": "x"})).status_code == 400
    assert (await client.request("DELETE", "/api/delete", json={"name": "MINE"})).status_code == 200
    assert "mine" not in sim.models
    assert (await client.request("DELETE", "/api/delete", json={"model": "mine"})).json() == {
        "error": "model 'mine' not found"
    }
    created = await client.post(
        "/api/create", json={"model": "made", "from": "llama3.2", "system": "x", "stream": False}
    )
    assert created.json() == {"status": "success"}
    made, base = sim.models.find("made"), sim.models.find("llama3.2")
    assert made is not None
    assert base is not None
    assert made.digest != base.digest
    assert (await client.post("/api/create", json={"model": "made"})).status_code == 400
    assert '"success"' in (await client.post("/api/push", json={"model": "made"})).text
    assert "no such file" in (await client.post("/api/push", json={"model": "nope"})).text


async def test_blobs(client: httpx.AsyncClient) -> None:
    digest = "sha256:" + hashlib.sha256(b"data").hexdigest()
    assert (await client.head(f"/api/blobs/{digest}")).status_code == 404
    assert (await client.post(f"/api/blobs/{digest}", content=b"other")).status_code == 400
    assert (await client.post(f"/api/blobs/{digest}", content=b"data")).status_code == 201
    assert (await client.post(f"/api/blobs/{digest}", content=b"data")).status_code == 200
    assert (await client.head(f"/api/blobs/{digest}")).status_code == 200
    assert (await client.post("/api/blobs/sha256:12", content=b"data")).json() == {"error": "invalid digest format"}
