"""Requests of every kind, so that each hook is asked, and meets what it will meet in use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import httpx

from herdgate.testing.canary import Canary
from herdgate.testing.faults import Cut, ErrorEvent, Hang, Slow, Status
from herdgate.testing.gateway import until
from herdgate.testing.plugin_gateway import PluginGateway

LEAVES_AFTER = 0.05
"""Seconds after which a caller leaves to whom nothing has been sent."""

Request = Callable[[PluginGateway, Canary], Awaitable[object]]


async def all_kinds_of_requests(gateway: PluginGateway, canary: Canary) -> None:
    """Send them one after another, until one meets a fault: what the log says of it says enough."""
    for request in REQUESTS:
        await request(gateway, canary)
        if gateway.faults:
            return
    await until(lambda: not any(backend.concurrent for backend in gateway.backends))


async def _answered(gateway: PluginGateway, canary: Canary) -> None:
    for stream in (True, False):
        await gateway.chat(stream=stream, headers=canary.headers)
    await gateway.client.get("/api/tags", headers=canary.headers)
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
    await gateway.client.post("/v1/chat/completions", json={**body, "stream": True}, headers=canary.headers)
    await gateway.client.post("/v1/chat/completions", json=body)


async def _denied(gateway: PluginGateway, canary: Canary) -> None:
    await gateway.chat("no-such-model", headers=canary.headers)
    await gateway.client.post("/v1/chat/completions", json={"model": "no-such-model", "messages": []})


async def _failed(gateway: PluginGateway, canary: Canary) -> None:
    for fault in (Status(503), ErrorEvent(after=0), Cut(after=0), Cut(after=2)):
        for backend in gateway.backends[:1]:
            backend.script("/api/chat", fault)
        await _tolerated(gateway.chat(stream=True, headers=canary.headers))
    for backend in gateway.backends:
        backend.script("/api/chat", Status(500))
    await gateway.chat(headers=canary.headers)
    _behave(gateway)


async def _left(gateway: PluginGateway, canary: Canary) -> None:
    """Before the headers, and in the middle of the stream."""
    for backend in gateway.backends:
        backend.script("/api/chat", Hang(), times=None)
    await _tolerated(asyncio.wait_for(gateway.chat(headers=canary.headers), LEAVES_AFTER))
    _behave(gateway)
    for backend in gateway.backends:
        backend.script("/api/chat", Slow(0.01), times=None)
    body = {"model": "llama3.2", "stream": True, "messages": [{"role": "user", "content": "one two three four"}]}
    async with gateway.client.stream("POST", "/api/chat", json=body) as reply:
        async for _ in reply.aiter_bytes():
            break
    _behave(gateway)


async def _tolerated(request: Awaitable[object]) -> None:
    with suppress(httpx.HTTPError, TimeoutError):  # a stream that breaks, a caller that leaves: as it was meant
        await request


def _behave(gateway: PluginGateway) -> None:
    for backend in gateway.backends:
        backend.clear_script()


REQUESTS: Sequence[Request] = (_answered, _denied, _failed, _left)
