"""A circuit breaker as a state machine. Pure: what time it is, is what it is told."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Whether requests should come this way."""

    CLOSED = "closed"
    """They should, although some may have failed."""
    OPEN = "open"
    """They should not, while there is another way."""
    HALF_OPEN = "half-open"
    """One may: the trial, which decides what comes next."""


class Circuit:
    """What has gone wrong on one way since something last went right.

        closed ── `limit` strikes in a row ──► open ── `let_one_through` ──► half-open
                                                 ▲────────── a strike ──────────┘

    Success makes a circuit as good as new, so it is simply forgotten. A trial that has begun well closes it, on
    probation: the next strike opens it again. `trial` is whatever began while half-open; its end without a strike and
    without success frees the place for another.
    """

    __slots__ = ("failures", "limit", "opened_at", "state", "trial")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.failures = 0
        self.state = State.CLOSED
        self.opened_at = 0.0
        self.trial: object | None = None

    def strike(self, now: float) -> bool:
        """Count a failure. Returns whether it opened a circuit that was closed."""
        self.failures += 1
        if self.state is State.CLOSED and self.failures < self.limit:
            return False
        return self.open(now)

    def open(self, now: float) -> bool:
        """Open, however few failures there were. Returns whether the circuit was closed before."""
        was_closed = self.state is State.CLOSED
        self.state, self.opened_at, self.trial = State.OPEN, now, None
        return was_closed

    def let_one_through(self) -> None:
        """There is reason to believe that a trial may succeed."""
        if self.state is State.OPEN:
            self.state = State.HALF_OPEN

    def begun_well(self) -> None:
        """Close, but let the next strike open again: what has begun well may still break."""
        if self.state is not State.CLOSED:
            self.state, self.failures, self.trial = State.CLOSED, self.limit - 1, None

    @property
    def takes_requests(self) -> bool:
        """Whether the next request may come this way as if nothing had happened."""
        return self.state is State.CLOSED or (self.state is State.HALF_OPEN and self.trial is None)

    def begins(self, request: object) -> None:
        """Note that a request comes this way."""
        if self.state is State.HALF_OPEN and self.trial is None:
            self.trial = request

    def ends(self, request: object) -> None:
        """Note that it has ended; what that says of the circuit is told separately."""
        if self.trial is request:
            self.trial = None
