"""A client leaves: the backend is told at once, whatever the request was waiting for, and nothing stays behind."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from tests.stories.conftest import Chat

from bench import leaving
from bench.leaving import QUEUE, WINDOWS, Case, cases, laboratory
from herdgate.testing.faults import Hang
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import Received, SimulatedOllama

WITHIN = 1.0
"""Seconds that the contract gives; what is measured is about a thousandth of it."""

PADDING = {"small": 0, "large": 150_000}


def asking(gateway: RunningGateway, chat: Chat, padding: int) -> AbstractAsyncContextManager[asyncio.StreamWriter]:
    return leaving.asking(gateway, chat.path, chat.body(say="x" * padding))


async def reached(backend: SimulatedOllama, chat: Chat, events: int) -> Received:
    await backend.wait_for(lambda sim: any(r.path == chat.path and r.events_sent >= events for r in sim.requests))
    return next(request for request in backend.requests if request.path == chat.path)


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
@pytest.mark.parametrize("padding", PADDING.values(), ids=PADDING)
@pytest.mark.parametrize("window", WINDOWS)
async def test_the_backend_notices_within_a_second(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat, window: str, padding: int, how: str
) -> None:
    if window == "in mid-stream" and not chat.stream:
        pytest.skip("a reply that does not stream has no middle that a client could see")
    place = WINDOWS[window]
    first.script(chat.path, Hang(place))  # type: ignore[arg-type]
    async with asking(gateway, chat, padding) as writer:
        request = await reached(first, chat, place if isinstance(place, int) else 0)
        left = asyncio.get_running_loop().time()
        leaving.leave(writer, how)
        await until(lambda: request.left_at is not None, within=5.0)
    assert request.left_at is not None
    assert request.left_at - left < WITHIN
    assert request.outcome == "client_left"


async def test_nothing_is_tried_elsewhere_for_a_client_that_has_left(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, chat: Chat
) -> None:
    first.script(chat.path, Hang())
    async with asking(gateway, chat, 0) as writer:
        request = await reached(first, chat, 0)
        writer.close()
        await until(lambda: request.left_at is not None)
    assert not [each for each in second.requests if each.path == chat.path]


async def test_many_that_leave_leave_nothing_behind(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat
) -> None:
    first.script(chat.path, Hang(), times=None)
    async with running_gateway(first, second) as gateway:
        before = len(asyncio.all_tasks())
        for _ in range(3):
            async with asyncio.TaskGroup() as crowd:
                for number in range(30):
                    crowd.create_task(ask_and_leave(gateway, chat, 0.002 * number))
        await first.wait_for(lambda backend: backend.concurrent == 0)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        await until(lambda: first.open_connections <= 2)


async def ask_and_leave(gateway: RunningGateway, chat: Chat, after: float) -> None:
    async with asking(gateway, chat, 0):
        await asyncio.sleep(after)  # leaving at another moment each time is what this is about


async def test_a_slot_is_free_again_when_its_client_has_left(second: SimulatedOllama, chat: Chat) -> None:
    async with (
        SimulatedOllama(name="narrow") as narrow,
        running_gateway({"name": "narrow", "base_url": narrow.url, "max_concurrency": 1}, second) as gateway,
    ):
        narrow.script(chat.path, Hang())
        async with asking(gateway, chat, 0) as writer:
            request = await reached(narrow, chat, 0)
            assert "backend second" in chat.text_of(await chat.ask(gateway))
            writer.close()
            await until(lambda: request.left_at is not None)
        assert "backend narrow" in chat.text_of(await chat.ask(gateway))


async def test_a_client_that_sends_too_much_ahead_is_left_because_nobody_would_see_it_leave(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat
) -> None:
    first.script(chat.path, Hang())
    async with asking(gateway, chat, 0) as writer:
        received = await reached(first, chat, 0)
        for _ in range(2):
            writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 6000)
        await until(lambda: received.left_at is not None, within=5.0)
    assert received.outcome == "client_left"


OTHERS = [case for case in cases() if case.window == QUEUE or case.reply == "filtered"]


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: f"{case.window}-{case.reply}-{case.body}-{case.way}")
async def test_the_queue_and_filters_are_left_as_soon(case: Case) -> None:
    async with laboratory() as lab:
        noticed = await lab.measure(case)
        assert noticed.ended < WITHIN
        if case.window == QUEUE:
            assert noticed.backend is None
        else:
            assert noticed.backend is not None
            assert noticed.backend < WITHIN
        await lab.measure(case)  # the slot, and the place in the queue, are free again


async def test_the_table_has_a_row_for_each_moment_reply_and_body() -> None:
    rows = (await leaving.table(1)).splitlines()[2:]
    assert len(rows) == len(cases()) / len(leaving.WAYS)
    assert all(row.count(" / ") == len(leaving.WAYS) for row in rows)
