"""What asking one backend whether it lives has shown so far. Pure."""

from __future__ import annotations

from herdgate import Backend

_ENOUGH = 0.95
"""A timer may fire a little early, and a question that waited for the whole of the patience is enough."""


class Pulse:
    """One question at a time. A backend is dead once no question has been answered for as long as the patience."""

    __slots__ = ("asking", "backend", "began_at", "silent_since")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.asking = False
        self.began_at = float("-inf")
        """When the latest question was asked."""
        self.silent_since: float | None = None
        """When the first question was asked that has not been followed by any answer; None after an answer."""

    def due(self, now: float, interval: float) -> bool:
        """Whether it is time for another question."""
        return not self.asking and now - self.began_at >= interval

    def begins(self, now: float) -> None:
        """A question goes out."""
        self.asking, self.began_at = True, now
        if self.silent_since is None:
            self.silent_since = now

    def answered(self) -> None:
        """The question was answered."""
        self.asking, self.silent_since = False, None

    def unanswered(self, now: float, patience: float) -> bool:
        """The question was not answered. Returns whether that makes the backend dead."""
        self.asking = False
        return self.silent_since is not None and now - self.silent_since >= patience * _ENOUGH
