"""The gateway has no file descriptor left: nobody but itself is to blame, and it says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.stories.conftest import MODEL, Chat

from herdgate import descriptors
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

MORE_THAN_HEALTH_FORGIVES = 5


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Inside, this process can open nothing, unless it closes something else."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/dev/fd").iterdir())
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)


async def without_connection_to(backend: SimulatedOllama) -> None:
    await backend.stop()
    await backend.start()


async def test_callers_are_told_to_come_back_and_the_backend_is_not_blamed(
    gateway: RunningGateway,
    first: SimulatedOllama,
    second: SimulatedOllama,
    chat: Chat,
    caplog: pytest.LogCaptureFixture,
) -> None:
    descriptors._told_at = float("-inf")
    assert (await chat.ask(gateway)).status_code == 200
    await without_connection_to(first)
    await without_connection_to(second)
    with no_descriptor_left(), caplog.at_level(logging.ERROR, "herdgate"):
        refused = [await chat.ask(gateway) for _ in range(MORE_THAN_HEALTH_FORGIVES)]
    assert {(each.status_code, each.headers["retry-after"]) for each in refused} == {(503, "5")}
    assert "backend first" in chat.text_of(await chat.ask(gateway))
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert line == "this process has no file descriptor left: raise its limit (ulimit -n), each stream needs two"


async def test_what_is_kept_idle_is_given_up_for_those_who_come_next() -> None:
    async with (
        SimulatedOllama("first", ["a"]) as first,
        SimulatedOllama("second", ["b"]) as second,
        running_gateway(first, second) as gateway,
    ):

        async def status(model: str) -> int:
            chat = {"model": model, "messages": [], "stream": False}
            return (await gateway.client.post("/api/chat", json=chat)).status_code

        together = await asyncio.gather(*[status("a") for _ in range(3)])  # the backend needs descriptors, too
        assert together == [200] * 3
        await without_connection_to(second)
        with no_descriptor_left():
            assert await status("b") == 503
            assert await status("b") == 200


async def test_a_kept_connection_still_serves(first: SimulatedOllama) -> None:
    async with running_gateway(first) as gateway:
        chat = {"model": MODEL, "messages": [], "stream": False}
        assert (await gateway.client.post("/api/chat", json=chat)).status_code == 200
        with no_descriptor_left():
            assert (await gateway.client.post("/api/chat", json=chat)).status_code == 200
