"""No key sends more requests per minute than it may."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from herdgate import App, Identity, Refusal, hookimpl

WINDOW = 60.0


class Limits:
    """Refuses with 429 when a key has used up its requests of the last minute. Counts in each process of the gateway
    by itself.

    The window slides: at no time has a key sent more than its limit within the last 60 seconds. Every request counts,
    whatever becomes of it, so that nothing can be learned from the count.
    """

    herdgate_api = 1

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent: dict[str, deque[float]] = {}

    @hookimpl
    @contextmanager
    def lifespan(self, app: App) -> Iterator[None]:
        """A reload gives nobody a new minute."""
        self._sent = app.memory.setdefault("limits", self._sent)
        yield

    @hookimpl
    def admit(self, identity: Identity) -> Refusal | None:
        """Count one request, or refuse it."""
        limit = identity.requests_per_minute
        if limit is None:
            return None
        name = identity.key_id or identity.name
        sent = self._sent.get(name)
        if sent is None or sent.maxlen != limit:
            sent = self._sent[name] = deque(sent or (), maxlen=limit)
        now = self._clock()
        if len(sent) == limit and now - sent[0] < WINDOW:
            return Refusal("rate limit exceeded, please try again later", retry_after=WINDOW - (now - sent[0]))
        sent.append(now)
        return None
