"""What happened at a simulated backend, and waiting for it to happen."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from herdgate.testing.simulation.records import Outcome, Received

_REMEMBERED = 100_000


class Journal:
    """Requests and counts of one backend. Whoever changes something that a test may wait for calls `changed`."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.malformed: list[str] = []
        self.connections = 0
        self.concurrent = 0
        self.max_concurrent = 0
        self._waiters: list[asyncio.Future[None]] = []

    def changed(self) -> None:
        """Wake everybody who waits for something."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> None:
        """Return as soon as ``condition`` holds. Raises TimeoutError, which says what there was instead."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            raise TimeoutError(f"not within {timeout} s; there was: {self}") from None

    def add(self, request: Received) -> None:
        """Remember a request; of very many the oldest are forgotten, as a demonstration may run for months."""
        self.requests.append(request)
        if len(self.requests) > _REMEMBERED:
            del self.requests[: _REMEMBERED // 2]
        self.changed()

    def sent_event(self, request: Received) -> None:
        """One more event of the reply is out."""
        request.events_sent += 1
        self.changed()

    def finish(self, request: Received, outcome: Outcome) -> None:
        """The request is over."""
        request.outcome = outcome
        request.ended_at = asyncio.get_running_loop().time()
        self.changed()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count an inference request as in work."""
        self.concurrent += 1
        self.max_concurrent = max(self.max_concurrent, self.concurrent)
        try:
            yield
        finally:
            self.concurrent -= 1
            self.changed()

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.requests[-20:])) or "no requests"
        refused = f"; malformed: {self.malformed[-5:]}" if self.malformed else ""
        return f"{len(self.requests)} requests on {self.connections} connections: {shown}{refused}"
