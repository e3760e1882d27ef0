"""No backend runs more requests at the same time than it may; those that find all backends full wait, fairly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Annotated

from pydantic import BaseModel, Field

from herdgate import App, Attempt, AttemptOutcome, Candidate, Duration, Exchange, Refusal, Skip, hookimpl
from herdgate_plugins.capacity.queue import Queue, Ticket
from herdgate_plugins.capacity.slots import Slots

BUSY = "server busy, please try again.  maximum pending requests exceeded"  # Ollama's own words, two spaces included
UNKNOWN_DURATION = 5.0
"""Seconds until a slot is free, as long as no request of a model has ended."""
LONGEST_RETRY_AFTER = 600.0
WEIGHT = 0.2
"""How much the latest duration counts in the average of a model."""
_SKIPPED = "capacity"
"""The note that tells which backends of an exchange were full."""


class Capacity:
    """Passes over a backend that runs `max_concurrency` requests, or as many of one model as its `model_concurrency`
    allows. When all that are left are full, the request waits for the first free slot. Callers take turns, however many
    requests each has waiting, and no model waits for another one's slot. Counts in each process of the gateway by
    itself.
    """

    herdgate_api = 1

    class Settings(BaseModel):
        """`queue`: how many requests may wait for one model (64); 0: none waits. `wait`: how long each of them may
        (60 s).
        """

        queue: Annotated[int, Field(ge=0)] = 64
        wait: Duration = 60.0

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wait = settings.wait
        self._length = settings.queue
        self._queue = Queue()
        self._slots = Slots()
        self._durations = Durations()
        self._turns: dict[Exchange, Ticket] = {}

    @hookimpl
    @contextmanager
    def lifespan(self, app: App) -> Iterator[None]:
        """Count on from what ran and waited before a reload: those requests still do."""
        mine = (self._slots, self._queue, self._durations)
        self._slots, self._queue, self._durations = app.memory.setdefault("capacity", mine)
        yield

    @hookimpl
    def around_attempt(self, exchange: Exchange, attempt: Attempt) -> AbstractContextManager[None] | Skip | None:
        """Take a slot for as long as the attempt lasts, its stream included."""
        candidate = attempt.candidate
        if not self._slots.concern(candidate.backend):
            return None
        if self._slots.learn(candidate.backend, exchange.started):
            self._serve()
        turn = self._turns.get(exchange)
        mine = turn.granted if turn else None
        if mine is not None:
            if mine is not candidate:
                return Skip("it is this request's turn elsewhere")
            return _Lease(self, attempt, turn)
        if not self._slots.free(candidate):
            exchange.notes.setdefault(_SKIPPED, set()).add(candidate.backend.name)
            return Skip("it runs as many requests as it may")
        return _Lease(self, attempt)

    @hookimpl
    def wait_for_turn(
        self, exchange: Exchange, candidates: Sequence[Candidate]
    ) -> AbstractAsyncContextManager[Refusal | None] | None:
        """Wait for a slot at one of the backends that were full."""
        full: set[str] = exchange.notes.pop(_SKIPPED, set())
        wanted = tuple(candidate for candidate in candidates if candidate.backend.name in full)
        return self._turn(exchange, wanted) if wanted else None

    def begins(self, attempt: Attempt, turn: Ticket | None) -> float:
        """Count an attempt; returns when that was."""
        if turn is None:
            self._slots.take(attempt.candidate)
        else:
            turn.granted = None  # the slot is taken already, and is this attempt's from here on
        return self._clock()

    def ends(self, attempt: Attempt, began_at: float) -> None:
        """Count it no more, and learn from it how long its model takes."""
        self._give_back(attempt.candidate)
        if attempt.outcome is AttemptOutcome.SUCCEEDED:
            self._durations.add(attempt.model.name.key, self._clock() - began_at)

    @asynccontextmanager
    async def _turn(self, exchange: Exchange, wanted: tuple[Candidate, ...]) -> AsyncIterator[Refusal | None]:
        ticket = Ticket(_caller(exchange), wanted[0].model.name.key, wanted)
        self._turns[exchange] = ticket
        try:
            yield None if await self._called(ticket) else self._refusal(ticket)
        finally:
            del self._turns[exchange]
            self._queue.leave(ticket)
            if ticket.granted is not None:
                self._give_back(ticket.granted)

    async def _called(self, ticket: Ticket) -> bool:
        """Whether the request has got a slot within the time that it may wait."""
        if self._grant(ticket):
            return True
        dropped = self._queue.join(ticket, self._length)
        if dropped is not None:
            dropped.called.set_result(None)
        await asyncio.wait([ticket.called], timeout=self._wait)
        return ticket.granted is not None

    def _give_back(self, candidate: Candidate) -> None:
        """Free a slot, or pass it on: it is never free while somebody waits who could use it."""
        self._slots.give_back(candidate)
        self._serve_one()

    def _serve(self) -> None:
        """Limits have changed, so there may be several free slots: those that wait come before who brought the news."""
        while self._serve_one():
            pass

    def _serve_one(self) -> bool:
        for ticket in self._queue.in_turn():
            if self._grant(ticket):
                self._queue.served(ticket)
                ticket.called.set_result(None)
                return True
        return False

    def _grant(self, ticket: Ticket) -> bool:
        """Give the request a slot if there is a free one that it can use."""
        granted = next((candidate for candidate in ticket.candidates if self._slots.free(candidate)), None)
        if granted is not None:
            self._slots.take(granted)
            ticket.granted = granted
        return granted is not None

    def _refusal(self, ticket: Ticket) -> Refusal:
        self._queue.leave(ticket)
        ahead = self._queue.waiting(ticket.model)
        slots = sum(limit for limit in map(self._slots.limit, ticket.candidates) if limit)
        seconds = self._durations.of(ticket.model) * (ahead + 1) / max(1, slots)
        return Refusal(BUSY, status=503, retry_after=min(seconds, LONGEST_RETRY_AFTER))


class _Lease(AbstractContextManager[None]):
    """The slot of one attempt, which may be the one that its request has waited for."""

    __slots__ = ("_attempt", "_began_at", "_capacity", "_turn")

    def __init__(self, capacity: Capacity, attempt: Attempt, turn: Ticket | None = None) -> None:
        self._capacity = capacity
        self._attempt = attempt
        self._turn = turn
        self._began_at = 0.0

    def __enter__(self) -> None:
        self._began_at = self._capacity.begins(self._attempt, self._turn)

    def __exit__(self, *_: object) -> None:
        self._capacity.ends(self._attempt, self._began_at)


def _caller(exchange: Exchange) -> str:
    """Whose turn it is: a key, or, of callers without one, an address."""
    identity = exchange.identity
    if identity is None or identity.anonymous:
        return f"anonymous {exchange.client}"
    return identity.key_id or identity.name


class Durations:
    """How long requests of each model have run, on average; recent ones count most."""

    def __init__(self) -> None:
        self._averages: dict[str, float] = {}

    def add(self, model: str, seconds: float) -> None:
        """One has ended after this time."""
        average = self._averages.get(model, seconds)
        self._averages[model] = average + WEIGHT * (seconds - average)

    def of(self, model: str) -> float:
        """The average in seconds."""
        return self._averages.get(model, UNKNOWN_DURATION)
