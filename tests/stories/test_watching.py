"""What a plugin can do about an attempt that waits: ask its backend apart from the request, and leave it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.stories.conftest import CHAT, MODEL, Chat, plugin_of, with_plugin

from herdgate import Backend
from herdgate.testing.faults import Hang
from herdgate.testing.gateway import running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

SELDOM = {"HERDGATE_DISCOVERY_INTERVAL": "60"}

KEEPS_ATTEMPTS = """
from contextlib import asynccontextmanager
from herdgate import hookimpl

class Extra:
    herdgate_api = 1
    attempts = []

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, fleet):
        self.fleet, self.attempts = fleet, []
        yield

    @hookimpl
    def around_attempt(self, attempt):
        self.attempts.append(attempt)
"""


@pytest.mark.parametrize("silent", ["nothing", "headers"])
async def test_an_attempt_that_a_plugin_leaves_goes_to_the_next_backend(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, silent: str, tmp_path: Path
) -> None:
    first.script(chat.path, Hang(silent))  # type: ignore[arg-type]
    async with running_gateway(
        first, second, toml=with_plugin(tmp_path, KEEPS_ATTEMPTS), directory=tmp_path
    ) as gateway:
        asking = asyncio.create_task(chat.ask(gateway))
        await first.wait_for(lambda first: first.concurrent == 1)
        if silent == "headers":
            await until(lambda: plugin_of(gateway, "extra").attempts[0].status == 200)
        (attempt,) = plugin_of(gateway, "extra").attempts
        attempt.leave("it looks dead")
        attempt.leave("twice does no harm")
        assert "backend second" in chat.text_of(await asking)
        assert (attempt.failure.kind, attempt.failure.detail) == ("dead", "it looks dead")
        assert attempt.failure.phase == ("opening" if silent == "headers" else "sent")
        await first.wait_for(lambda first: first.concurrent == 0)


async def test_when_no_other_backend_is_left_the_caller_gets_a_502(
    first: SimulatedOllama, chat: Chat, tmp_path: Path
) -> None:
    first.script(chat.path, Hang())
    async with running_gateway(first, toml=with_plugin(tmp_path, KEEPS_ATTEMPTS), directory=tmp_path) as gateway:
        asking = asyncio.create_task(chat.ask(gateway))
        await first.wait_for(lambda first: first.concurrent == 1)
        plugin_of(gateway, "extra").attempts[0].leave("it looks dead")
        assert (await asking).status_code == 502


async def test_an_attempt_whose_first_event_has_come_is_not_left(
    first: SimulatedOllama, second: SimulatedOllama, stream: Chat, tmp_path: Path
) -> None:
    going_on = asyncio.Event()
    first.script(stream.path, Hang(1, until=going_on))
    async with running_gateway(
        first, second, toml=with_plugin(tmp_path, KEEPS_ATTEMPTS), directory=tmp_path
    ) as gateway:
        async with gateway.client.stream("POST", stream.path, json=stream.body()) as response:
            plugin_of(gateway, "extra").attempts[0].leave("too late")
            going_on.set()
            assert (b'"done":true' if stream.path == CHAT else b"data: [DONE]") in await response.aread()
        assert plugin_of(gateway, "extra").attempts[0].failure is None


async def test_a_plugin_asks_a_backend_with_its_credentials_over_connections_that_are_not_kept(
    chat: Chat, tmp_path: Path
) -> None:
    async with SimulatedOllama(models=[MODEL], auth_token="secret") as backend:
        settings = {"name": "only", "base_url": backend.url, "auth_token": "secret"}
        async with running_gateway(
            settings, toml=with_plugin(tmp_path, KEEPS_ATTEMPTS), directory=tmp_path, env=SELDOM
        ) as gateway:
            assert (await chat.ask(gateway)).status_code == 200
            plugin = plugin_of(gateway, "extra")
            connections = backend.connections
            for count in (1, 2):
                async with plugin.fleet.client(plugin.attempts[0].backend, 1.0, apart=True) as client:
                    assert (await client.get("/api/version")).status_code == 200
                assert backend.connections == connections + count
            await backend.wait_for(lambda backend: backend.open_connections == connections)


async def test_a_backend_that_is_not_configured_cannot_be_asked(first: SimulatedOllama, tmp_path: Path) -> None:
    async with running_gateway(first, toml=with_plugin(tmp_path, KEEPS_ATTEMPTS), directory=tmp_path) as gateway:
        with pytest.raises(LookupError, match="gone was just taken out"):
            plugin_of(gateway, "extra").fleet.client(Backend("gone", "http://127.0.0.1:1"), 1.0)
