"""No backend runs more requests at the same time than its `max_concurrency`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from herdgate import Attempt, Skip, hookimpl


class Capacity:
    """Skips a backend that is full, so that the next candidate is tried. Counts per process of the gateway."""

    herdgate_api = 1

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    @hookimpl
    def around_attempt(self, attempt: Attempt) -> AbstractAsyncContextManager[None] | Skip | None:
        """Take a slot for as long as the attempt lasts, its stream included."""
        limit = attempt.backend.max_concurrency
        if limit is None:
            return None
        if self._running[attempt.backend.name] >= limit:
            return Skip(f"{limit} requests are already running on it")
        return self._slot(attempt.backend.name)

    @asynccontextmanager
    async def _slot(self, backend: str) -> AsyncIterator[None]:
        self._running[backend] += 1
        try:
            yield
        finally:
            self._running[backend] -= 1
