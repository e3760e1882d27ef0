"""One connection of a caller: cuts what arrives into requests and answers them one after the other.

Sanic starts this protocol, keeps count of its connections and runs its event loop. HTTP is read here and not by Sanic,
which takes heads and chunks for good that another reader would understand differently, and needs more time for a
request than all the rest of the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from herdgate.front.head import MAX_HEAD, Refused, RequestHead, read_head
from herdgate.front.incoming import Incoming
from herdgate.front.unsent import unsent

if TYPE_CHECKING:
    from herdgate.front.door import Door

log = logging.getLogger("herdgate.requests")

AHEAD = 64 * 1024
"""Bytes of a body that are taken before anybody wants them."""
REQUESTS_AHEAD = 256 * 1024
"""Bytes of later requests that are taken before the reply: as many as one read of the socket may bring."""
LINGER = 1.0
"""Seconds for which a caller whose request was not read to its end may go on sending, so that it can read the reply."""
SLOWEST = 4096
"""Bytes per second that a caller must send of a body, or take of a reply, on average."""
_WRITE_HIGH, _WRITE_LOW = 64 * 1024, 16 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_NEVER = float("inf")
_RESET = struct.pack("ii", 1, 0)
"""Linger for no time: what closes the connection is a reset."""


class GatewayConnection(asyncio.Protocol):
    """Reads requests, runs a task for each, and writes what that task gives it.

    `due` is when the caller will have been silent for too long, `stuck` when it will have taken too little of what was
    written, both on the loop's clock: the door looks after them.
    """

    __slots__ = (
        "_ahead",
        "_begun",
        "_body",
        "_connections",
        "_lingering",
        "_on_full",
        "_on_ready",
        "_reading",
        "_unsent",
        "_writable",
        "door",
        "due",
        "full",
        "keep_alive",
        "loop",
        "peer",
        "replied",
        "stuck",
        "task",
        "transport",
    )

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, app: Any, connections: set[GatewayConnection], **_: object
    ) -> None:
        self.door: Door = app.ctx.door
        self.loop = loop
        self.transport: asyncio.Transport
        self.peer = ""
        self.task: asyncio.Task[None] | None = None
        self.due = _NEVER
        self.stuck = _NEVER
        self.keep_alive = True
        self.full = False
        """Whether the caller does not read what was written."""
        self.replied = False
        """Whether the reply to the present request is complete."""
        self._connections = connections
        self._ahead = b""
        self._begun = False
        """Whether a part of a head is there, and its time running."""
        self._body: Incoming | None = None
        self._reading = True
        self._unsent = 0
        self._lingering = False
        self._writable: asyncio.Future[None] | None = None
        self._on_full: Callable[[], None] | None = None
        self._on_ready: Callable[[], None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is there."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_WRITE_HIGH, low=_WRITE_LOW)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self._connections.add(self)
        self.due = self.loop.time() + self.door.patience.idle

    def data_received(self, data: bytes) -> None:
        """Give each byte to what it is a part of: a body, or the head of this or a later request."""
        body = self._body
        if body is not None:
            data = self._more_of(body, data)
            if not data:
                return
        if self._ahead:
            data = self._ahead + data
        if self.task is None:
            self._next(data)
            return
        self._ahead = data
        if len(data) > REQUESTS_AHEAD:
            self._stop_ahead()

    def eof_received(self) -> None:
        """A caller that has done with sending has left, as for Ollama."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The caller has left: whatever was done for it ends."""
        self._connections.discard(self)
        self.due = self.stuck = _NEVER
        self._ahead = b""
        if self.task is not None:
            self.task.add_done_callback(self.door.running.discard)  # one that has not begun ends without a word
            self.task.cancel()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def pause_writing(self) -> None:
        """The caller does not read, or not fast enough."""
        self.full = True
        self._watch_progress()
        if self._on_full is not None:
            self._on_full()

    def resume_writing(self) -> None:
        """It reads again."""
        self.full = False
        self.stuck = _NEVER
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._on_ready is not None:
            self._on_ready()

    # reading

    def _more_of(self, body: Incoming, data: bytes) -> bytes:
        """Feed the body; what lies behind it comes back."""
        if self._lingering and not body.counted:
            return b""  # only reading all of it would tell where it ends, and nobody waits for that
        surplus = body.feed(data)
        if body.complete:
            self._body = None
            if self._lingering:
                self.transport.close()
                return b""
            self.due = _NEVER if self.task is not None else self.loop.time() + self.door.patience.idle
        elif body.awaited:
            self.due = self._body_due(body)
        elif body.kept > AHEAD:
            self._pause()
        return surplus

    def _next(self, data: bytes) -> None:
        """Begin with the next request, if its head is there."""
        end = data.find(_END_OF_HEAD, 0, MAX_HEAD)
        if end < 0:
            self._await_head(data)
            return
        self._begun = self.replied = False
        self.due = _NEVER
        if not self.full:
            self.stuck = _NEVER  # what was unsent of the last reply cannot be told from what comes now
        begin = 2 if data.startswith(b"\r\n") else 0  # one empty line may be left of the request before
        try:
            head = read_head(data[begin : end + 2].decode("utf-8", "surrogateescape"))
        except Refused as refused:
            self._refuse(refused)
            return
        self.keep_alive = head.keep_alive
        body = self._cut(head.length, data[end + 4 :])
        self.task = task = self.loop.create_task(self._answer(head, body))
        self.door.running.add(task)

    async def _answer(self, head: RequestHead, body: bytes | Incoming) -> None:
        """One request, and whatever comes after it: a callback of the task would need another turn of the loop."""
        try:
            await self.door.answer(self, head, body)
        except Exception as error:
            log.error("a fault of the gateway itself", exc_info=error)
            self.transport.abort()
        finally:
            self._answered()

    def _await_head(self, begun: bytes) -> None:
        """The head of the next request is not there yet, or will be too large."""
        self._ahead = begun
        if len(begun) >= MAX_HEAD:
            self._refuse(Refused(431, "request headers too large"))
        elif not self._begun:
            self._begun = True
            self.due = self.loop.time() + self.door.patience.head

    def _cut(self, length: int | None, data: bytes) -> bytes | Incoming:
        """The body of a request, if all of it has come with the head, or what collects it as it comes."""
        if length is not None and len(data) >= length:
            self._ahead = data[length:]
            return data[:length]
        body = Incoming(length)
        self._ahead = body.feed(data)
        if not body.complete:
            self._body = body
        return body

    def _answered(self) -> None:
        """The request has ended; on to the next one, or the end of the connection."""
        door, task = self.door, self.task
        self.task = None
        if task is not None:
            door.running.discard(task)
        self._on_full = self._on_ready = None
        if self.transport.is_closing():
            return
        if not self._reading:
            self.resume()
        if self._body is not None:
            self._body.discard()
        if not self.keep_alive:
            self._close_gently()
            return
        self.due = self.loop.time() + door.patience.idle
        if self._ahead and self._body is None:
            self._next(self._ahead)

    def _close_gently(self) -> None:
        """Close at once if the caller has sent all of its request; else a reset could take the reply from it."""
        if self._body is None:
            self.transport.close()
        else:
            self._lingering = True
            self.transport.write_eof()
            self.due = self.loop.time() + self.door.patience.linger

    def _refuse(self, refused: Refused) -> None:
        self.keep_alive = False
        self.transport.write(self.door.refusal(refused))
        self._ahead = b""
        self._body = Incoming(None)  # whatever is still to come belongs to nothing
        self._body.fail(refused)
        self._close_gently()

    def _stop_ahead(self) -> None:
        """Take no more of what is sent ahead. Who is not read from leaves unseen, while a backend works for it: so that
        is only for one that has its reply.
        """
        if self.replied:
            self._pause()
        else:
            log.info("client %s sent more than %d bytes ahead of its reply: given up", self.peer, REQUESTS_AHEAD)
            self.transport.abort()

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self.transport.pause_reading()

    def resume(self) -> None:
        """Take what the caller sends; while this is not done it could leave without being seen to."""
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def expect_body(self) -> None:
        """More of the body is wanted: the caller may not be silent for too long now."""
        if self._body is not None:
            self.due = self._body_due(self._body)
            self.resume()

    def _body_due(self, body: Incoming) -> float:
        """By when more of the body must have come: soon, and not by drops that would hold it for ever."""
        limit, now = self.door.client_timeout, self.loop.time()
        if body.since is None:
            return now + limit
        return min(now, body.since + body.size / SLOWEST) + limit

    def stop_expecting(self) -> None:
        """Nobody waits for the caller."""
        self.due = _NEVER

    def overdue(self) -> None:
        """The caller was silent for too long."""
        if self.transport.is_closing():
            self.transport.abort()  # what is unsent has had its time, and there is nobody left to be told anything
        elif self.task is not None:
            self.due = _NEVER
            if self._body is not None:
                self._body.fail(TimeoutError())
        elif self._ahead and not self._lingering:
            self.due = self.loop.time() + self.door.patience.linger
            self._refuse(Refused(408, "request was not sent in time"))
        elif not self._lingering and unsent(self.transport):
            self.due = self.loop.time() + self.door.patience.idle  # not idle: it still takes the last reply
            if self.stuck == _NEVER:
                self._watch_progress()
        else:
            self.transport.abort()

    def _watch_progress(self) -> None:
        """The caller must have taken something by then."""
        self._unsent = unsent(self.transport)
        self.stuck = self.loop.time() + self.door.client_timeout

    def check_progress(self) -> None:
        """Give up a caller that takes next to nothing: a backend works for it and waits."""
        left = unsent(self.transport)
        taken = self._unsent - left
        if not left:
            self.stuck = _NEVER
            return
        if taken >= SLOWEST * self.door.client_timeout:
            self._watch_progress()
            return
        log.info("client %s took %d bytes in %g s: given up", self.peer, max(0, taken), self.door.client_timeout)
        self.stuck = _NEVER
        self.transport.abort()

    # writing

    async def room(self) -> None:
        """Wait until the caller has read most of what was written."""
        if self.full and not self.transport.is_closing():
            self._writable = self.loop.create_future()
            try:
                await self._writable
            finally:
                self._writable = None

    def watch_flow(self, on_full: Callable[[], None] | None, on_ready: Callable[[], None] | None) -> None:
        """Be told when the caller does not read what was written, and when it does again; None ends that."""
        self._on_full, self._on_ready = on_full, on_ready
        if on_full is not None and self.full:
            on_full()

    # stopping

    def close_if_idle(self) -> bool:
        """Close the connection if no request is on it; Sanic's name for it."""
        if self.task is None and not self._lingering:
            self.transport.close()
            return True
        return False

    def close(self) -> None:
        """Close once what was written has gone out."""
        self.transport.close()

    def reset(self) -> None:
        """Close at once, in a way that nobody takes for the end of a reply. What was not sent yet is lost."""
        with contextlib.suppress(OSError):
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()
