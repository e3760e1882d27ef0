"""No backend runs more requests at the same time than its max_concurrency."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import httpx
import pytest

from herdgate import Attempt, Backend, Candidate, ModelEntry, Skip
from herdgate.testing.faults import Cut, Hang, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.capacity import Capacity

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


def attempt(backend: str, limit: int | None) -> Attempt:
    model = ModelEntry.from_tags({"name": "llama3"})
    return Attempt(1, Candidate(Backend(backend, "http://gpu", max_concurrency=limit), model))


def slot(plugin: Capacity, backend: str, limit: int) -> AbstractAsyncContextManager[None]:
    taken = plugin.around_attempt(attempt(backend, limit))
    assert taken is not None
    assert not isinstance(taken, Skip)
    return taken


async def test_a_full_backend_is_skipped_until_a_request_has_ended() -> None:
    plugin = Capacity()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slot(plugin, "a", 2))
        async with slot(plugin, "a", 2):
            assert plugin.around_attempt(attempt("a", 2)) == Skip("2 requests are already running on it")
        async with slot(plugin, "a", 2):
            assert isinstance(plugin.around_attempt(attempt("a", 2)), Skip)


async def test_each_backend_is_counted_by_itself() -> None:
    plugin = Capacity()
    async with slot(plugin, "a", 1), slot(plugin, "b", 1):
        assert isinstance(plugin.around_attempt(attempt("a", 1)), Skip)
        assert isinstance(plugin.around_attempt(attempt("b", 1)), Skip)


def test_a_backend_without_a_limit_is_left_alone() -> None:
    assert Capacity().around_attempt(attempt("a", None)) is None


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_slot_is_given_back_however_the_attempt_ended(error: type[BaseException]) -> None:
    plugin = Capacity()
    with contextlib.suppress(error):
        async with slot(plugin, "a", 1):
            raise error
    async with slot(plugin, "a", 1):
        pass


# through a gateway


@pytest.fixture
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(name="only") as backend:
        yield backend


@pytest.fixture
async def gateway(backend: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    limited = {"name": "only", "base_url": backend.url, "max_concurrency": 1}
    async with running_gateway(limited) as gateway:
        yield gateway


async def chat(gateway: RunningGateway, **fields: object) -> httpx.Response:
    return await gateway.client.post("/api/chat", json={**CHAT, **fields})


@pytest.mark.parametrize("after", ["nothing", 0, 2])
async def test_a_caller_that_leaves_gives_its_slot_back(
    backend: SimulatedOllama, gateway: RunningGateway, after: str | int
) -> None:
    backend.script("/api/chat", Hang(after=after))  # type: ignore[arg-type]
    stuck = asyncio.create_task(chat(gateway))
    await backend.wait_for(lambda backend: backend.concurrent == 1)
    refused = await chat(gateway)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")

    stuck.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stuck

    async def free() -> bool:
        return (await chat(gateway)).status_code == 200

    await until(free, within=2)
    assert backend.max_concurrent == 1


@pytest.mark.parametrize("fault", [Status(500), Status(400), Cut(after="nothing"), Cut(after=1)])
async def test_a_request_that_fails_gives_its_slot_back(
    backend: SimulatedOllama, gateway: RunningGateway, fault: Status | Cut
) -> None:
    backend.script("/api/chat", fault)
    await chat(gateway)
    assert (await chat(gateway)).status_code == 200


async def test_of_two_backends_the_full_one_is_passed_over(backend: SimulatedOllama) -> None:
    async with SimulatedOllama(name="second") as second:
        limited = {"name": "only", "base_url": backend.url, "max_concurrency": 1}
        backend.script("/api/chat", Hang(after=1))
        async with running_gateway(limited, second) as gateway:
            stuck = asyncio.create_task(chat(gateway))
            await backend.wait_for(lambda backend: backend.concurrent == 1)
            assert "simulated backend second" in (await chat(gateway, stream=False)).text
            stuck.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await stuck
