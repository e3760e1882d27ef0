"""The reply of one exchange in the making, and the record of how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping

from herdgate.errors import Reply
from herdgate.exchange import Exchange, Outcome, Stage, Summary
from herdgate.relay import Relay
from herdgate.responder import Responder


class Answer:
    """Sends the reply and remembers what `exchange_ended` will be told."""

    __slots__ = (
        "_backend",
        "_body",
        "_first_byte_after",
        "_relay",
        "_sent",
        "_status",
        "exchange",
        "outcome",
        "responder",
    )

    def __init__(self, exchange: Exchange, responder: Responder) -> None:
        self.exchange = exchange
        self.responder = responder
        self.outcome = Outcome.ANSWERED
        self._status = 0
        self._sent = 0
        self._body = b""
        self._backend: str | None = None
        self._first_byte_after: float | None = None
        self._relay: Relay | None = None

    @property
    def begun(self) -> bool:
        """Whether a part of a reply has been sent."""
        return self._status != 0

    async def give(self, reply: Reply, outcome: Outcome = Outcome.ANSWERED) -> None:
        """Send a complete reply."""
        self.outcome = outcome
        self.started(reply.status)
        self._sent = len(reply.body)
        if self._backend is not None:
            self._body = reply.body
        self.responder.send(reply.status, reply.headers, reply.body)

    def relay_whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a backend's reply that is there as a whole: `commit` has been called."""
        self._sent = len(body)
        self._body = body
        self.responder.send(status, headers, body)

    def commit(self, status: int, relay: Relay | None = None) -> None:
        """Note that a backend's reply begins to go out: from here on nothing is tried again."""
        self.exchange.advance(Stage.COMMITTED)
        self._backend = self.exchange.attempts[-1].backend.name
        self._relay = relay
        self.started(status)

    def started(self, status: int) -> None:
        """Note that a reply begins to go out."""
        self._status = status
        self._first_byte_after = time.monotonic() - self.exchange.started

    def count(self, size: int) -> None:
        """Note that so many bytes of a body went out that is sent piece by piece."""
        self._sent += size

    async def break_off(self, message: str) -> None:
        """End a reply that has begun and cannot be completed."""
        self.outcome = Outcome.BROKEN
        if self._relay is not None:
            await self._relay.break_off(message)
        else:
            self.responder.cut()

    def summary(self) -> Summary:
        """What the plugins are told."""
        tail = self._relay.tail if self._relay else None
        return Summary(
            exchange=self.exchange,
            outcome=self.outcome,
            status=self._status,
            seconds=time.monotonic() - self.exchange.started,
            sent=tail.sent if tail else self._sent,
            first_byte_after=self._first_byte_after,
            tail=bytes(tail) if tail else self._body,
            backend=self._backend,
        )
