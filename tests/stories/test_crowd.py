"""A crowd at the door while a backend dies: who has heard nothing yet never learns of it, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stories.conftest import CHAT, EVERY_WAY, OPENAI_CHAT, Chat, plugin_of, with_plugin
from tests.stories.raw import connected

from herdgate.testing.faults import Delay, Normal
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

CROWD = 200
WORDS = 30
PACE = 0.02
"""Seconds between two words: a reply takes more than half a second."""

ACCOUNTS = """
from collections import Counter
from contextlib import asynccontextmanager
from herdgate import hookimpl

class Extra:
    herdgate_api = 1

    def __init__(self):
        self.ended = Counter()
        self.outcomes = Counter()
        self.admitted = 0
        self.attempts = Counter()
        self.leases = 0

    @hookimpl
    @asynccontextmanager
    async def admit(self):
        self.admitted += 1
        self.leases += 1
        yield
        self.leases -= 1

    @hookimpl
    @asynccontextmanager
    async def around_attempt(self, attempt):
        self.leases += 1
        yield
        self.leases -= 1
        self.attempts[attempt.backend.name, attempt.outcome.value] += 1

    @hookimpl
    def exchange_ended(self, summary):
        self.ended[summary.exchange.id] += 1
        self.outcomes[summary.outcome.value] += 1
"""


@asynccontextmanager
async def prepared(
    first: SimulatedOllama, second: SimulatedOllama, directory: Path, limit: int = CROWD
) -> AsyncIterator[tuple[RunningGateway, Any]]:
    """A gateway, and the plugin that keeps its accounts. The first backend takes `limit` requests at a time."""
    for backend in (first, second):
        backend.behaviour.reply_words = WORDS
    limited = {"name": first.name, "base_url": first.url, "max_concurrency": limit}
    async with running_gateway(limited, second, toml=with_plugin(directory, ACCOUNTS), directory=directory) as gateway:
        yield gateway, plugin_of(gateway, "extra")


@dataclass(frozen=True)
class Heard:
    """What one caller was told in the end."""

    way: Chat
    response: httpx.Response

    @property
    def broken(self) -> bool:
        """Whether it is a stream that ends with the error of its family."""
        return self.way.stream and "error" in self.way.events_of(self.response.text)[-1]

    @property
    def words(self) -> list[str]:
        """What was said until the end, or until it broke. Fails if it is neither complete nor properly broken."""
        if not self.broken:
            return self.way.text_of(self.response).split()
        assert "[DONE]" not in self.response.text
        events = self.way.events_of(self.response.text)[:-1]
        parts = [event["message"] if self.way.path == CHAT else event["choices"][0]["delta"] for event in events]
        return "".join(part.get("content", "") for part in parts).split()


async def ask(gateway: RunningGateway, identity: str, way: Chat) -> Heard:
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", way.path, way.body(), {"X-Request-Id": identity})
        return Heard(way, httpx.Response(reply.status, content=reply.body))


def crowd(gateway: RunningGateway, name: str = "caller") -> list[asyncio.Task[Heard]]:
    """Let everybody ask at the same time, each in one of the ways there are."""
    ways = itertools.cycle(EVERY_WAY)
    return [asyncio.create_task(ask(gateway, f"{name}-{number}", next(ways))) for number in range(CROWD)]


def speaking(backend: SimulatedOllama) -> int:
    """How many streams have begun and not ended."""
    return sum(each.events_sent > 1 and each.outcome is None for each in backend.requests)


def gateway_tasks() -> int:
    """How many tasks there are, without those of the simulated backends, which have one for each connection."""
    return sum(not task.get_name().startswith("simulated") for task in asyncio.all_tasks())


async def settled(accounts: Any, tasks_before: int, *names: str) -> None:
    """Wait until every request has ended, once, and nothing that it took is still taken."""
    everybody = Counter({f"{name}-{number}": 1 for name in names or ("caller",) for number in range(CROWD)})
    await until(lambda: accounts.ended.total() >= everybody.total())
    assert accounts.ended == everybody
    await until(lambda: accounts.leases == 0)
    await until(lambda: gateway_tasks() <= tasks_before)


async def goes_to_the_first(gateway: RunningGateway, accounts: Any) -> bool:
    """Whether one more request, which is then struck off the accounts, is answered by the first backend."""
    heard = await ask(gateway, "scout", EVERY_WAY[0])
    await until(lambda: bool(accounts.ended.pop("scout", 0)))
    return "first." in heard.words


async def test_no_caller_is_lost_when_the_first_backend_dies_in_the_middle(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    async with prepared(first, second, tmp_path) as (gateway, accounts):
        before = gateway_tasks()
        first.behaviour.pace = PACE
        for path in (CHAT, OPENAI_CHAT):
            first.script(path, Normal(), Delay(30.0), Delay(30.0), times=None)  # two of three have not begun to answer
        callers = crowd(gateway)
        await first.wait_for(lambda sim: sim.max_concurrent > CROWD / 2 and speaking(sim) > CROWD / 10)
        await first.stop()
        heard = await asyncio.gather(*callers)
        assert {each.response.status_code for each in heard} == {200}
        broken = [each for each in heard if each.broken]
        whole = [each for each in heard if not each.broken]
        early = [each for each in whole if "first." in each.words]  # had all of it before
        assert len(broken) > CROWD / 10
        assert not [each for each in early if each.way.stream]
        for each in broken:
            assert 0 < len(each.words) < WORDS
            assert "second." not in each.words
        assert {len(each.words) for each in whole} == {WORDS}
        assert {each.way for each in whole if each not in early} == set(EVERY_WAY)
        await settled(accounts, before)
        assert accounts.outcomes == {"answered": len(whole), "broken": len(broken)}
        assert accounts.attempts == {
            ("first", "succeeded"): len(early),
            ("first", "failed"): CROWD - len(early),
            ("second", "succeeded"): len(whole) - len(early),
        }

        first.clear_script()
        first.behaviour.pace = 0.0
        await first.start()
        await until(lambda: goes_to_the_first(gateway, accounts))  # it was passed over while it was dead
        heard = await asyncio.gather(*crowd(gateway, "later"))
        assert all("first." in each.words for each in heard)  # each slot is free again
        await settled(accounts, before, "caller", "later")
    await until(lambda: (first.open_connections, second.open_connections) == (0, 0))


async def test_a_crowd_that_leaves_in_the_middle_leaves_nothing_behind(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    async with prepared(first, second, tmp_path) as (gateway, accounts):
        before = gateway_tasks()
        first.behaviour.pace = PACE
        for path in (CHAT, OPENAI_CHAT):
            first.script(path, Normal(), Delay(30.0), times=None)
        callers = crowd(gateway)
        await first.wait_for(lambda sim: sim.concurrent == CROWD and speaking(sim) > CROWD / 10)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        await settled(accounts, before)
        assert accounts.outcomes == {"client_left": CROWD}
        assert accounts.attempts == {("first", "abandoned"): CROWD}
        await first.wait_for(lambda sim: sim.concurrent == 0)
        assert second.max_concurrent == 0
        await until(lambda: first.open_connections <= 1)  # but for the one that polls


@pytest.mark.parametrize("limit", [1, 10])
async def test_a_crowd_spreads_over_backends_that_take_only_so_many(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path, limit: int
) -> None:
    async with prepared(first, second, tmp_path, limit) as (gateway, accounts):
        before = gateway_tasks()
        first.behaviour.pace = second.behaviour.pace = 0.003
        heard = await asyncio.gather(*crowd(gateway))
        served = Counter("first" if "first." in each.words else "second" for each in heard)
        assert served.total() == CROWD
        assert limit <= served["first"] < served["second"]
        assert first.max_concurrent == limit
        await settled(accounts, before)
