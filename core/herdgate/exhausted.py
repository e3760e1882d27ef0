"""What the caller gets when every attempt has failed. Pure: from failures to one conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from herdgate.access import Refusal
from herdgate.failure import Failure, Kind

UNAVAILABLE = "backend unavailable"
BUSY = "server busy, please try again.  maximum pending requests exceeded"  # Ollama's own words, two spaces included
TIMED_OUT = "timed out waiting for the model"
REFUSED = "the backend did not accept the request"
RATE_LIMITED = "rate limit exceeded, please try again later"
RETRY_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Conclusion:
    """An error for the caller. `denied` means the generic 403, for which the other fields count nothing."""

    status: int
    message: str
    retry_after: float | None = None
    denied: bool = False


_SAYS_NOTHING = frozenset({401, 403, 404, 408, 429, 502, 504})
"""Statuses that speak of the gateway's own trouble with a backend, not of the caller's request."""


def conclude(failures: Sequence[Failure], refusal: Refusal | None = None) -> Conclusion:
    """Make the best of what the backends said, in the order in which they were tried.

    `refusal` is for when some were not tried because they are busy: worth more than silence, less than a backend's own
    words.
    """
    tried = [failure for failure in failures if failure.kind is not Kind.SKIPPED]
    speaking = [failure for failure in tried if _speaks(failure)]
    if refusal is not None and not speaking:
        return Conclusion(refusal.status, refusal.reason, refusal.retry_after)
    if not tried:
        return Conclusion(503, BUSY, RETRY_AFTER)
    if speaking:
        last = speaking[-1]
        status = last.status if last.kind is Kind.STATUS and last.status else 500
        message = last.message or (REFUSED if status < 500 else BUSY)
        return Conclusion(status, message, (last.retry_after or RETRY_AFTER) if status == 503 else None)
    statuses = {failure.status if failure.kind is Kind.STATUS else None for failure in tried}
    if statuses == {404}:
        return Conclusion(403, "", denied=True)
    if statuses == {429}:
        return Conclusion(429, RATE_LIMITED, max((failure.retry_after or 1.0) for failure in tried))
    if all(failure.kind is Kind.TIMEOUT for failure in tried):
        return Conclusion(504, TIMED_OUT)
    return Conclusion(502, UNAVAILABLE)


def _speaks(failure: Failure) -> bool:
    """Whether a backend said something that is meant for the caller: a text, or a status that alone says enough."""
    if failure.kind is Kind.ERROR_EVENT:
        return failure.message is not None
    if failure.kind is not Kind.STATUS or failure.status is None or failure.status in _SAYS_NOTHING:
        return False
    return (
        400 <= failure.status < 500 or failure.status == 503 or (failure.status >= 500 and failure.message is not None)
    )
