import asyncio
import gc
import logging
import weakref

import pytest

from herdgate.tasks import Tasks


async def test_what_is_running_at_the_end_is_cancelled_and_awaited() -> None:
    tasks, cleaned = Tasks(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    task = tasks.spawn(work(), "work")
    await asyncio.sleep(0)
    await tasks.close()

    assert cleaned.is_set()
    assert task is not None
    assert task.cancelled()


async def test_work_that_ends_within_the_grace_time_is_not_cancelled() -> None:
    tasks, release = Tasks(), asyncio.Event()
    task = tasks.spawn(release.wait())
    asyncio.get_running_loop().call_soon(release.set)

    await tasks.close(grace=30)

    assert task is not None
    assert task.result() is True


async def test_work_that_outlasts_the_grace_time_is_cancelled() -> None:
    tasks = Tasks()
    task = tasks.spawn(asyncio.Event().wait())

    await tasks.close(grace=0.01)

    assert task is not None
    assert task.cancelled()


async def test_after_the_end_nothing_is_started() -> None:
    tasks = Tasks()
    await tasks.close()
    began = False

    async def work() -> None:
        nonlocal began
        began = True

    assert tasks.spawn(work()) is None
    await asyncio.sleep(0)
    assert not began


async def test_an_error_is_logged_with_the_name_of_its_task(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def work() -> None:
        raise ValueError("lost")

    tasks.spawn(work(), "the poller")
    with caplog.at_level(logging.ERROR):
        await tasks.close(grace=30)

    (record,) = caplog.records
    assert "the poller" in record.message
    assert record.exc_info
    assert str(record.exc_info[1]) == "lost"


async def test_a_task_that_has_ended_is_forgotten() -> None:
    tasks = Tasks()
    task = tasks.spawn(asyncio.sleep(0))
    assert task is not None
    await task
    await asyncio.sleep(0)
    ended = weakref.ref(task)
    del task
    gc.collect()
    assert ended() is None


async def test_without_grace_nothing_is_waited_for() -> None:
    tasks = Tasks()
    tasks.spawn(asyncio.Event().wait())
    async with asyncio.timeout(0.5):
        await tasks.close()


async def test_a_cancelled_task_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    tasks.spawn(asyncio.Event().wait())
    await tasks.close()
    assert not caplog.records


async def test_a_task_that_will_not_end_is_named_and_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("herdgate.tasks.STUBBORN", 0.05)
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    tasks = Tasks()
    task = tasks.spawn(stubborn(), "mule")
    assert task is not None
    await asyncio.sleep(0)
    await tasks.close()
    assert "mule does not end" in caplog.text
    let_go.set()
    await task
