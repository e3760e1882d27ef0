"""All bodies together have a limit, and what is given back can be taken again."""

from __future__ import annotations

import asyncio

import pytest

from herdgate.bodybudget import BodyBudget, OutOfMemory
from herdgate.testing.faults import Hang
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama


def test_what_does_not_fit_is_refused_and_not_counted() -> None:
    budget = BodyBudget(10)
    budget.take(6)
    with pytest.raises(OutOfMemory):
        budget.take(5)
    assert budget.held == 6
    budget.take(4)
    budget.give_back(10)
    assert budget.held == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_more_large_requests_than_there_is_room_for_get_503_until_some_have_ended(chunked: bool) -> None:
    body = b'{"model":"llama3.2","stream":false,"prompt":"%b"}' % (b"x" * 900)

    async def pieces() -> object:
        yield body

    go_on = asyncio.Event()
    async with (
        SimulatedOllama() as backend,
        running_gateway(backend, toml="[server]\nmax_body = 1000\n") as gateway,
        asyncio.TaskGroup() as crowd,
    ):
        backend.script("/api/generate", Hang(until=go_on), times=8)
        held = [crowd.create_task(gateway.client.post("/api/generate", content=body)) for _ in range(8)]
        await backend.wait_for(lambda sim: sim.concurrent == 8)
        refused = await gateway.client.post("/api/generate", content=pieces() if chunked else body)  # type: ignore[arg-type]
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        go_on.set()
        assert [(await each).status_code for each in held] == [200] * 8
        assert (await gateway.client.post("/api/generate", content=body)).status_code == 200
