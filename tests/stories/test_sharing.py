"""Processes that share a state share the work of polling."""

from __future__ import annotations

import asyncio
from pathlib import Path

from herdgate.testing.gateway import running_gateway, until
from herdgate.testing.simulated import SimulatedOllama


def polls(backend: SimulatedOllama) -> int:
    return sum(request.path == "/api/tags" for request in backend.requests)


async def test_four_gateways_on_one_state_poll_hardly_more_than_one(first: SimulatedOllama, tmp_path: Path) -> None:
    env = {"HERDGATE_STATE": f"sqlite://{tmp_path}/shared.db", "HERDGATE_DISCOVERY_INTERVAL": "0.4"}
    async with (
        running_gateway(first, env=env),
        running_gateway(first, env=env),
        running_gateway(first, env=env),
        running_gateway(first, env=env),
    ):
        before = polls(first)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: polls(first) >= before + 6)
        rounds = (loop.time() - began) / 0.4
    assert rounds > 2.5  # each polling for itself would need a round and a half


async def test_what_one_gateway_learns_the_other_shows(first: SimulatedOllama, tmp_path: Path) -> None:
    env = {"HERDGATE_STATE": f"sqlite://{tmp_path}/shared.db"}
    async with running_gateway(first, env=env) as one, running_gateway(first, env=env) as other:
        first.models.add("brand-new")
        await one.knows("brand-new:latest")
        await other.knows("brand-new:latest")
