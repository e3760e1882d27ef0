"""What a simulated backend remembers about each request."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from herdgate.testing.simulation.http1 import RequestHead

Outcome = Literal["complete", "client_left", "faulted"]
"""How a request ended: answered in full, left by its client, or broken off (or bent) by a scripted fault or a stop."""


@dataclass(eq=False)
class Received:
    """One request, from its head's arrival on. Times are the event loop's, in seconds.

    ``body`` is complete as soon as the request is answered; a client that left while sending leaves a partial one.
    """

    head: RequestHead
    connection: int
    """Number of the connection it came on, from 1: equal numbers mean a kept connection was used again."""
    arrived: float
    body: bytes = b""
    model: str = ""
    """The model name as the client wrote it; empty if the request names none."""
    events_sent: int = 0
    outcome: Outcome | None = None
    """None while the request is in work."""
    ended_at: float | None = None
    left_at: float | None = None
    """When the client was seen leaving; None if it stayed."""

    @property
    def method(self) -> str:
        """The method, as sent."""
        return self.head.method

    @property
    def path(self) -> str:
        """The decoded path without the query."""
        return self.head.path

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values exactly as received, in order."""
        return list(self.head.headers)

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a header, whatever the case of its name."""
        return self.head.values(name.lower())

    @property
    def json(self) -> Any:
        """The body as JSON. Raises ValueError if it is none."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        state = self.outcome or "in work"
        return f"<{self.method} {self.head.target} {self.model or '-'} {state}, {self.events_sent} events sent>"
