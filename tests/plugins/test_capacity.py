"""No backend runs more requests at the same time than it may; those that find all backends full wait, fairly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from herdgate import Attempt, AttemptOutcome, Backend, Candidate, Exchange, Identity, ModelEntry, ModelPattern, Skip
from herdgate.testing.faults import Cut, Hang, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.capacity.plugin import Capacity, Durations
from herdgate_plugins.capacity.queue import Queue, Ticket
from herdgate_plugins.capacity.slots import limit_of

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


def plugin(queue: int = 0, wait: float = 5.0) -> Capacity:
    return Capacity(Capacity.Settings(queue=queue, wait=wait))


def candidate(
    backend: str, limit: int | None = None, model: str = "llama3", models: Mapping[str, int] | None = None
) -> Candidate:
    limits = tuple((ModelPattern.parse(pattern), count) for pattern, count in (models or {}).items())
    found = Backend(backend, "http://gpu", max_concurrency=limit, model_concurrency=limits)
    return Candidate(found, ModelEntry.from_tags({"name": model}))


def exchange(caller: str = "alice") -> Exchange:
    made = Exchange("r", method="POST", path="/api/chat", client="127.0.0.1")
    made.identity = Identity(caller, key_id=caller)
    return made


@dataclass
class Caller:
    """Does with a plugin what the core does with one request."""

    plugin: Capacity
    exchange: Exchange

    def tries(self, candidate: Candidate) -> AbstractContextManager[None] | Skip | None:
        return self.plugin.around_attempt(self.exchange, Attempt(1, candidate))

    def waits(self, *candidates: Candidate) -> AbstractAsyncContextManager[Any]:
        for each in candidates:
            assert isinstance(self.tries(each), Skip)
        waiting = self.plugin.wait_for_turn(self.exchange, candidates)
        assert waiting is not None
        return waiting


@dataclass
class AppWith:
    """As much of an `App` as the plugin looks at."""

    memory: dict[str, Any]


def caller(plugin: Capacity, name: str = "alice") -> Caller:
    return Caller(plugin, exchange(name))


def slot(plugin: Capacity, candidate: Candidate) -> AbstractContextManager[None]:
    taken = caller(plugin).tries(candidate)
    assert taken is not None
    assert not isinstance(taken, Skip)
    return taken


# counting


async def test_a_full_backend_is_skipped_until_a_request_has_ended() -> None:
    capacity, a = plugin(), candidate("a", 2)
    with slot(capacity, a):
        with slot(capacity, a):
            assert isinstance(caller(capacity).tries(a), Skip)
        with slot(capacity, a):
            assert isinstance(caller(capacity).tries(a), Skip)


async def test_each_backend_is_counted_by_itself() -> None:
    capacity, a, b = plugin(), candidate("a", 1), candidate("b", 1)
    with slot(capacity, a), slot(capacity, b):
        assert isinstance(caller(capacity).tries(a), Skip)
        assert isinstance(caller(capacity).tries(b), Skip)


async def test_each_model_is_counted_by_itself() -> None:
    capacity = plugin()
    big, small = (candidate("a", 3, model, models={"*": 1}) for model in ("big", "small"))
    with slot(capacity, big), slot(capacity, small):
        assert isinstance(caller(capacity).tries(big), Skip)
        with slot(capacity, candidate("a", 3, "third", models={"*": 1})):
            assert isinstance(caller(capacity).tries(candidate("a", 3, "fourth", models={"*": 1})), Skip)


@pytest.mark.parametrize(
    ("limit", "models", "expected"),
    [
        (None, {}, None),
        (4, {}, 4),
        (None, {"llama*": 2}, 2),
        (1, {"llama*": 2}, 1),
        (4, {"qwen*": 1}, 4),
        (4, {"llama3": 3, "*": 1}, 3),
        (4, {"*": 1, "llama3": 3}, 1),
    ],
)
def test_the_first_pattern_that_matches_counts(limit: int | None, models: dict[str, int], expected: int | None) -> None:
    found = candidate("a", limit, models=models)
    assert limit_of(found.backend, found.model.name) == expected


def test_a_backend_without_a_limit_refuses_nobody() -> None:
    capacity, a = plugin(), candidate("a")
    assert caller(capacity).tries(a) is None


def test_what_runs_without_a_limit_counts_while_the_backend_has_one_for_others() -> None:
    capacity = plugin()
    with slot(capacity, candidate("a", 1)):
        assert isinstance(caller(capacity).tries(candidate("a", 1)), Skip)
        with slot(capacity, candidate("a")):
            pass
    assert caller(capacity).tries(candidate("a")) is None


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_slot_is_given_back_however_the_attempt_ended(error: type[BaseException]) -> None:
    capacity, a = plugin(), candidate("a", 1)
    with contextlib.suppress(error), slot(capacity, a):
        raise error
    with slot(capacity, a):
        pass


# waiting


async def test_only_those_wait_that_were_skipped_for_want_of_a_slot() -> None:
    capacity = plugin(queue=1)
    assert capacity.wait_for_turn(exchange(), [candidate("a", 1), candidate("b")]) is None


async def test_who_waits_gets_the_slot_that_is_given_back_before_anybody_else() -> None:
    capacity, a = plugin(queue=1), candidate("a", 1)
    waiting = caller(capacity)
    async with AsyncExitStack() as running:
        running.enter_context(slot(capacity, a))
        task = asyncio.create_task(waiting.waits(a).__aenter__())
        await asyncio.sleep(0)
    assert isinstance(caller(capacity).tries(a), Skip), "given back, and given away at once"
    assert await task is None
    granted = waiting.tries(a)
    assert granted is not None
    assert not isinstance(granted, Skip)
    with granted:
        assert isinstance(caller(capacity).tries(a), Skip)


async def test_a_turn_is_one_slot_which_its_attempt_holds_to_its_own_end() -> None:
    capacity, a = plugin(queue=0), candidate("a", 2)
    late = caller(capacity)
    with slot(capacity, a), slot(capacity, a):
        waiting = late.waits(a)
    with ExitStack() as attempt:
        async with waiting:
            granted = late.tries(a)
            assert isinstance(granted, AbstractContextManager)
            attempt.enter_context(granted)
            with slot(capacity, a):
                pass
        with slot(capacity, a):
            assert isinstance(caller(capacity).tries(a), Skip)
    with slot(capacity, a), slot(capacity, a):
        assert isinstance(caller(capacity).tries(a), Skip)


async def test_a_slot_that_has_become_free_by_then_is_taken_at_once() -> None:
    capacity, a = plugin(queue=0), candidate("a", 1)
    late = caller(capacity)
    with slot(capacity, a):
        waiting = late.waits(a)
    async with waiting as refusal:
        assert refusal is None
        assert isinstance(caller(capacity).tries(a), Skip)


async def test_who_waits_goes_by_new_limits_and_before_who_brings_them() -> None:
    capacity, a = plugin(queue=2), candidate("a", 1)
    early = caller(capacity)
    with slot(capacity, a):
        queued = [asyncio.create_task(caller(capacity).waits(a).__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        more = candidate("a", 3)
        assert isinstance(caller(capacity).tries(more), Skip), "both that waited have got their slots"
        assert [await task for task in queued] == [None, None]
        assert isinstance(early.tries(a), Skip), "and an older request's view counts no more"
        with slot(capacity, candidate("a", 4)):
            pass


async def test_a_configuration_that_never_serves_changes_no_queue() -> None:
    app = AppWith({})
    with ExitStack() as running:
        capacity = plugin(queue=1)
        running.enter_context(capacity.lifespan(app))  # type: ignore[arg-type]
        with plugin(queue=0).lifespan(app):  # type: ignore[arg-type]
            pass
        a = candidate("a", 1)
        running.enter_context(slot(capacity, a))
        task = asyncio.create_task(caller(capacity).waits(a).__aenter__())
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_who_has_to_make_room_is_told_at_once() -> None:
    capacity, a = plugin(queue=2, wait=60), candidate("a", 1)
    async with AsyncExitStack() as turns:
        turns.enter_context(slot(capacity, a))
        entered = []
        for name in ("alice", "alice", "bob"):
            entered.append(asyncio.create_task(turns.enter_async_context(caller(capacity, name).waits(a))))
            await asyncio.sleep(0)
        assert (await entered[1]).status == 503
        assert not entered[0].done()
        assert not entered[2].done()
        for task in entered:
            task.cancel()
        await asyncio.wait(entered)


async def test_a_turn_that_is_not_used_goes_to_the_next_one() -> None:
    capacity, a = plugin(queue=2), candidate("a", 1)
    async with AsyncExitStack() as turns:
        with slot(capacity, a):
            first = asyncio.create_task(turns.enter_async_context(caller(capacity).waits(a)))
            await asyncio.sleep(0)
            second = asyncio.create_task(turns.enter_async_context(caller(capacity).waits(a)))
            await asyncio.sleep(0)
        assert await first is None
        assert not second.done()
        await turns.aclose()
        assert await second is None
        await turns.aclose()
    with slot(capacity, a):
        pass


async def test_a_turn_at_one_backend_is_none_at_another() -> None:
    capacity, a, b = plugin(queue=1), candidate("a", 1), candidate("b", 1)
    waiting = caller(capacity)
    async with AsyncExitStack() as turn:
        turn.enter_context(slot(capacity, a))
        with slot(capacity, b):
            entered = asyncio.create_task(turn.enter_async_context(waiting.waits(a, b)))
            await asyncio.sleep(0)
        assert await entered is None
        assert isinstance(waiting.tries(a), Skip)
        assert not isinstance(waiting.tries(b), Skip)


async def test_a_caller_that_leaves_the_queue_leaves_nothing_behind() -> None:
    capacity, a = plugin(queue=1), candidate("a", 1)
    with slot(capacity, a):
        task = asyncio.create_task(caller(capacity).waits(a).__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other = asyncio.create_task(caller(capacity).waits(a).__aenter__())  # there is room in the queue
        await asyncio.sleep(0)
        assert not other.done()
        other.cancel()
        await asyncio.wait([other])
    with slot(capacity, a):
        pass


async def test_a_caller_that_leaves_at_the_moment_of_its_turn_gives_it_back() -> None:
    capacity, a = plugin(queue=1), candidate("a", 1)
    with slot(capacity, a):
        task = asyncio.create_task(caller(capacity).waits(a).__aenter__())
        await asyncio.sleep(0)
    task.cancel()  # called, but it has not run since
    with pytest.raises(asyncio.CancelledError):
        await task
    with slot(capacity, a):
        pass


async def test_a_model_that_is_full_makes_no_other_wait() -> None:
    capacity = plugin(queue=2)
    busy, other = (candidate("a", None, model, models={"*": 1}) for model in ("busy", "other"))
    async with AsyncExitStack() as running:
        running.enter_context(slot(capacity, busy))
        queued = [asyncio.create_task(caller(capacity).waits(busy).__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        with slot(capacity, other):
            ahead = asyncio.create_task(caller(capacity).waits(other).__aenter__())
            await asyncio.sleep(0)
        assert await ahead is None, "the slot was of no use to those who came earlier"
        assert not any(task.done() for task in queued)
        for task in queued:
            task.cancel()
        await asyncio.wait(queued)


# the order of turns


async def test_callers_take_turns_however_many_requests_each_has_waiting() -> None:
    queue = Queue()
    tickets = [Ticket(name, "m", ()) for name in ("a", "a", "a", "b", "c", "c")]
    for ticket in tickets:
        assert queue.join(ticket, 10) is None
    order = []
    while (following := next(queue.in_turn(), None)) is not None:
        queue.served(following)
        order.append(tickets.index(following))
    assert order == [0, 3, 4, 1, 5, 2]


async def test_a_full_queue_lets_in_who_has_less_waiting_and_drops_the_latest_of_who_has_most() -> None:
    queue = Queue()
    a1, a2, a3, a4, b1, b2, b3 = (Ticket(name, "m", ()) for name in "aaaabbb")
    assert [queue.join(ticket, 3) for ticket in (a1, a2, a3)] == [None, None, None]
    assert queue.join(a4, 3) is a4
    assert queue.join(b1, 3) is a3
    assert queue.join(b2, 3) is b2, "one of two is as much as one of two"
    queue.leave(a2)
    assert queue.join(b3, 3) is None
    assert list(queue.in_turn()) == [a1, b1, b3]


async def test_each_model_has_a_queue_of_its_own_length() -> None:
    queue = Queue()
    first, second, third = Ticket("a", "m", ()), Ticket("a", "n", ()), Ticket("a", "n", ())
    assert [queue.join(ticket, 1) for ticket in (first, second, third)] == [None, None, third]
    assert (queue.waiting("m"), queue.waiting("n"), queue.waiting("o")) == (1, 1, 0)


def test_the_average_of_durations_follows_the_recent_ones() -> None:
    durations = Durations()
    assert durations.of("m") == 5.0
    durations.add("m", 10.0)
    assert durations.of("m") == 10.0
    for _ in range(50):
        durations.add("m", 2.0)
    assert durations.of("m") == pytest.approx(2.0, abs=0.01)
    assert durations.of("n") == 5.0


async def test_only_requests_that_were_answered_say_how_long_one_takes() -> None:
    times = iter([0.0, 200.0, 240.0, 300.0])
    capacity, a = Capacity(Capacity.Settings(queue=0), lambda: next(times)), candidate("a", 1)
    for outcome in (AttemptOutcome.FAILED, AttemptOutcome.SUCCEEDED):
        attempt = Attempt(1, a, outcome)
        lease = capacity.around_attempt(exchange(), attempt)
        assert lease is not None
        assert not isinstance(lease, Skip)
        with lease:
            pass
    async with AsyncExitStack() as stack:
        stack.enter_context(slot(capacity, a))
        refusal = await stack.enter_async_context(caller(capacity).waits(a))
        assert refusal.retry_after == 40.0


# through a gateway


@asynccontextmanager
async def gateway_with(
    *backends: SimulatedOllama, queue: int = 64, wait: str = "60s", **limits: object
) -> AsyncIterator[RunningGateway]:
    limited = [{"name": sim.name, "base_url": sim.url, **(limits or {"max_concurrency": 1})} for sim in backends]
    uses = ["configured_backends", "ollama_discovery", "api_keys", "model_access", "capacity"]
    toml = "".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses) + f'queue = {queue}\nwait = "{wait}"\n'
    async with running_gateway(*limited, toml=toml) as gateway:
        yield gateway


@pytest.fixture
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(name="only", models=["llama3.2", "qwen3"]) as backend:
        yield backend


async def chat(gateway: RunningGateway, headers: dict[str, str] | None = None, **fields: object) -> httpx.Response:
    return await gateway.client.post("/api/chat", json={**CHAT, **fields}, headers=headers)


async def waiting(gateway: RunningGateway, count: int, model: str = "llama3.2") -> None:
    """Until so many requests wait."""
    points = gateway.gateway.runtime.points
    queue: Queue = next(each.instance for each in points.plugins if each.name == "capacity")._queue  # type: ignore[attr-defined]
    await until(lambda: queue.waiting(f"registry.ollama.ai/library/{model}:latest") == count)


async def stop(task: asyncio.Task[httpx.Response]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def held(backend: SimulatedOllama, gateway: RunningGateway) -> asyncio.Task[httpx.Response]:
    """A request that holds a slot until it is stopped."""
    running = backend.concurrent
    backend.script("/api/chat", Hang(after=1))
    task = asyncio.create_task(chat(gateway))
    await backend.wait_for(lambda backend: backend.concurrent == running + 1)
    return task


@pytest.mark.parametrize("after", ["nothing", 0, 2])
async def test_a_caller_that_leaves_gives_its_slot_to_the_one_that_waits(
    backend: SimulatedOllama, after: str | int
) -> None:
    async with gateway_with(backend) as gateway:
        backend.script("/api/chat", Hang(after=after))  # type: ignore[arg-type]
        stuck = asyncio.create_task(chat(gateway))
        await backend.wait_for(lambda backend: backend.concurrent == 1)
        queued = asyncio.create_task(chat(gateway))
        await waiting(gateway, 1)
        await stop(stuck)
        assert (await queued).status_code == 200
    assert backend.max_concurrent == 1


@pytest.mark.parametrize("fault", [Status(500), Status(400), Cut(after="nothing"), Cut(after=1)])
async def test_a_request_that_fails_gives_its_slot_back(backend: SimulatedOllama, fault: Status | Cut) -> None:
    async with gateway_with(backend, queue=0) as gateway:
        backend.script("/api/chat", fault)
        await chat(gateway)
        assert (await chat(gateway)).status_code == 200


async def test_of_two_backends_the_full_one_is_passed_over(backend: SimulatedOllama) -> None:
    async with SimulatedOllama(name="second") as second, gateway_with(backend, second) as gateway:
        stuck = await held(backend, gateway)
        assert "simulated backend second" in (await chat(gateway, stream=False)).text
        await stop(stuck)


async def test_when_both_are_full_the_first_to_be_free_is_taken(backend: SimulatedOllama) -> None:
    async with SimulatedOllama(name="second") as second, gateway_with(backend, second) as gateway:
        stuck = [await held(backend, gateway), await held(second, gateway)]
        queued = asyncio.create_task(chat(gateway, stream=False))
        await waiting(gateway, 1)
        await stop(stuck[1])
        assert "simulated backend second" in (await queued).text
        await stop(stuck[0])


@pytest.mark.parametrize(("queue", "wait"), [(0, "60s"), (64, "50ms")])
async def test_a_request_that_does_not_get_its_turn_is_told_when_to_come_back(
    backend: SimulatedOllama, queue: int, wait: str
) -> None:
    async with gateway_with(backend, queue=queue, wait=wait) as gateway:
        stuck = await held(backend, gateway)
        for path, error in (("/api/chat", "error"), ("/v1/chat/completions", "error")):
            refused = await gateway.client.post(path, json=CHAT)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert "server busy" in str(refused.json()[error])
        await stop(stuck)
        assert (await chat(gateway)).status_code == 200


async def test_retry_after_follows_from_how_long_requests_take(backend: SimulatedOllama) -> None:
    async with gateway_with(backend, queue=2, max_concurrency=2) as gateway:
        capacity = next(each.instance for each in gateway.gateway.runtime.points.plugins if each.name == "capacity")
        capacity._durations.add("registry.ollama.ai/library/llama3.2:latest", 30.0)  # type: ignore[attr-defined]
        stuck = [await held(backend, gateway) for _ in range(2)]
        queued = [asyncio.create_task(chat(gateway)) for _ in range(2)]
        await waiting(gateway, 2)
        refused = await chat(gateway)
        assert refused.headers["retry-after"] == "45"  # two wait before it, two slots, 30 s each
        for task in (*queued, *stuck):
            await stop(task)


async def test_a_model_at_its_limit_does_not_hold_up_another(backend: SimulatedOllama) -> None:
    async with gateway_with(backend, model_concurrency={"llama3.2": 1}) as gateway:
        stuck = await held(backend, gateway)
        queued = asyncio.create_task(chat(gateway))
        await waiting(gateway, 1)
        assert (await chat(gateway, model="qwen3")).status_code == 200
        assert not queued.done()
        await stop(stuck)
        assert (await queued).status_code == 200


async def test_callers_take_turns(backend: SimulatedOllama) -> None:
    async with gateway_with(backend) as gateway:
        alice, bob = [await gateway.make_key("*", name=name) for name in ("alice", "bob")]
        backend.script("/api/chat", Hang(after=1))
        stuck = asyncio.create_task(chat(gateway, alice))
        await backend.wait_for(lambda backend: backend.concurrent == 1)
        queued = []
        for number, key in enumerate([alice, alice, alice, bob]):
            message = {"role": "user", "content": f"number-{number}"}
            queued.append(asyncio.create_task(chat(gateway, key, messages=[message])))
            await waiting(gateway, number + 1)
        await stop(stuck)
        await asyncio.gather(*queued)
    served = [request.json["messages"][0]["content"] for request in backend.requests if request.path == "/api/chat"]
    assert served[1:] == ["number-0", "number-3", "number-1", "number-2"]
    assert backend.max_concurrent == 1


async def test_a_failed_backend_is_not_waited_for_and_the_full_one_is(backend: SimulatedOllama) -> None:
    async with SimulatedOllama(name="second") as second, gateway_with(backend, second) as gateway:
        stuck = await held(backend, gateway)
        second.script("/api/chat", Status(503), times=None)
        queued = asyncio.create_task(chat(gateway, stream=False))
        await waiting(gateway, 1)
        await stop(stuck)
        assert "simulated backend only" in (await queued).text
        assert sum(request.path == "/api/chat" for request in second.requests) == 1
