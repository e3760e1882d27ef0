"""A plugin that counts, inside the gateway, what must come back to nothing and what must happen exactly once."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from herdgate import Action, App, Call, Reply, Route, Summary, hookimpl

PATH = "/herdgate/chaos"


class Counts:
    """What all instances of the plugin have counted, those before a reload included."""

    def __init__(self) -> None:
        self.leases: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()


class Witness:
    """Leases that are open, requests by how often they have ended, tasks, file descriptors, memory."""

    herdgate_api = 1

    def __init__(self) -> None:
        self._counts = Counts()

    @hookimpl
    @contextmanager
    def lifespan(self, app: App) -> Iterator[None]:
        self._counts = app.memory.setdefault("witness", self._counts)
        yield

    @hookimpl
    @contextmanager
    def admit(self) -> Iterator[None]:
        with self._leased("admitted"):
            yield

    @hookimpl
    @contextmanager
    def around_attempt(self) -> Iterator[None]:
        with self._leased("attempts"):
            yield

    @contextmanager
    def _leased(self, name: str) -> Iterator[None]:
        self._counts.leases[name] += 1
        try:
            yield
        finally:
            self._counts.leases[name] -= 1

    @hookimpl
    def exchange_ended(self, summary: Summary) -> None:
        if summary.exchange.id.startswith("say-"):
            self._counts.ended[summary.exchange.id] += 1
            self._counts.outcomes[summary.outcome.value] += 1

    @hookimpl
    def routes(self) -> Route:
        return Route(PATH, self._told, Action.ADMINISTER, methods=frozenset({"GET", "DELETE"}))

    async def _told(self, call: Call) -> Reply:
        """The figures; DELETE forgets which requests there were, so that they do not count as a leak."""
        counts = self._counts
        told = {
            "leases": sum(counts.leases.values()) - 1,  # the one of this very request
            "ended": counts.ended.total(),
            "twice": [identity for identity, times in counts.ended.items() if times > 1],
            "outcomes": dict(counts.outcomes),
            "tasks": len(asyncio.all_tasks()),
            "descriptors": _descriptors(),
            "memory": _resident(),
        }
        if call.exchange.method == "DELETE":
            counts.ended.clear()
            counts.outcomes.clear()
        return Reply(200, {"content-type": "application/json"}, json.dumps(told).encode())


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
