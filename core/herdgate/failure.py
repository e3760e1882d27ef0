"""What can go wrong with a backend, as types, and the core's own table of what may be tried again elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """How far an attempt had come when it failed."""

    CONNECT = "connect"
    """Nothing of the request was sent."""
    SENT = "sent"
    """The request, or a part of it, was sent; no reply headers had come."""
    OPENING = "opening"
    """Reply headers had come; no complete first event, or not the whole of a reply that is held."""
    STREAM = "stream"
    """The client had got its first byte: nothing can be tried again."""


class Kind(StrEnum):
    """What happened."""

    UNREACHABLE = "unreachable"
    """No connection: refused, no route, no such host, TLS failure."""
    TIMEOUT = "timeout"
    """One of the backend's deadlines passed."""
    DEAD = "dead"
    """A plugin that watched the backend while the attempt waited for it found it dead; see `Attempt.leave`."""
    BROKEN = "broken"
    """The connection was closed or reset, or what came was not HTTP."""
    STATUS = "status"
    """A complete reply with a status that is not a success."""
    EMPTY = "empty"
    """A success without a body or without a first event."""
    MALFORMED = "malformed"
    """A first event, or a whole reply, that is not what this endpoint sends."""
    ERROR_EVENT = "error_event"
    """A success status whose first event, or whole body, is an error."""
    SKIPPED = "skipped"
    """The attempt did not begin: an `around_attempt` plugin did not let it, or the gateway itself could not."""
    PLUGIN = "plugin"
    """A plugin failed while the attempt was prepared."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt at one backend failed.

    `detail` is for operators and may name the backend. `message` is what the backend itself said to the caller, None if
    it said nothing that can be passed on. `retry_after` is the backend's own `Retry-After`, in seconds.
    """

    kind: Kind
    phase: Phase
    detail: str
    status: int | None = None
    message: str | None = field(default=None, repr=False)
    retry_after: float | None = None

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class TryNext:
    """`judge_failure`: go on with the next candidate."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """`judge_failure`: try nobody else; the caller gets the best answer that the attempts so far allow."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Skip:
    """`around_attempt`: leave this backend out this time; the next candidate is tried."""

    reason: str


CALLERS_FAULT = frozenset({400, 413, 415, 422, 499})
"""Statuses that describe the request, not the backend: another backend would say the same."""

ELSEWHERE = frozenset({401, 403, 404, 408, 429, 502, 503, 504})
"""Statuses that speak of this backend only: its credentials, its host check, its catalogue, its load."""


def default_verdict(failure: Failure, earlier: Sequence[Failure]) -> TryNext | GiveUp:
    """Decide, with nothing but the facts, whether another backend may be asked.

    Nothing has reached the client, so asking again can at worst make two backends compute the same answer. That is
    wasted on requests that are themselves wrong. Ollama answers some of those with 500 (wrong option types, for one),
    hence "one further backend" after a 500, where attempts that sent nothing do not count.
    """
    if failure.phase is Phase.STREAM:
        return GiveUp("the client has already received a part of the reply")
    if failure.status in CALLERS_FAULT:
        return GiveUp(f"{failure.status} describes the request")
    if failure.phase is Phase.CONNECT:
        return TryNext("nothing was sent")
    if any(before.status == 500 for before in earlier):
        return GiveUp("one further backend was tried after a 500")
    if failure.kind is not Kind.STATUS or failure.status == 500 or failure.status in ELSEWHERE:
        return TryNext()
    if failure.status is not None and 400 <= failure.status < 500:
        return GiveUp(f"{failure.status} describes the request")
    return TryNext()
