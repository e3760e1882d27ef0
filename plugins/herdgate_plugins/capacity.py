"""No backend runs more requests at the same time than it may; those that find all backends full wait, fairly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, Field

from herdgate import App, Attempt, AttemptOutcome, Candidate, Duration, Exchange, Refusal, Skip, hookimpl

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
        self._queue = Queue(settings.queue)
        self._slots = Slots()
        self._durations = Durations()
        self._turns: dict[Exchange, Ticket] = {}

    @hookimpl
    @contextmanager
    def lifespan(self, app: App) -> Iterator[None]:
        """Count on from what ran and waited before a reload: those requests still do."""
        length = self._queue.length
        mine = (self._slots, self._queue, self._durations)
        self._slots, self._queue, self._durations = app.memory.setdefault("capacity", mine)
        self._queue.length = length
        yield

    @hookimpl
    def around_attempt(self, exchange: Exchange, attempt: Attempt) -> AbstractContextManager[None] | Skip | None:
        """Take a slot for as long as the attempt lasts, its stream included."""
        candidate = attempt.candidate
        backend = candidate.backend
        if backend.max_concurrency is None and not backend.model_concurrency:
            return None
        turn = self._turns.get(exchange)
        mine = turn.granted if turn else None
        if mine is not None:
            if mine is not candidate:
                return Skip("it is this request's turn elsewhere")
            return _Lease(self, attempt, turn)
        if not self._slots.free(candidate):
            exchange.notes.setdefault(_SKIPPED, set()).add(backend.name)
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
        dropped = self._queue.join(ticket)
        if dropped is not None:
            dropped.called.set_result(None)
        await asyncio.wait([ticket.called], timeout=self._wait)
        return ticket.granted is not None

    def _give_back(self, candidate: Candidate) -> None:
        """Free a slot, or pass it on: it is never free while somebody waits who could use it."""
        self._slots.give_back(candidate)
        for ticket in self._queue.in_turn():
            if self._grant(ticket):
                self._queue.served(ticket)
                ticket.called.set_result(None)
                return

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
        slots = sum(limit for limit in map(limit_of, ticket.candidates) if limit)
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


def limit_of(candidate: Candidate) -> int | None:
    """How many requests of this model its backend runs at most; None: any number."""
    limits = [limit for limit in (candidate.backend.max_concurrency, _model_limit(candidate)) if limit is not None]
    return min(limits, default=None)


def _model_limit(candidate: Candidate) -> int | None:
    name = candidate.model.name
    for pattern, limit in candidate.backend.model_concurrency:
        if pattern.matches(name):
            return limit
    return None


class Slots:
    """What runs where."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._of_model: dict[tuple[str, str], int] = {}

    def free(self, candidate: Candidate) -> bool:
        """Whether its backend may run one more request of its model."""
        backend = candidate.backend
        if backend.max_concurrency is not None and self._running.get(backend.name, 0) >= backend.max_concurrency:
            return False
        limit = _model_limit(candidate)
        return limit is None or self._of_model.get((backend.name, candidate.model.name.key), 0) < limit

    def take(self, candidate: Candidate) -> None:
        """Count one more."""
        self._count(candidate, 1)

    def give_back(self, candidate: Candidate) -> None:
        """Count one less."""
        self._count(candidate, -1)

    def _count(self, candidate: Candidate, more: int) -> None:
        name = candidate.backend.name
        self._running[name] = self._running.get(name, 0) + more
        way = name, candidate.model.name.key
        if running := self._of_model.get(way, 0) + more:
            self._of_model[way] = running
        else:
            del self._of_model[way]  # models come and go


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that waits. `granted` is the slot that it has been given and has not used yet."""

    caller: str
    model: str
    candidates: tuple[Candidate, ...]
    called: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    granted: Candidate | None = None


class Queue:
    """Who waits, in the order of turns: callers one after the other, and each caller's requests as they came.

    `length` bounds the requests that wait for one model. One more takes the place of the latest one of the caller who
    has most of them waiting, unless that would be the new one's caller.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._callers: dict[str, dict[Ticket, None]] = {}

    def waiting(self, model: str) -> int:
        """How many requests wait for a model."""
        return sum(ticket.model == model for ticket in self.in_turn())

    def in_turn(self) -> Iterator[Ticket]:
        """All that wait, those of the caller whose turn it is first."""
        for tickets in self._callers.values():
            yield from tickets

    def join(self, ticket: Ticket) -> Ticket | None:
        """Wait. Returns who has to go, maybe the one that came; None if there is room."""
        dropped = self._surplus(ticket) if self.waiting(ticket.model) >= self.length else None
        if dropped is not ticket:
            self._callers.setdefault(ticket.caller, {})[ticket] = None
        if dropped is not None:
            self.leave(dropped)
        return dropped

    def _surplus(self, ticket: Ticket) -> Ticket:
        waiting = {
            caller: [each for each in tickets if each.model == ticket.model]
            for caller, tickets in self._callers.items()
        }
        mine = len(waiting.pop(ticket.caller, ())) + 1
        most = max(waiting.values(), key=len, default=[])
        return most[-1] if len(most) > mine else ticket

    def leave(self, ticket: Ticket) -> None:
        """Wait no longer; it does not matter whether it did."""
        tickets = self._callers.get(ticket.caller, {})
        tickets.pop(ticket, None)
        if not tickets:
            self._callers.pop(ticket.caller, None)

    def served(self, ticket: Ticket) -> None:
        """It has got its slot: the next turn is another caller's."""
        self.leave(ticket)
        if (others := self._callers.pop(ticket.caller, None)) is not None:
            self._callers[ticket.caller] = others


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
