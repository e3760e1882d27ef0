"""The framing corpus through real proxies: whatever they make of it, the gateway sees the same requests as they do."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from tests.stories.conftest import CHAT, MODEL
from tests.stories.doors import POLLS
from tests.stories.framing.case import LENGTH, SECOND, SECRET, Case, post
from tests.stories.framing.corpus import GROUPS
from tests.stories.proxies import HAPROXY, NGINX, Proxy, RunningProxy, Wire, running_proxy

from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import Received, SimulatedOllama

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLLOWING = "/api/generate"
PATIENCE = 0.3
"""Seconds after which a caller leaves a proxy that waits for more of the request."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(models=[MODEL]) as running:
        yield running


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[NGINX, HAPROXY], ids=lambda proxy: str(proxy.program)
)
async def proxy(backend: SimulatedOllama, request: pytest.FixtureRequest) -> AsyncIterator[RunningProxy]:
    kind: Proxy = request.param
    program = kind.find()
    if program is None:
        pytest.skip(f"{kind.program} is not installed")
    with tempfile.TemporaryDirectory(prefix="hg-") as directory:  # short: it holds a socket
        async with (
            running_gateway(backend) as gateway,
            running_proxy(kind, program, gateway.url, Path(directory)) as running,
        ):
            yield running


@pytest.mark.parametrize("group", GROUPS)
async def test_a_gateway_behind_a_proxy_sees_its_requests_and_no_others(
    proxy: RunningProxy, backend: SimulatedOllama, group: str
) -> None:
    wrong = {}
    for name, case in GROUPS[group].items():
        before = len(backend.requests)
        seen = {id(wire): (len(wire.marks), len(wire.answered)) for wire in proxy.tap.wires}
        await dialogue(proxy, case.sent if case.leaves else case.sent + SECOND, leaves=case.leaves)
        changed = [wire for wire in proxy.tap.wires if (len(wire.marks), len(wire.answered)) != seen.get(id(wire))]
        marks = sum(len(wire.marks) - seen.get(id(wire), (0, 0))[0] for wire in changed)
        reached = [asked for asked in backend.requests[before:] if asked.path not in POLLS]
        if problems := "; ".join(filter(None, [*map(unasked, changed), unexpected(case, reached, marks)])):
            wrong[name] = problems
    assert wrong == {}
    assert backend.malformed == []


async def test_a_proxy_passes_on_what_is_proper(proxy: RunningProxy, backend: SimulatedOllama) -> None:
    """Else the corpus would show nothing."""
    before = len(backend.requests)
    said = await dialogue(proxy, post(LENGTH) * 2 + SECOND)
    assert said.count(b"HTTP/1.1 200 OK") == 3
    paths = [asked.path for asked in backend.requests[before:] if asked.path not in POLLS]
    assert paths == [CHAT, CHAT, FOLLOWING]
    assert sum(len(wire.marks) for wire in proxy.tap.wires) >= 3


async def dialogue(proxy: RunningProxy, sent: bytes, *, leaves: bool = False) -> bytes:
    """Everything that the proxy says until it closes the connection, or until it has waited too long for more."""
    said = bytearray()
    async with proxy.connected() as connection:
        connection.send(sent)
        if leaves:
            connection.writer.write_eof()
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(PATIENCE):
                while data := await connection.some():
                    said += data
    return bytes(said)


def unasked(wire: Wire) -> str:
    """A reply that belongs to no request of the proxy: the sign of a request that the gateway saw and it did not."""
    marks = wire.marks
    for place, (status, identity) in enumerate(wire.replies):
        if place >= len(marks):
            return f"{len(wire.replies)} replies to {len(marks)} requests: {bytes(wire.asked)!r:.300}"
        refused = 400 <= status < 500 and place == len(wire.replies) - 1  # what cannot be read has no id to be kept
        if identity != marks[place] and not refused:
            return f"reply {place} is for {identity!r}, not for {marks[place]!r}"
    return ""


def unexpected(case: Case, reached: list[Received], marks: int) -> str:
    """A request at a backend that the caller did not send, as the proxy understood it."""
    paths = Counter(asked.path for asked in reached)
    if set(paths) - {CHAT, FOLLOWING} or paths[CHAT] > len(case.expect.replies) or paths[FOLLOWING] > 1:
        return f"reached a backend: {paths}"
    if paths.total() > marks:
        return f"{paths.total()} requests of {marks} reached a backend"
    if any(SECRET.decode() in str(asked.headers) for asked in reached):
        return "a header of the caller reached a backend"
    return ""
