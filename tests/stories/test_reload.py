"""Another configuration takes over while requests go on: all of it or nothing, and no request is the worse for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stories.conftest import BUILT_IN, CHAT, MODEL, Chat, plugin_of, with_plugin
from tests.stories.doors import ASK, forwarded

from herdgate.config import ConfigError
from herdgate.faults import PluginFault
from herdgate.quarantineboard import posted
from herdgate.runtime import Phase
from herdgate.snapshot import SPACE
from herdgate.testing.faults import Delay, Hang
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

NOTED = """
from contextlib import asynccontextmanager
from pathlib import Path
from herdgate import hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app):
        self.open = True
        yield
        self.open = False
"""
HIDES = """
from herdgate import hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    def shape_catalogue(self, entries):
        return [entry for entry in entries if entry.name.display != "only-second:latest"]
"""
FAILS = NOTED.replace("self.open = True", "raise RuntimeError('no licence')")


@pytest.fixture
async def third() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(name="third", models=[MODEL, "only-third"]) as backend:
        yield backend


async def test_requests_keep_the_configuration_they_began_with(
    first: SimulatedOllama, third: SimulatedOllama, stream: Chat, tmp_path: Path
) -> None:
    async with running_gateway(first, toml=with_plugin(tmp_path, NOTED), directory=tmp_path) as gateway:
        before = plugin_of(gateway, "extra")
        goes_on = asyncio.Event()
        first.script(stream.path, Hang(after=2, until=goes_on))
        running = asyncio.create_task(stream.ask(gateway))
        await first.wait_for(lambda _: bool(forwarded(first)) and first.requests[-1].events_sent == 2)

        await gateway.reload(third, toml=BUILT_IN)

        assert ASK.text_of(await ASK.ask(gateway))
        assert len(forwarded(third)) == 1
        assert before.open
        goes_on.set()
        reply = await running
        assert "first" in stream.text_of(reply)
        await until(lambda: not before.open)
        await first.wait_for(lambda backend: not backend.open_connections)


async def test_the_new_catalogue_is_there_at_once(gateway: RunningGateway, third: SimulatedOllama) -> None:
    third.script("/api/tags", Delay(0.2))
    await gateway.reload(third)
    listed = (await gateway.client.get("/api/tags")).json()["models"]
    assert [entry["name"] for entry in listed] == [f"{MODEL}:latest", "only-third:latest"]


async def test_what_a_backend_hosts_is_not_forgotten(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    """Not even if it is away, the state has lost it, and the plugins showed less of it before."""
    async with running_gateway(first, second, toml=with_plugin(tmp_path, HIDES), directory=tmp_path) as gateway:
        await gateway.knows(f"{MODEL}:latest")
        await second.stop()
        await gateway.gateway.runtime.state.delete(SPACE, "second")
        await gateway.reload(first, second, toml=BUILT_IN)
        await gateway.knows("only-second:latest")


@pytest.mark.parametrize(
    ("toml", "code", "pem", "error"),
    [
        ("[servr]", NOTED, None, ConfigError),
        ('[[plugin]]\nuse = "nobody"', NOTED, None, ConfigError),
        (None, NOTED + "nonsense", None, ConfigError),
        (None, FAILS, None, PluginFault),
        (None, NOTED, "no certificate", ConfigError),
    ],
)
async def test_one_mistake_and_nothing_changes(
    first: SimulatedOllama, tmp_path: Path, toml: str | None, code: str, pem: str | None, error: type[Exception]
) -> None:
    present = with_plugin(tmp_path, NOTED)
    async with running_gateway(first, toml=present, directory=tmp_path) as gateway:
        before, tasks = gateway.gateway.runtime, len(asyncio.all_tasks())
        wanted = toml or with_plugin(tmp_path, code)
        (tmp_path / "ca.pem").write_text(pem or "", "utf-8")
        other = {"name": "other", "base_url": "https://127.0.0.1:9", **({"ca_file": "ca.pem"} if pem else {})}
        with pytest.raises(error):
            await gateway.reload(first, other, toml=wanted)
        assert gateway.gateway.runtime is before
        assert len(asyncio.all_tasks()) == tasks
        assert plugin_of(gateway, "extra").open
        assert ASK.text_of(await ASK.ask(gateway))


async def test_a_process_that_has_seen_a_key_stays_closed(gateway: RunningGateway, first: SimulatedOllama) -> None:
    await gateway.make_key("*")
    state = gateway.gateway.runtime.state
    for key in await state.items("keys"):
        await state.delete("keys", key)
    await gateway.reload(first)
    assert (await ASK.ask(gateway)).status_code == 401


async def test_slots_are_still_taken_by_what_took_them_before(first: SimulatedOllama) -> None:
    backend = {"name": "first", "base_url": first.url, "max_concurrency": 1}
    async with running_gateway(backend) as gateway:
        goes_on = asyncio.Event()
        first.script(CHAT, Hang(after=1, until=goes_on))
        running = asyncio.create_task(Chat(CHAT, stream=True).ask(gateway))
        await first.wait_for(lambda one: one.concurrent == 1)
        await gateway.reload(backend)
        queue = plugin_of(gateway, "capacity")._queue
        waiting = asyncio.create_task(ASK.ask(gateway))
        await until(lambda: len(list(queue.in_turn())) == 1)
        goes_on.set()
        assert (await running).status_code == 200
        assert ASK.text_of(await waiting)
    assert first.max_concurrent == 1


async def test_a_reload_gives_nobody_a_new_minute(gateway: RunningGateway, first: SimulatedOllama) -> None:
    headers = await gateway.make_key("*", rpm=1)
    assert (await ASK.ask(gateway, **headers)).status_code == 200
    await gateway.reload(first)
    assert (await ASK.ask(gateway, **headers)).status_code == 429


async def test_the_code_of_a_file_is_read_anew(first: SimulatedOllama, tmp_path: Path) -> None:
    toml = with_plugin(tmp_path, NOTED)
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        (tmp_path / "extra.py").write_text(NOTED.replace("self.open", "self.opened"), "utf-8")
        await gateway.reload(first, toml=toml)
        assert plugin_of(gateway, "extra").opened


async def test_the_end_of_the_old_plugins_is_not_that_of_the_new_ones(first: SimulatedOllama, tmp_path: Path) -> None:
    toml = with_plugin(tmp_path, NOTED)
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        before = plugin_of(gateway, "extra")
        await gateway.reload(first, toml=toml)
        await until(lambda: not before.open)
        await gateway.make_key("*")  # noticed by what api_keys does in the background


async def test_many_reloads_leave_nothing(gateway: RunningGateway, first: SimulatedOllama) -> None:
    tasks = len(asyncio.all_tasks())
    for _ in range(5):
        await gateway.reload(first)
        assert ASK.text_of(await ASK.ask(gateway))
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: [thread.name for thread in threading.enumerate()].count("watchdog") == 1)
    await first.wait_for(lambda backend: backend.open_connections <= 2)


async def test_a_stop_lets_end_what_was_replaced(first: SimulatedOllama, third: SimulatedOllama, stream: Chat) -> None:
    async with running_gateway(first) as gateway:
        goes_on = asyncio.Event()
        first.script(stream.path, Hang(after=1, until=goes_on))
        running = asyncio.create_task(stream.ask(gateway))
        await first.wait_for(lambda backend: backend.concurrent == 1)
        await gateway.reload(third)
        stopping = asyncio.create_task(gateway.gateway.stop(grace=30))
        await until(lambda: gateway.gateway.runtime.process.phase is Phase.REFUSING)
        assert (await gateway.client.get("/readyz")).status_code == 503  # still there to be asked
        goes_on.set()
        assert stream.text_of(await running)
        await stopping


async def test_a_stop_does_not_wait_for_ever_for_what_was_replaced(
    first: SimulatedOllama, third: SimulatedOllama
) -> None:
    async with running_gateway(first) as gateway:
        first.script(CHAT, Hang(after=1))
        running = asyncio.create_task(Chat(CHAT, stream=True).ask(gateway))
        await first.wait_for(lambda backend: backend.concurrent == 1)
        await gateway.reload(third)
        await gateway.gateway.stop(grace=0.05)
        await first.wait_for(lambda backend: not backend.concurrent)
        await asyncio.wait([running])
        assert running.exception() is not None


FAILING = """
from herdgate import hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    def exchange_ended(self, summary):
        raise ValueError("no")
"""


async def test_who_is_left_out_is_told_only_as_long_as_its_configuration_serves(
    first: SimulatedOllama, tmp_path: Path
) -> None:
    toml = with_plugin(tmp_path, FAILING)
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        before = gateway.gateway.runtime

        async def told() -> bool:
            await gateway.client.get("/api/tags")
            return [left.plugin for _, left in await posted(before.state)] == ["extra"]

        async def told_no_more() -> bool:
            return not await posted(before.state)

        await until(told)
        await gateway.reload(first, toml=BUILT_IN)
        await until(told_no_more, within=5)
        assert before.points.ledger.quarantine.left_out == []
