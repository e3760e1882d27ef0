"""How soon it is noticed that a client has left: in every window of a request, by every way of leaving.

One gateway and one simulated backend in one event loop, so that all times are of one clock. The backend takes one
request at a time: a slot that were not given back would stop the very next measurement.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from herdgate.testing.faults import Hang
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import Received, SimulatedOllama

PATH = "/api/chat"
QUEUE = "in the queue"
WINDOWS = {"before headers": "nothing", "before the first event": "headers", "in mid-stream": 2}
WAYS = ("close", "reset", "half-close")
BODIES = {"small": 0, "150 KB": 150_000}
REPLIES = ("streamed", "filtered", "whole")

WITNESS = """
import asyncio
from herdgate import hookimpl

class Same:
    def feed(self, data):
        return data

    def finish(self):
        return b""

class Witness:
    herdgate_api = 1
    waiting = 0
    ended = None

    @hookimpl
    def wait_for_turn(self):
        self.waiting += 1

    @hookimpl
    def filter_stream(self, exchange):
        return Same() if "x-filtered" in exchange.headers else None

    @hookimpl
    def exchange_ended(self, summary):
        self.ended = asyncio.get_running_loop().time(), summary.outcome.value
"""
"""Filters the streams of those that ask for it, and sees requests wait and end."""


@dataclass(frozen=True)
class Case:
    """One way of leaving at one moment."""

    window: str
    reply: str
    body: str
    way: str


@dataclass(frozen=True)
class Noticed:
    """Seconds from leaving until the backend saw its connection end (None if it never had the request), and until the
    request had ended in the gateway.
    """

    backend: float | None
    ended: float


def cases() -> list[Case]:
    """All of them; a reply that does not stream has no middle, and a queue knows nothing of replies."""
    found = []
    for window in (*WINDOWS, QUEUE):
        for reply in REPLIES:
            if (window == "in mid-stream" and reply == "whole") or (window == QUEUE and reply != "streamed"):
                continue
            found += [Case(window, reply, body, way) for body in BODIES for way in WAYS]
    return found


@asynccontextmanager
async def asking(
    gateway: RunningGateway, path: str, body: dict[str, object], headers: str = ""
) -> AsyncIterator[asyncio.StreamWriter]:
    """A client that has sent its request and reads nothing."""
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    writer.write(head.encode() + content)
    try:
        yield writer
    finally:
        writer.close()


def leave(writer: asyncio.StreamWriter, how: str) -> None:
    """End a client's connection in one of the ways in which clients do."""
    match how:
        case "close":
            writer.close()
        case "half-close":
            writer.write_eof()
        case "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Laboratory:
    """A gateway with one backend that takes one request at a time, and a witness among the plugins."""

    def __init__(self, gateway: RunningGateway, backend: SimulatedOllama) -> None:
        self.gateway = gateway
        self.backend = backend
        plugins = gateway.gateway.runtime.points.plugins
        self._witness: Any = next(plugin.instance for plugin in plugins if plugin.name == "witness")

    async def measure(self, case: Case) -> Noticed:
        """Ask, wait for the moment, leave, and see who notices when. Raises RuntimeError if something else happens."""
        if case.window == QUEUE:
            return await self._measure_queue(case)
        place = WINDOWS[case.window]
        self.backend.script(PATH, Hang(place))  # type: ignore[arg-type]
        before = len(self.backend.requests)
        async with self._asking(case) as writer:
            request = await self._reached(before, place if isinstance(place, int) else 0)
            left = await self._leave(writer, case.way)
            await self.backend.wait_for(lambda _: request.left_at is not None)
        assert request.left_at is not None  # noqa: S101 - waited for
        return Noticed(request.left_at - left, await self._ended() - left)

    async def _measure_queue(self, case: Case) -> Noticed:
        self.backend.script(PATH, Hang())
        before = len(self.backend.requests)
        async with self._asking(case) as holder:
            held = await self._reached(before, 0)
            waiting = self._witness.waiting
            async with self._asking(case) as writer:
                await until(lambda: self._witness.waiting > waiting)
                left = await self._leave(writer, case.way)
                noticed = Noticed(None, await self._ended() - left)
            await self._leave(holder, "close")
            await self.backend.wait_for(lambda _: held.left_at is not None)
            await self._ended()
        if sum(request.path == PATH for request in self.backend.requests[before:]) != 1:
            raise RuntimeError("a request that left the queue was sent all the same")
        return noticed

    def _asking(self, case: Case) -> Any:
        body = {
            "model": "llama3.2",
            "stream": case.reply != "whole",
            "messages": [{"role": "user", "content": "x" * BODIES[case.body]}],
        }
        return asking(self.gateway, PATH, body, "X-Filtered: yes\r\n" if case.reply == "filtered" else "")

    async def _reached(self, before: int, events: int) -> Received:
        def found() -> list[Received]:
            new = self.backend.requests[before:]
            return [each for each in new if each.path == PATH and each.events_sent >= events]

        await self.backend.wait_for(lambda _: bool(found()))
        return found()[0]

    async def _leave(self, writer: asyncio.StreamWriter, how: str) -> float:
        self._witness.ended = None
        left = asyncio.get_running_loop().time()
        leave(writer, how)
        return left

    async def _ended(self) -> float:
        await until(lambda: self._witness.ended is not None)
        at, outcome = self._witness.ended
        if outcome != "client_left":
            raise RuntimeError(f"the request ended as {outcome}")
        return float(at)


@asynccontextmanager
async def laboratory() -> AsyncIterator[Laboratory]:
    """Set one up."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "witness.py").write_text(WITNESS, "utf-8")
        uses = [
            "./witness.py:Witness",
            "configured_backends",
            "ollama_discovery",
            "api_keys",
            "model_access",
            "capacity",
        ]
        toml = "".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses)
        async with SimulatedOllama(name="narrow") as backend:
            limited = {"name": "narrow", "base_url": backend.url, "max_concurrency": 1}
            async with running_gateway(limited, toml=toml, directory=directory) as gateway:
                yield Laboratory(gateway, backend)


async def table(repetitions: int) -> str:
    """The table of all cases in Markdown: milliseconds, the middle and the worst of so many repetitions."""
    lines = ["| moment | reply | body | " + " | ".join(WAYS) + " |", "|" + " --- |" * (3 + len(WAYS))]
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    async with laboratory() as lab:
        for case in cases():
            seen = [await lab.measure(case) for _ in range(repetitions)]
            times = [each.ended if each.backend is None else max(each.backend, each.ended) for each in seen]
            cell = f"{median(times) * 1000:.2f} / {max(times) * 1000:.2f}"
            rows.setdefault((case.window, case.reply, case.body), {})[case.way] = cell
    lines += [f"| {' | '.join(row)} | {' | '.join(cells[way] for way in WAYS)} |" for row, cells in rows.items()]
    return "\n".join(lines)
