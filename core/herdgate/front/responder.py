"""One exchange on a caller's connection: gets the body if it is wanted, writes the reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

from pydantic import SecretStr

from herdgate.access import Credentials
from herdgate.bodybudget import BodyBudget, OutOfMemory
from herdgate.errors import Halt, error_reply
from herdgate.exchange import Exchange
from herdgate.front import wire
from herdgate.front.connection import AHEAD, GatewayConnection
from herdgate.front.head import RequestHead
from herdgate.front.incoming import BadChunks, Incoming, TinyChunks
from herdgate.outbox import Delivery
from herdgate.responder import BodyTooLarge

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ConnectionResponder:
    """The pipeline's view of one request. `body` is all of it, if it came with the head."""

    __slots__ = (
        "_body",
        "_budget",
        "_chunked",
        "_connection",
        "_cors",
        "_exchange",
        "_head",
        "_held",
        "_limit",
        "_outbox",
        "_transport",
        "headers",
    )

    def __init__(
        self,
        connection: GatewayConnection,
        head: RequestHead,
        body: bytes | Incoming,
        exchange: Exchange,
        cors: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._head = head
        self.headers = head.headers
        """The headers of the request by lower-case name, those with credentials among them."""
        self._body = body
        self._exchange = exchange
        self._cors = cors
        self._budget: BodyBudget = connection.door.bodies
        self._outbox = connection.door.outbox
        self._held = self._limit = 0
        self._chunked = head.modern

    @property
    def credentials(self) -> Credentials:
        """The key from `Authorization: Bearer` or, if there is none in that, from `x-api-key`."""
        authorization, key = self.headers.get("authorization"), self.headers.get("x-api-key")
        if authorization is not None:
            scheme, _, rest = authorization.partition(" ")
            if scheme.lower() == "bearer" and rest.strip():
                key = rest.strip()
        elif not key:
            return _NOTHING
        return Credentials(
            key=SecretStr(key) if key else None,
            authorization=SecretStr(authorization) if authorization is not None else None,
        )

    @property
    def query(self) -> str:
        """What follows the path's `?`, as it was sent."""
        return self._head.target.partition("?")[2]

    @property
    def length(self) -> int | None:
        """Bytes of the body as the head gives them; None if it is chunked."""
        return self._head.length

    # reading

    def body_at_hand(self, limit: int) -> bytes | None:
        """The whole body if all of it came with the head, as small ones do; None if it must be waited for."""
        body = self._body
        if not isinstance(body, bytes):
            return None
        if len(body) > limit:
            raise BodyTooLarge
        self.hold(len(body))
        self._body = b""
        return body

    async def body(self, limit: int) -> bytes:
        """The whole body, of `limit` bytes at most. A caller that stops sending gets 408."""
        body = self._body
        if isinstance(body, bytes):
            return self.body_at_hand(limit) or b""
        self._limit = limit
        if body.expected <= limit:
            self._invite(body)
        try:
            return await body.whole(self._accept)
        except (BadChunks, OutOfMemory, TimeoutError) as error:
            raise self._refused(error) from None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; nothing of it is held. A caller that stops sending gets 408."""
        body = self._body
        if isinstance(body, bytes):
            self._body = b""
            if body:
                yield body
            return
        self._invite(body)
        try:
            while piece := await body.piece():
                self._connection.stop_expecting()
                yield piece
                self._connection.expect_body()
        except (BadChunks, TimeoutError) as error:
            raise self._refused(error) from None

    def _invite(self, body: Incoming) -> None:
        """Have the caller send the body."""
        if self._head.waits and not body.size:
            self._transport.write(_CONTINUE)
        self._connection.expect_body()

    def _accept(self, size: int) -> None:
        """Hold this much of a body. Raises BodyTooLarge or OutOfMemory."""
        if size > self._limit:
            raise BodyTooLarge
        if size > self._held:
            self._budget.take(size - self._held)
            self._held = size

    def release(self) -> None:
        """The request has ended: its body is held no longer."""
        if self._held:
            self._budget.give_back(self._held)
            self._held = 0

    def hold(self, size: int) -> None:
        """Count what was made of the body, too."""
        try:
            self._budget.take(size)
        except OutOfMemory as error:
            raise self._refused(error) from None
        self._held += size

    def _refused(self, error: Exception) -> Halt:
        status, message = _REFUSALS[type(error)]
        headers = {"retry-after": "1"} if status == 503 else {}
        identity = self._exchange.id
        return Halt(error_reply(self._exchange.family, status, message, request_id=identity, headers=headers))

    # writing

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a complete reply in one write."""
        framing = ""
        if status in wire.BODILESS:
            body = b""
        else:
            framing = f"content-length: {len(body)}\r\n"
            if self._head.method == "HEAD":
                body = b""
        self._transport.write(self._formatted(status, headers, framing) + body)
        self._connection.replied = True

    def begin(self, status: int, headers: Mapping[str, str], first: bytes) -> None:
        """Send the head and the first bytes in one write. HTTP/1.0 knows no chunks: there the body ends with the
        connection.
        """
        framing = ""
        if self._chunked:
            framing = "transfer-encoding: chunked\r\n"
            first = wire.chunk(first)
        else:
            self._connection.keep_alive = False
        self._transport.write(self._formatted(status, headers, framing) + first)

    async def write(self, data: bytes) -> None:
        """Send more of the body, once the caller has read most of what was sent before."""
        await self._connection.room()
        self._outbox.flush()
        self._transport.write(wire.chunk(data) if self._chunked else data)

    def push(self, data: bytes) -> None:
        """Send more of the body, however much is still unsent, together with what other streams have to send."""
        self._outbox.write(self._transport, b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def delivery_of_chunks(self) -> Delivery | None:
        """What `push` does, for chunks that have their frame already; None for HTTP/1.0, which has none."""
        return (self._outbox, self._transport) if self._chunked else None

    def watch_flow(self, on_full: Callable[[], None] | None, on_ready: Callable[[], None] | None) -> None:
        """Have the connection report when the caller stops and starts reading."""
        self._connection.watch_flow(on_full, on_ready)

    async def end(self, last: bytes = b"") -> None:
        """End the body with these bytes, in one packet."""
        self._outbox.flush()
        if self._chunked:
            last = wire.chunk(last) + wire.LAST_CHUNK
        if last:
            self._transport.write(last)
        self._connection.replied = True

    def cut(self) -> None:
        """Close the connection once what was written has gone out, without the end of the body. Without chunks that
        would be the end of the body, so there the connection is reset.
        """
        self._outbox.flush()
        if self._chunked:
            self._connection.close()
        else:
            self._connection.reset()

    def _formatted(self, status: int, headers: Mapping[str, str], framing: str) -> bytes:
        """The head of a reply. Neither `framing` nor the id can be among the headers: no reply may be given those."""
        if self._cors:
            headers = {**headers, **self._cors}
        body = self._body
        if not (isinstance(body, bytes) or body.complete):
            self._settle(body)
        lines = f"{framing}x-request-id: {self._exchange.id}\r\n"
        return wire.head(status, headers, lines=lines, keep_alive=self._connection.keep_alive)

    def _settle(self, body: Incoming) -> None:
        """A small body that nobody wanted is read and dropped; a large one, or one that may never come, would be
        waited for in vain.
        """
        asks_first = self._head.waits and not body.size
        if asks_first or body.broken or not body.counted or body.expected > AHEAD:
            self._connection.keep_alive = False


_NOTHING = Credentials()
_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    BadChunks: (400, "the request body is not chunked as HTTP demands"),
    TinyChunks: (400, "the request body comes in chunks that are too small"),
    OutOfMemory: (503, "server busy, please try again: too many large requests at once"),
    TimeoutError: (408, "request body was not sent in time"),
}
