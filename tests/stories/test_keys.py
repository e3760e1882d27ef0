"""Who may call: open until the first key, then nobody without one, in every process, whatever happens to the state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.stories.conftest import ANONYMOUS, CHAT, MODEL, OPENAI_CHAT, PATIENT, Chat
from tests.stories.doors import told
from tests.stories.raw import connected

from herdgate.app import CannotStart
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

UNAUTHORIZED = b"unauthorized: a valid API key is required"
WITHIN = 2.0
"""Seconds that a revocation may take to work everywhere."""

ASK = Chat(CHAT, stream=False)


@pytest.fixture
async def gateway(first: SimulatedOllama, second: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    async with running_gateway(first, second, toml=PATIENT) as running:
        yield running


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def status(gateway: RunningGateway, headers: dict[str, str], model: str = MODEL) -> int:
    return (await gateway.client.post(CHAT, json=ASK.body(model), headers=headers)).status_code


# protected mode


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("ollama"),
        bearer("sk-no-key-required"),
        {"x-api-key": "dummy"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer"},
    ],
    ids=told,
)
async def test_before_the_first_key_callers_on_this_machine_need_none_and_may_send_any(
    gateway: RunningGateway, headers: dict[str, str]
) -> None:
    response = await ASK.ask(gateway, **headers)
    assert response.status_code == 200
    assert "x-herdgate-backend" not in response.headers
    assert (await gateway.client.get("/api/tags", headers=headers)).status_code == 200


PATHS: dict[str, list[tuple[str, str, Any]]] = {
    "/api": [
        ("GET", "/api/tags", None),
        ("POST", CHAT, ASK.body()),
        ("POST", CHAT, ASK.body("no-such-model")),
        ("POST", CHAT, b"this is no JSON"),
        ("POST", CHAT, b""),
        ("GET", "/api/version", None),
        ("POST", "/api/pull", {"model": MODEL}),
        ("GET", CHAT, None),
        ("GET", "/api/nothing/here", None),
        ("DELETE", "/healthz", None),
        ("GET", "/metrics", None),
        ("GET", "/herdgate/keys", None),
        ("HEAD", "/api/tags", None),
    ],
    "/v1": [
        ("GET", "/v1/models", None),
        ("GET", f"/v1/models/{MODEL}", None),
        ("GET", "/v1/models/no-such-model", None),
        ("POST", OPENAI_CHAT, ASK.body()),
        ("POST", OPENAI_CHAT, b"this is no JSON"),
        ("DELETE", "/v1/models/no-such-model", None),
        ("GET", "/v1/nothing/here", None),
        ("HEAD", "/v1/models", None),
    ],
    "/v1/messages": [
        ("POST", "/v1/messages", ASK.body()),
        ("GET", "/v1/messages", None),
        ("POST", "/v1/messages/count_tokens", ASK.body()),
    ],
}
BODIES = {
    "/api": b'{"error":"%b"}' % UNAUTHORIZED,
    "/v1": b'{"error":{"message":"%b","type":"authentication_error","param":null,"code":"invalid_api_key"}}'
    % UNAUTHORIZED,
    "/v1/messages": b'{"type":"error","error":{"type":"authentication_error","message":"%b"},"request_id":"ID"}'
    % UNAUTHORIZED,
}


@pytest.fixture
async def wrong(gateway: RunningGateway) -> list[dict[str, str]]:
    """Headers of callers who must get a 401, each for another reason."""
    good = await gateway.make_key("*", name="good")
    _, expired = await gateway.keys.create("expired", ["*"], expires_at=time.time() + 0.2)
    _, revoked = await gateway.keys.create("revoked", ["*"])
    await gateway.keys.revoke("revoked")
    await _turned_away(gateway, bearer(expired.get_secret_value()))
    await _turned_away(gateway, bearer(revoked.get_secret_value()))
    key = good["authorization"].removeprefix("Bearer ")
    return [
        {},
        bearer("hg_wrong"),
        {"x-api-key": "hg_wrong"},
        bearer(expired.get_secret_value()),
        {"x-api-key": expired.get_secret_value()},
        bearer(revoked.get_secret_value()),
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer"},
        {"authorization": key},
        {"authorization": f"Token {key}"},
        bearer(key[:-1]),
        bearer(key.upper()),
        bearer(f"{key} {key}"),
        {**bearer("hg_wrong"), "x-api-key": key},  # of two different ones Authorization counts
        {"x-api-key": "", "cookie": f"key={key}"},
    ]


async def _turned_away(gateway: RunningGateway, headers: dict[str, str], within: float = 10.0) -> None:
    """Wait until callers like this one get a 401."""

    async def refused() -> bool:
        return (await gateway.client.get("/api/version", headers=headers)).status_code == 401

    await until(refused, within)


@pytest.mark.parametrize("family", PATHS)
async def test_from_the_first_key_on_every_path_answers_the_same_401(
    gateway: RunningGateway,
    first: SimulatedOllama,
    second: SimulatedOllama,
    wrong: list[dict[str, str]],
    family: str,
) -> None:
    body = BODIES[family]
    async with connected(gateway) as connection:
        for method, path, content in PATHS[family]:
            for headers in wrong:
                named = {**headers, "X-Request-Id": "fixed-id"}
                reply = await connection.ask(method, path, content, named)
                assert reply.undated == the_401(body, bodiless=method == "HEAD"), (method, path, headers)
    assert {request.path for backend in (first, second) for request in backend.requests} <= {
        "/api/tags",
        "/api/version",
    }


def the_401(body: bytes, *, bodiless: bool) -> bytes:
    length = len(body.replace(b'"ID"', b'"fixed-id"'))
    head = (
        b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\nwww-authenticate: Bearer\r\n"
        b"content-length: %d\r\nx-request-id: ID\r\ndate: DATE\r\nconnection: keep-alive\r\n\r\n" % length
    )
    return head if bodiless else head + body


async def test_without_a_key_only_a_few_paths_answer(gateway: RunningGateway) -> None:
    await gateway.make_key("*")
    for path, text in (("/", "Ollama is running"), ("/healthz", '{"status":"ok"}'), ("/readyz", '{"status":"ready"}')):
        response = await gateway.client.get(path)
        assert (response.status_code, response.text) == (200, text)
        head = await gateway.client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(text)))
    for path in ("/", "/api/tags", CHAT, "/v1/models", "/no/such/path", "*"):
        async with connected(gateway) as connection:
            reply = await connection.ask("OPTIONS", path)
            assert reply.status == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer KEY"},
        {"authorization": "bearer KEY"},
        {"Authorization": "BEARER  KEY "},
        {"x-api-key": "KEY"},
        {"X-Api-Key": "KEY"},
        {"Authorization": "Basic dXNlcjpwYXNz", "x-api-key": "KEY"},
        {"Authorization": "Bearer ", "x-api-key": "KEY"},
        {"Authorization": "Bearer KEY", "x-api-key": "KEY"},
        {"Authorization": "Bearer KEY", "x-api-key": "hg_wrong"},
    ],
    ids=told,
)
async def test_a_key_is_presented_as_bearer_or_x_api_key(gateway: RunningGateway, headers: dict[str, str]) -> None:
    key = (await gateway.make_key(MODEL))["authorization"].removeprefix("Bearer ")
    async with connected(gateway) as connection:
        presented = {name: value.replace("KEY", key) for name, value in headers.items()}
        assert (await connection.ask("POST", CHAT, ASK.body(), presented)).status == 200


async def test_a_gateway_whose_only_key_was_revoked_stays_closed(gateway: RunningGateway) -> None:
    key = await gateway.make_key("*")
    await gateway.keys.revoke("someone")
    await _turned_away(gateway, key)
    assert await status(gateway, {}) == 401


async def test_a_gateway_that_has_seen_a_key_never_opens_again(
    first: SimulatedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state is deleted under it, and a new empty one put in its place."""
    monkeypatch.setattr("herdgate_plugins.api_keys.FRESH", 0.1)
    monkeypatch.setattr("herdgate.state.watch.INTERVAL", 0.05)
    async with running_gateway(first, directory=tmp_path) as gateway:
        key = await gateway.make_key("*")
        for file in ("state.db", "state.db-wal", "state.db-shm"):
            (tmp_path / file).unlink(missing_ok=True)
        await until(lambda: _unsure(gateway))
        assert await status(gateway, key) == 200  # nobody has revoked it
        assert await status(gateway, {}) == 401
        (tmp_path / "state.db").touch(0o600)
        await _turned_away(gateway, key)
        assert await status(gateway, {}) == 401
        assert await status(gateway, bearer("hg_other")) == 401
        _, fresh = await gateway.keys.create("fresh", ["*"])
        assert await status(gateway, bearer(fresh.get_secret_value())) == 200
        assert await status(gateway, {}) == 401


async def _unsure(gateway: RunningGateway) -> bool:
    """Whether the gateway says that it cannot tell if this key is one."""
    response = await gateway.client.get("/api/version", headers=bearer("hg_other"))
    readiness = (await gateway.client.get("/readyz")).json()
    return response.status_code == 503 and "retry-after" in response.headers and readiness == {"status": "degraded"}


# what a key allows


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (["llama3.2"], {"llama3.2:latest"}),
        (["LLAMA3.2:Latest"], {"llama3.2:latest"}),
        (["llama3.2:*"], {"llama3.2:latest", "llama3.2:1b"}),
        (["llama*"], {"llama3.2:latest", "llama3.2:1b"}),
        (["*"], {"llama3.2:latest", "llama3.2:1b", "team/secret:latest", "hf.co/org/repo:Q4"}),
        (["team/*"], {"team/secret:latest"}),
        (["*:latest"], {"llama3.2:latest"}),
        (["hf.co/*/*", "llama3.2:1b"], {"hf.co/org/repo:Q4", "llama3.2:1b"}),
        (["secret"], set()),
        (["library/llama3.2"], {"llama3.2:latest"}),
    ],
    ids=told,
)
async def test_patterns_decide_what_a_key_may_use(tmp_path: Path, patterns: list[str], allowed: set[str]) -> None:
    models = ["llama3.2:latest", "llama3.2:1b", "team/secret:latest", "hf.co/org/repo:Q4"]
    async with SimulatedOllama(models=models) as backend, running_gateway(backend) as gateway:
        key = await gateway.make_key(*patterns)
        answers = {model: await status(gateway, key, model) for model in models}
        assert answers == {model: 200 if model in allowed else 403 for model in models}
        listed = (await gateway.client.get("/api/tags", headers=key)).json()["models"]
        assert {entry["name"] for entry in listed} == allowed


async def test_a_key_expires(gateway: RunningGateway) -> None:
    await gateway.make_key("*", name="other")
    expires = time.time() + 1.0
    _, secret = await gateway.keys.create("short", ["*"], expires_at=expires)
    key = bearer(secret.get_secret_value())
    assert await status(gateway, key) == 200
    await _turned_away(gateway, key)
    assert 0 <= time.time() - expires < 0.5


async def test_a_revocation_works_within_two_seconds_in_every_process(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # as quick as it really is
    async with (
        running_gateway(first, directory=tmp_path) as one,
        running_gateway(second, directory=tmp_path) as other,
    ):
        _, secret = await one.keys.create("someone", ["*"])
        key = bearer(secret.get_secret_value())
        await asyncio.gather(*(_turned_away(each, {}) for each in (one, other)))
        assert [await status(each, key) for each in (one, other)] == [200, 200]
        await other.keys.revoke("someone")
        revoked = time.monotonic()
        await asyncio.gather(*(_turned_away(each, key, WITHIN) for each in (one, other)))
        assert time.monotonic() - revoked < WITHIN


async def test_a_new_key_works_at_once_in_every_process(
    first: SimulatedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # so that none is noticed by chance
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(running_gateway(first, directory=tmp_path)) for _ in range(2)]
        await gateways[0].make_key("*", name="the first one")
        await _turned_away(gateways[1], {})
        for number in range(5):
            _, secret = await gateways[0].keys.create(f"key {number}", ["*"])
            assert await status(gateways[1], bearer(secret.get_secret_value())) == 200


async def test_a_key_stays_one_over_a_restart(first: SimulatedOllama, tmp_path: Path) -> None:
    async with running_gateway(first, directory=tmp_path) as gateway:
        key = await gateway.make_key(MODEL)
    async with running_gateway(first, directory=tmp_path) as gateway:
        assert await status(gateway, key) == 200
        assert await status(gateway, {}) == 401


# the admin key of the environment


@pytest.mark.parametrize("in_file", [False, True], ids=["variable", "file"])
async def test_the_admin_key_of_the_environment_counts_as_a_key(
    first: SimulatedOllama, tmp_path: Path, in_file: bool
) -> None:
    secret = "an-admin-key-of-the-environment"
    (tmp_path / "secret").write_text(f"{secret}\n", "utf-8")
    env = {"HERDGATE_ADMIN_KEY_FILE": str(tmp_path / "secret")} if in_file else {"HERDGATE_ADMIN_KEY": secret}
    async with running_gateway(first, env=env) as gateway:
        assert await status(gateway, {}) == 401
        assert await status(gateway, bearer("another-key-of-the-environment")) == 401
        for headers in (bearer(secret), {"x-api-key": secret}):
            response = await ASK.ask(gateway, **headers)
            assert (response.status_code, response.headers["x-herdgate-backend"]) == (200, "first")
        _, made = await gateway.keys.create("someone", [MODEL])
        response = await ASK.ask(gateway, **bearer(made.get_secret_value()))
        assert response.status_code == 200
        assert "x-herdgate-backend" not in response.headers


# where a gateway listens


async def test_a_gateway_that_others_can_reach_does_not_start_without_a_key(first: SimulatedOllama) -> None:
    with pytest.raises(CannotStart) as refused:
        async with running_gateway(first, env={"HERDGATE_HOST": "0.0.0.0"}):
            pass
    for help_with in ("0.0.0.0", "proxyctl keys create", "HERDGATE_ADMIN_KEY", "127.0.0.1", "anonymous"):
        assert help_with in str(refused.value)


async def test_it_starts_with_a_key_of_either_kind(first: SimulatedOllama, tmp_path: Path) -> None:
    public = {"HERDGATE_HOST": "0.0.0.0"}
    async with running_gateway(first, env={**public, "HERDGATE_ADMIN_KEY": "an-admin-key-from-outside"}) as gateway:
        assert await status(gateway, {}) == 401
    async with running_gateway(first, directory=tmp_path) as gateway:
        key = await gateway.make_key("*")
    async with running_gateway(first, directory=tmp_path, env=public) as gateway:
        assert await status(gateway, {}) == 401
        assert await status(gateway, key) == 200


# the plugin anonymous


async def test_anonymous_serves_callers_without_a_key_as_the_operator_says(first: SimulatedOllama) -> None:
    env = {"HERDGATE_HOST": "0.0.0.0", "HERDGATE_ADMIN_KEY": "an-admin-key-beside-anonymous"}
    async with running_gateway(first, toml=ANONYMOUS, env=env) as gateway:
        response = await ASK.ask(gateway)
        assert response.status_code == 200
        assert "x-herdgate-backend" not in response.headers
        assert await status(gateway, {}, "only-first") == 403
        listed = (await gateway.client.get("/api/tags")).json()["models"]
        assert [entry["name"] for entry in listed] == [f"{MODEL}:latest"]
        _, secret = await gateway.keys.create("someone", ["only-first"])
        assert await status(gateway, bearer(secret.get_secret_value()), "only-first") == 200
        assert await status(gateway, bearer(secret.get_secret_value())) == 403
        assert await status(gateway, bearer("hg_wrong")) == 401
        assert await status(gateway, {"authorization": "Basic dXNlcjpwYXNz"}) == 401


async def test_anonymous_means_what_it_says_before_the_first_key_too(first: SimulatedOllama) -> None:
    """Listed, it alone says what is open to whom: there is no open mode beside it."""
    async with running_gateway(first, toml=ANONYMOUS) as gateway:
        assert await status(gateway, {}) == 200
        assert await status(gateway, {}, "only-first") == 403
        assert await status(gateway, bearer("ollama")) == 401
