"""All backends that a request could have were skipped: a plugin, be it a third party's, may wait for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.stories.conftest import Chat, plugin_of, with_plugin

from herdgate.testing.faults import Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

SLEEPERS = """
import asyncio
from contextlib import asynccontextmanager
from herdgate import Refusal, Skip, hookimpl

class Extra:
    herdgate_api = 1

    def __init__(self):
        self.asleep = {"first", "second"}
        self.offered = []
        self.woken = asyncio.Event()
        self.patience = 10.0
        self.waiting = 0
        self.left = 0

    @hookimpl
    def around_attempt(self, attempt):
        return Skip("it sleeps") if attempt.backend.name in self.asleep else None

    @hookimpl
    @asynccontextmanager
    async def wait_for_turn(self, candidates):
        self.offered.append([candidate.backend.name for candidate in candidates])
        self.waiting += 1
        try:
            async with asyncio.timeout(self.patience):
                await self.woken.wait()
            refusal = None
        except TimeoutError:
            refusal = Refusal("they sleep on", status=503, retry_after=70)
        try:
            yield refusal
        finally:
            self.left += 1
"""


@asynccontextmanager
async def sleeping(*backends: SimulatedOllama, directory: Path) -> AsyncIterator[tuple[RunningGateway, Any]]:
    toml = with_plugin(directory, SLEEPERS)
    async with running_gateway(*backends, toml=toml, directory=directory) as gateway:
        yield gateway, plugin_of(gateway, "extra")


async def test_a_request_waits_and_is_served_by_the_first_that_may_be_tried(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, tmp_path: Path
) -> None:
    async with sleeping(first, second, directory=tmp_path) as (gateway, plugin):
        asking = asyncio.create_task(chat.ask(gateway))
        await until(lambda: plugin.waiting == 1)
        assert plugin.left == 0
        plugin.asleep = {"first"}
        plugin.woken.set()
        assert "backend second" in chat.text_of(await asking)
        assert plugin.offered == [["first", "second"]]
        assert plugin.left == 1


async def test_what_the_plugin_says_is_what_the_caller_gets(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, tmp_path: Path
) -> None:
    async with sleeping(first, second, directory=tmp_path) as (gateway, plugin):
        plugin.patience = 0.01
        reply = await chat.ask(gateway)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "70")
        assert "they sleep on" in reply.text
        assert plugin.left == 1


async def test_one_that_failed_is_not_offered_again_and_its_failure_counts_on(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, tmp_path: Path
) -> None:
    """After a 500 one further backend is tried, however long the request has waited in between."""
    async with (
        SimulatedOllama(name="third") as third,
        sleeping(first, second, third, directory=tmp_path) as (gateway, plugin),
    ):
        plugin.asleep = {"second", "third"}
        for backend in (first, second, third):
            backend.script(chat.path, Status(500, f"{backend.name} is broken"), times=None)
        asking = asyncio.create_task(chat.ask(gateway))
        await until(lambda: plugin.waiting == 1)
        plugin.asleep = set()
        plugin.woken.set()
        reply = await asking
        assert reply.status_code == 500
        assert "second is broken" in reply.text
        assert plugin.offered == [["second", "third"]]
        assert [each.path for each in third.requests if each.path == chat.path] == []


async def test_where_nobody_waits_nothing_is_tried_twice(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, tmp_path: Path
) -> None:
    code = """
from herdgate import Skip, hookimpl

class Extra:
    herdgate_api = 1
    asked = 0

    @hookimpl
    def around_attempt(self):
        self.asked += 1
        return Skip("full")

    @hookimpl
    def wait_for_turn(self):
        return None
"""
    async with running_gateway(first, second, toml=with_plugin(tmp_path, code), directory=tmp_path) as gateway:
        reply = await chat.ask(gateway)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert plugin_of(gateway, "extra").asked == 2


async def test_a_turn_that_leads_to_nothing_is_the_last(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, tmp_path: Path
) -> None:
    """Otherwise a plugin that answers at once and one that skips for ever would keep each other busy."""
    async with sleeping(first, second, directory=tmp_path) as (gateway, plugin):
        plugin.woken.set()
        assert (await chat.ask(gateway)).status_code == 503
        assert plugin.offered == [["first", "second"]]


async def test_a_turn_that_fails_elsewhere_may_be_followed_by_another(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, tmp_path: Path
) -> None:
    async with sleeping(first, second, directory=tmp_path) as (gateway, plugin):
        first.script(chat.path, Status(503))
        asking = asyncio.create_task(chat.ask(gateway))
        await until(lambda: plugin.waiting == 1)
        plugin.asleep = {"second"}
        plugin.woken.set()
        plugin.woken = asyncio.Event()
        await until(lambda: plugin.waiting == 2)
        plugin.asleep = set()
        plugin.woken.set()
        assert "backend second" in chat.text_of(await asking)
        assert plugin.offered == [["first", "second"], ["second"]]


@pytest.mark.parametrize("final", [False, True])
async def test_after_a_failure_that_is_final_nobody_waits(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, tmp_path: Path, final: bool
) -> None:
    async with sleeping(first, second, directory=tmp_path) as (gateway, plugin):
        plugin.asleep = {"first"}
        plugin.woken.set()
        second.script(chat.path, Status(400 if final else 503, "no"))
        reply = await chat.ask(gateway)
        assert reply.status_code == (400 if final else 503)
        assert plugin.waiting == (0 if final else 1)
