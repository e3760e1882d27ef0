"""Passes over backends that are dead or keep failing, and lets no request wait for a dead one.

Two things are watched. **Attempts**: failures in a row open the circuit of a backend, or of one model on it. What the
request itself may have caused counts only if another backend then answers the same request; 4xx and 503 never count.
**Backends**: each is asked for its version now and then, and every moment while somebody waits for it or doubts it. A
backend that does not answer is dead: its circuit opens, and requests that wait for it go on to the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Annotated

from pydantic import BaseModel, Field

from herdgate import Attempt, Candidate, Duration, Exchange, Fleet, hookimpl
from herdgate_plugins.health.blame import raises_doubt
from herdgate_plugins.health.circuits import Circuits
from herdgate_plugins.health.watch import Findings, Rhythm, Watch


class Health:
    """Counts and asks in each process of the gateway by itself."""

    herdgate_api = 1
    advisory = True

    class Settings(BaseModel):
        """Times are durations. `failures` (3): how many in a row open a circuit. `watch_after` (1 s): how long a
        request waits before its backend is asked whether it lives. `interval` (1.5 s): pause between two questions to
        a backend that is waited for or in doubt, and between two trials of a model. `patience` (3 s): how long a
        backend may leave questions unanswered before it counts as dead. `idle_interval` (10 s): pause between two
        questions to a backend of which nothing bad is known.
        """

        failures: Annotated[int, Field(ge=1)] = 3
        watch_after: Duration = 1.0
        interval: Duration = 1.5
        patience: Duration = 3.0
        idle_interval: Duration = 10.0

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.under_way: dict[_Around, None] = {}
        """Attempts of which it is not known yet that their first event has come, the oldest first."""
        self.circuits = Circuits(settings.failures, settings.interval, clock)
        rhythm = Rhythm(settings.watch_after, settings.interval, settings.idle_interval, settings.patience)
        self.watch = Watch(rhythm, Findings(self.circuits.alive, self.circuits.dead), clock)

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, fleet: Fleet) -> AsyncIterator[None]:
        """Watch for as long as the gateway runs."""
        task = asyncio.create_task(self.watch.run(fleet, self.waiting), name="health")
        yield
        task.cancel()
        await asyncio.wait([task])

    @hookimpl
    def select_candidates(self, exchange: Exchange, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        """Put what is not sound behind what is."""
        if not self.circuits.troubled:
            return None
        ordered = self.circuits.ordered(candidates)
        if ordered is not None:
            for candidate in candidates:
                exchange.explain("%s is %s", candidate.backend.name, self.circuits.standing(candidate).name.lower())
        return ordered

    @hookimpl
    def around_attempt(self, exchange: Exchange, attempt: Attempt) -> AbstractContextManager[None]:
        """Watch how the attempt goes."""
        return _Around(self, exchange, attempt)

    def waiting(self, seconds: float) -> Iterator[Attempt]:
        """The attempts that have waited this long for their first event, the oldest first."""
        now = self.clock()
        for around in list(self.under_way):
            attempt = around.attempt
            if now - around.since < seconds:
                return  # those behind it are younger still
            if attempt.first_event_after is not None:
                self.opened(around)
            elif attempt.sent_at is not None and now - attempt.sent_at >= seconds:
                yield attempt

    def opened(self, around: _Around) -> None:
        """Learn from an attempt whose first event has come; it is not waited for any more. May be told twice."""
        if around in self.under_way:
            del self.under_way[around]
            self.circuits.opened(around.exchange, around.attempt)

    def ends(self, around: _Around) -> None:
        """Learn from the end of an attempt."""
        attempt = around.attempt
        if attempt.first_event_after is not None:
            self.opened(around)
        self.under_way.pop(around, None)
        self.circuits.ends(attempt)
        if attempt.failure is not None and raises_doubt(attempt.failure):
            self.watch.doubt(attempt.backend)


class _Around(AbstractContextManager[None]):
    """One attempt and since when it has been under way."""

    __slots__ = ("attempt", "exchange", "health", "since")

    since: float

    def __init__(self, health: Health, exchange: Exchange, attempt: Attempt) -> None:
        self.health = health
        self.exchange = exchange
        self.attempt = attempt

    def __enter__(self) -> None:
        health = self.health
        self.since = health.clock()
        health.under_way[self] = None
        if health.circuits.troubled:
            health.circuits.begins(self.attempt)

    def __exit__(self, *_: object) -> None:
        health, attempt = self.health, self.attempt
        if attempt.failure is None and attempt.number == 1 and not health.circuits.troubled:
            health.under_way.pop(self, None)  # as nearly always: it went well, and there is nothing to make good
        else:
            health.ends(self)
