"""What a failed attempt says about its backend, and what only about the request. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto

from herdgate import Attempt, Failure, Kind, Phase

SPEAKS_FOR_OTHERS = frozenset({502, 503, 504})
"""Statuses that a proxy in front of a dead backend sends, too: they prove neither life nor death. 503 also means busy,
which is no failure at all.
"""
_CONTENT = {Kind.TIMEOUT, Kind.BROKEN, Kind.EMPTY, Kind.MALFORMED, Kind.ERROR_EVENT}


class Blame(Enum):
    """Whose fault a failure is."""

    NOBODY = auto()
    """Busy, skipped, the caller's mistake, the gateway's own credentials."""
    BACKEND = auto()
    """No request got through, whatever its content."""
    MODEL = auto()
    """This model on this backend: a reply broke that had begun well."""
    OPEN = auto()
    """Perhaps the request itself: it is the model's fault on this backend if another one then answers the same."""


def blame(failure: Failure) -> Blame:
    """Whose fault this is, as far as the failure alone can tell.

    Ollama answers bad options with 500, and a request that is too large may break anything. If such failures counted by
    themselves, one caller could turn the others' traffic away from every backend.
    """
    if failure.phase is Phase.CONNECT:
        return Blame.BACKEND if failure.kind in {Kind.UNREACHABLE, Kind.TIMEOUT} else Blame.NOBODY
    if failure.phase is Phase.STREAM:
        return Blame.MODEL if failure.kind in {Kind.BROKEN, Kind.TIMEOUT} else Blame.NOBODY
    if failure.kind in _CONTENT:
        return Blame.OPEN
    if failure.kind is Kind.STATUS and failure.status is not None and failure.status >= 500 and failure.status != 503:
        return Blame.OPEN
    return Blame.NOBODY


def found_guilty(attempts: Sequence[Attempt], answering: Attempt) -> Iterator[Attempt]:
    """The earlier attempts of a request whose failures were not its own fault, as `answering` has now shown."""
    for attempt in attempts:
        if attempt is answering:
            return
        if attempt.failure is not None and blame(attempt.failure) is Blame.OPEN:
            yield attempt


def shows_life(attempt: Attempt) -> bool:
    """Whether a complete head of a reply has come that the backend itself must have sent."""
    return attempt.status is not None and attempt.status not in SPEAKS_FOR_OTHERS


def raises_doubt(failure: Failure) -> bool:
    """Whether it is worth asking if the backend still lives."""
    return failure.kind in {Kind.UNREACHABLE, Kind.TIMEOUT, Kind.BROKEN} or failure.status in SPEAKS_FOR_OTHERS
