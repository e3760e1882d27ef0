"""Web pages: none reaches a gateway without keys from somewhere else, and none reads what it was not meant to."""

from __future__ import annotations

import json

import pytest
from tests.stories.conftest import ANONYMOUS, CHAT, MODEL, OPENAI_CHAT, Chat
from tests.stories.raw import Connection, Raw, connected

from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

ASK = Chat(CHAT, stream=False)
HOSTS = {
    "localhost": True,
    "LOCALHOST:11435": True,
    "127.0.0.1:11435": True,
    "[::1]:11435": True,
    "192.168.1.7": True,
    "box.local": True,
    "gpu.internal:11435": True,
    "evil.example.com": False,
    "127.0.0.1.evil.example.com": False,
    "localhost.evil.example.com:11435": False,
    "8.8.8.8": False,
}
ORIGINS = {
    "http://localhost:3000": True,
    "https://127.0.0.1": True,
    "http://box.local": True,  # the Host of this request
    "app://obsidian.md": True,
    "https://evil.example.com": False,
    "http://localhost.evil.example.com": False,
    "null": False,
}


@pytest.mark.parametrize("anonymous", [False, True], ids=["open", "anonymous"])
async def test_a_web_page_does_not_reach_a_gateway_without_keys(first: SimulatedOllama, anonymous: bool) -> None:
    async with running_gateway(first, toml=ANONYMOUS if anonymous else "") as gateway:
        before = len(first.requests)
        async with connected(gateway) as connection:
            for host, allowed in HOSTS.items():
                assert (await browsed(connection, host)).status == (200 if allowed else 403), host
            for origin, allowed in ORIGINS.items():
                reply = await browsed(connection, "box.local", origin)
                assert reply.status == (200 if allowed else 403), origin
                assert reply.header("access-control-allow-origin") == (origin if allowed else None)
            refused = await browsed(connection, "evil.example.com", path=OPENAI_CHAT)
        error = json.loads(refused.body)["error"]
        assert (error["message"], error["type"]) == ("this Host is not allowed without an API key", "permission_error")
        chats = [request.path for request in first.requests[before:] if request.path in {CHAT, OPENAI_CHAT}]
        assert len(chats) == sum(HOSTS.values()) + sum(ORIGINS.values())


async def browsed(connection: Connection, host: str, origin: str | None = None, path: str = CHAT) -> Raw:
    headers = {"Host": host, **({} if origin is None else {"Origin": origin})}
    return await connection.ask("POST", path, ASK.body(), headers)


async def test_with_a_key_any_host_will_do_but_a_strange_page_may_not_read_the_reply(gateway: RunningGateway) -> None:
    key = await gateway.make_key("*")
    async with connected(gateway) as connection:
        for host in HOSTS:
            reply = await connection.ask("POST", CHAT, ASK.body(), {**key, "Host": host})
            assert reply.status == 200, host
        for origin, allowed in ORIGINS.items():
            reply = await connection.ask("POST", CHAT, ASK.body(), {**key, "Host": "box.local", "Origin": origin})
            assert reply.status == 200
            assert reply.header("access-control-allow-origin") == (origin if allowed else None)
            assert reply.header("vary") == ("Origin" if allowed else None)


async def test_operators_can_allow_hosts_and_origins(first: SimulatedOllama) -> None:
    toml = '[server]\nallowed_hosts = ["*.example.org"]\ncors_origins = ["https://chat.example.org"]\n'
    async with running_gateway(first, toml=toml) as gateway, connected(gateway) as connection:
        assert (await browsed(connection, "llm.example.org")).status == 200
        assert (await browsed(connection, "llm.example.org", "https://chat.example.org")).status == 200
        assert (await browsed(connection, "llm.example.org", "http://localhost:3000")).status == 403
        assert (await browsed(connection, "example.org")).status == 403


@pytest.mark.parametrize("protected", [False, True], ids=["open", "protected"])
async def test_browsers_may_ask_first(gateway: RunningGateway, protected: bool) -> None:
    if protected:
        await gateway.make_key("*")
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-api-key"}
    async with connected(gateway) as connection:
        for origin, allowed in ORIGINS.items():
            reply = await connection.ask("OPTIONS", CHAT, headers={**asks, "Host": "box.local", "Origin": origin})
            assert reply.status == 204
            assert reply.header("access-control-allow-origin") == (origin if allowed else None)
            assert ("POST" in (reply.header("access-control-allow-methods") or "")) == allowed
            assert ("x-api-key" in (reply.header("access-control-allow-headers") or "").lower()) == allowed


async def test_a_page_can_read_errors_too(gateway: RunningGateway) -> None:
    key = await gateway.make_key(MODEL)
    page = {"Origin": "http://localhost:3000"}
    async with connected(gateway) as connection:
        replies = [
            await connection.ask("POST", CHAT, ASK.body(), page),
            await connection.ask("POST", CHAT, ASK.body("only-first"), {**key, **page}),
            await connection.ask("POST", CHAT, b"no JSON", {**key, **page}),
            await connection.ask("GET", "/nothing", None, {**key, **page}),
        ]
    assert [reply.status for reply in replies] == [401, 403, 400, 404]
    assert {reply.header("access-control-allow-origin") for reply in replies} == {"http://localhost:3000"}
