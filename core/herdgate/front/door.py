"""What all connections of one gateway share: how a request is answered, and how long a caller may be silent."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from herdgate.bodybudget import BodyBudget
from herdgate.errors import error_reply
from herdgate.exchange import Exchange, sealed
from herdgate.front import wire
from herdgate.front.address import client_address
from herdgate.front.connection import LINGER, GatewayConnection
from herdgate.front.head import Refused, RequestHead
from herdgate.front.incoming import Incoming
from herdgate.front.responder import ConnectionResponder
from herdgate.outbox import Outbox
from herdgate.pipeline import serve
from herdgate.runtime import Runtime
from herdgate.surface import family_of

BODIES_AT_ONCE = 8
"""How many request bodies of the largest size allowed are held at the same time; smaller ones accordingly more."""
LOOK_EVERY = 0.5
"""Seconds between two looks at who is overdue."""

_ID_BYTES = 12
_IDS_AT_ONCE = 64
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a caller may be silent: between requests, in the middle of a head (all of it), and in a body that
    nobody reads any more. For a body that is read, and for a reply, see `client_timeout`.
    """

    idle: float = 75.0
    head: float = 60.0
    linger: float = LINGER


class Door:
    """Answers the requests of all connections of a gateway."""

    def __init__(self, runtime: Runtime, patience: Patience | None = None) -> None:
        self.runtime = runtime
        self.patience = patience or Patience()
        self.running: set[asyncio.Task[None]] = set()
        """The requests that are being answered, those whose callers have left included."""
        self.outbox = Outbox()
        """Where the pieces of all streams go out."""
        self.bodies = BodyBudget(0)
        """What the bodies of all requests may take together."""
        self.serve_with(runtime)

    def serve_with(self, runtime: Runtime) -> None:
        """Answer the requests that come from now on with this runtime."""
        self.runtime = runtime
        self.bodies.limit = BODIES_AT_ONCE * runtime.settings.server.max_body

    async def answer(self, connection: GatewayConnection, head: RequestHead, body: bytes | Incoming) -> None:
        """One request, from its head to the end of its reply."""
        runtime, headers = self.runtime, head.headers
        client = connection.peer
        if "x-forwarded-for" in headers:
            client = client_address(client, [headers["x-forwarded-for"]], runtime.settings.server.trusted_proxies)
        exchange = sealed(
            Exchange(
                request_id(headers.get("x-request-id")),
                method=head.method,
                path=head.path,
                client=client,
                headers=headers,
            )
        )
        cors = runtime.origins.cors(host=headers.get("host"), origin=headers["origin"]) if "origin" in headers else {}
        if runtime.draining:
            connection.keep_alive = False  # whoever comes again is to come to another process
        responder = ConnectionResponder(connection, head, body, exchange, cors)
        runtime.requests += 1
        try:
            await serve(exchange, responder, runtime)
        finally:
            runtime.requests -= 1
            responder.release()

    @property
    def client_timeout(self) -> float:
        """Seconds for which a caller may send nothing of a body that is wanted, or take nothing of a reply."""
        return self.runtime.settings.server.client_timeout

    def refusal(self, refused: Refused) -> bytes:
        """The reply to what is no request that could be answered: in the dialect of its path, never HTML or empty."""
        identity = request_id(None)
        family = family_of(refused.path)
        reply = error_reply(family, refused.status, str(refused), request_id=identity)
        headers = {**reply.headers, "content-length": str(len(reply.body)), "x-request-id": identity}
        return wire.head(reply.status, headers, keep_alive=False) + reply.body

    async def watch(self, connections: Iterable[GatewayConnection]) -> None:
        """Look after the silent ones, for ever. One look at all of them costs less than a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = loop.time()
            for connection in [each for each in connections if each.due <= now]:
                connection.overdue()
            for connection in [each for each in connections if each.stuck <= now]:
                connection.check_progress()


_unused: list[str] = []
os.register_at_fork(after_in_child=_unused.clear)  # or two processes would give the same ids


def request_id(given: str | None) -> str:
    """The caller's own id if it is harmless, else a new one. To ask the system for each would take twice as long."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    if not _unused:
        _unused.extend(os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex(" ", _ID_BYTES).split())
    return _unused.pop()
