from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from herdgate.waits import Wait, Waits

HOUR = 3600.0


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.fixture
async def waits() -> AsyncIterator[Waits]:
    waits = Waits()
    watching = asyncio.create_task(waits.watch())
    yield waits
    watching.cancel()
    await asyncio.wait([watching])


async def test_a_wait_that_is_over_in_time_costs_nothing_and_leaves_nothing(waits: Waits) -> None:
    with waits.until(soon(HOUR)):
        assert len(waits.running) == 1
        await asyncio.sleep(0)
    assert waits.running == set()


async def test_a_wait_that_takes_too_long_is_a_timeout(waits: Waits) -> None:
    with pytest.raises(TimeoutError), waits.until(soon(0.0)):
        await asyncio.sleep(HOUR)
    task = asyncio.current_task()
    assert task is not None
    assert (task.cancelling(), waits.running) == (0, set())


async def test_the_time_may_be_moved(waits: Waits) -> None:
    async def moved() -> None:
        with waits.until(soon(HOUR)) as wait:
            wait.due = 0.0
            await asyncio.sleep(HOUR)

    with pytest.raises(TimeoutError):
        await moved()


async def test_somebody_else_may_end_it(waits: Waits) -> None:
    async def ended() -> None:
        with waits.until(soon(HOUR)) as wait:
            wait.end()
            await asyncio.sleep(HOUR)

    with pytest.raises(TimeoutError):
        await ended()


async def test_an_end_that_comes_too_late_has_no_effect(waits: Waits) -> None:
    with waits.until(soon(HOUR)) as wait:
        pass
    wait.end()
    with waits.until(soon(HOUR)) as ending:
        ending.end()
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # neither of them cancels what has gone on
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_whoever_cancels_the_task_cancels_it(waits: Waits) -> None:
    begun: list[Wait] = []

    async def waiting() -> None:
        with waits.until(soon(HOUR)) as wait:
            begun.append(wait)
            await asyncio.sleep(HOUR)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    begun[0].expire()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_errors_pass(waits: Waits) -> None:
    with pytest.raises(KeyError), waits.until(soon(HOUR)):
        raise KeyError
    assert waits.running == set()
