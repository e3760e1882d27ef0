"""Who waits for a slot, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from herdgate import Candidate


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

    Every reload shares it, so how many may wait is said by whoever joins.
    """

    def __init__(self) -> None:
        self._callers: dict[str, dict[Ticket, None]] = {}

    def waiting(self, model: str) -> int:
        """How many requests wait for a model."""
        return sum(ticket.model == model for ticket in self.in_turn())

    def in_turn(self) -> Iterator[Ticket]:
        """All that wait, those of the caller whose turn it is first."""
        for tickets in self._callers.values():
            yield from tickets

    def join(self, ticket: Ticket, length: int) -> Ticket | None:
        """Wait, if `length` bounds the requests that wait for one model. One more takes the place of the latest one of
        the caller who has most of them waiting, unless that would be its own. Returns who has to go, maybe the one that
        came; None if there is room.
        """
        dropped = self._surplus(ticket) if self.waiting(ticket.model) >= length else None
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
