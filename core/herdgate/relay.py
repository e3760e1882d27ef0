"""Bytes from a backend to the caller, untouched and at once, and an honest end whatever happens.

A broken stream never ends cleanly: it gets the error of its family as last event, or, where nothing in band can say
so, its connection is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import httpx

from herdgate.errors import in_band
from herdgate.exchange import Head
from herdgate.failure import Failure, Kind, Phase
from herdgate.faults import PluginFault
from herdgate.filters import Filters
from herdgate.lastline import ended_well, says_done
from herdgate.opening import Framing
from herdgate.responder import Responder
from herdgate.surface import Endpoint
from herdgate.upstream.client import UpstreamReply, failure_of
from herdgate.upstream.stream import BodyStream

TAIL = 1024
"""How many of the last bytes are kept, at least: enough for the final events of a usual reply, in which the tokens are
counted. All open streams keep so many, some of them twice.
"""

BROKE = "the model's reply was interrupted"
INCOMPLETE = "the model's reply ended before it was complete"
TOO_LONG = "the model's reply is longer than is allowed here"
FILTER_FAILED = "the model's reply could not be processed"


class Tail:
    """The last bytes of what was sent, kept without copying them."""

    __slots__ = ("_earlier", "_full", "_latest", "sent")

    def __init__(self) -> None:
        self._earlier: list[bytes] = []
        self._latest: list[bytes] = []
        self._full = TAIL
        self.sent = 0

    def add(self, data: bytes) -> None:
        """Note what was sent. Once the latest pieces are enough, those before them can go: all of them at once."""
        self._latest.append(data)
        self.sent += len(data)
        if self.sent >= self._full:
            self._earlier, self._latest = self._latest, []
            self._full = self.sent + TAIL

    def __bytes__(self) -> bytes:
        """Whole pieces, so that a last event of any length is whole if it came in one."""
        pieces = [*self._earlier, *self._latest]
        first, size = len(pieces), 0
        while first and size < TAIL:
            first -= 1
            size += len(pieces[first])
        return b"".join(pieces[first:])

    @property
    def at_line_end(self) -> bool:
        """Whether the last piece ends a line; False if it is empty."""
        return (self._latest or self._earlier or (b"",))[-1].endswith(b"\n")

    def ends_with(self, terminals: Sequence[bytes]) -> bool:
        """Whether a line near the end begins with one of these."""
        tail = b"\n" + bytes(self)
        return any(b"\n" + terminal in tail for terminal in terminals)


class EventTail(Tail):
    """The last bytes, and the name of the last event, however long that event is: `/v1/responses` repeats the whole
    reply in its last one.
    """

    __slots__ = ("_edge", "_name")
    _LONGEST_LINE = 64

    def __init__(self) -> None:
        super().__init__()
        self._edge = b"\n"
        self._name = b""

    def add(self, data: bytes) -> None:
        """Note what was sent. The line with the name may come in several pieces."""
        super().add(data)
        seen = self._edge + data
        at = seen.rfind(b"\nevent:")
        if at >= 0:
            self._name = seen[at + 1 : at + self._LONGEST_LINE]
        self._edge = seen[-self._LONGEST_LINE :]

    def ends_with(self, terminals: Sequence[bytes]) -> bool:
        """Whether the last event is one of these."""
        return self._name.startswith(tuple(terminals))


class TooLong(Exception):  # noqa: N818 - the backend's doing
    """The stream has grown past the limit."""


class Relay:
    """Sends one reply, from its opening to its end, of `limit` bytes at most."""

    def __init__(
        self,
        endpoint: Endpoint,
        framing: Framing,
        responder: Responder,
        filters: Filters | None,
        limit: int | None = None,
    ) -> None:
        self._limit = limit
        self._endpoint = endpoint
        self._framing = framing
        self._responder = responder
        self._filters = filters
        self.tail = _tail_for(endpoint)
        self._received = _tail_for(endpoint) if filters else self.tail

    def take(self, data: bytes) -> bytes:
        """What is to be sent for these bytes of the backend. Raises PluginFault."""
        if self._filters is None:
            return data
        self._received.add(data)
        return self._filters.feed(data)

    def begin(self, status: int, headers: Mapping[str, str], first: bytes) -> None:
        """Commit: status, headers and the first bytes go to the caller in one packet."""
        self.tail.add(first)
        self._responder.begin(status, headers, first)

    async def run(self, body: UpstreamReply, idle_timeout: float) -> Failure | None:
        """Send the rest and end the reply. Returns what broke it, None if it went out whole."""
        last = b""
        try:
            stream = None if self._filters else body.pushing
            if stream is not None:
                last = await self._push(stream, idle_timeout)
            else:
                await self._pull(body, idle_timeout)
        except (httpx.HTTPError, httpx.StreamError) as error:
            if not self._all_there():
                await self.break_off(BROKE)
                return failure_of(error, Phase.STREAM)
        except TimeoutError:
            if not self._all_there():
                await self.break_off(BROKE)
                return Failure(Kind.TIMEOUT, Phase.STREAM, f"silent for {idle_timeout:g} s in mid-stream")
        except PluginFault as fault:
            await self.break_off(FILTER_FAILED)
            return Failure(Kind.PLUGIN, Phase.STREAM, str(fault))
        except TooLong:
            await self.break_off(TOO_LONG)
            return Failure(Kind.MALFORMED, Phase.STREAM, f"the stream is longer than {self._limit} bytes")
        if not self._complete(body):
            if last:
                self._responder.push(last)
            await self.break_off(INCOMPLETE)
            return Failure(Kind.BROKEN, Phase.STREAM, "the stream ended without its terminal event")
        await self._responder.end(last)
        return None

    async def break_off(self, message: str) -> None:
        """End a reply that cannot be completed, in a way that nobody takes for a complete one."""
        if self._framing is Framing.WHOLE:
            self._responder.cut()
            return
        await self._send(in_band(self._endpoint, message, tail=bytes(self.tail)))
        await self._responder.end()

    async def _push(self, stream: BodyStream, idle_timeout: float) -> bytes:
        """Each read of the backend's socket becomes one write to the caller's, within the same callback of the loop.

        No task wakes up and nothing is copied to be looked at. While the caller does not read, neither does the
        gateway. What came together with the end of the reply is returned: it goes out together with the end.
        """
        stream.set_idle_timeout(idle_timeout)
        self._responder.watch_flow(stream.pause, stream.resume)
        try:
            delivery = self._responder.delivery_of_chunks() if self._limit is None else None
            last = await stream.relay(self._sink(), delivery, self.tail.add)
        finally:
            self._responder.watch_flow(None, None)
        if last:
            self._check_length(last)
            self.tail.add(last)
        return last

    def _sink(self) -> Callable[[bytes], None]:
        """What takes each piece. A closure over what it needs: it runs for every chunk of every stream."""
        push, note, checked = self._responder.push, self.tail.add, self._limit is not None

        def pass_on(data: bytes) -> None:
            if checked:
                self._check_length(data)
            push(data)
            note(data)

        return pass_on

    def _check_length(self, data: bytes) -> None:
        if self._limit is not None and self.tail.sent + len(data) > self._limit:
            raise TooLong

    async def _pull(self, body: UpstreamReply, idle_timeout: float) -> None:
        """The backend's silence has a limit; time spent waiting for a slow caller is not the backend's."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(idle_timeout) as silence:
            while data := await body.more():
                silence.reschedule(None)
                passed = self.take(data)
                self._check_length(passed)
                await self._send(passed)
                silence.reschedule(loop.time() + idle_timeout)
        if self._filters:
            await self._send(self._filters.finish())

    async def _send(self, data: bytes) -> None:
        if data:
            await self._responder.write(data)
            self.tail.add(data)

    def _all_there(self) -> bool:
        """Whether a stream that broke had its last event already, to the last byte: then the caller has everything, and
        an error behind it would be the only thing that is wrong. What filters hold back nobody can tell.
        """
        if self._filters:
            return False
        tail = bytes(self.tail)
        if self._framing is Framing.SSE:
            return tail.endswith(b"\n\n") and self.tail.ends_with(self._endpoint.terminals)
        return self._framing is Framing.NDJSON and says_done(tail)

    def _complete(self, body: UpstreamReply) -> bool:
        """An SSE stream must have had its terminal event: Ollama swallows errors that happen inside of one.

        What counts is what the backend sent, whatever filters made of it; and a model may well say "data: [DONE]", but
        never at the start of a line.
        """
        received = self._received
        if self._framing is Framing.NDJSON:
            if received.at_line_end and body.delimited:
                return True
            tail = bytes(received)
            return ended_well(tail, whole=len(tail) == received.sent, delimited=body.delimited)
        if self._framing is not Framing.SSE or not self._endpoint.terminals:
            return True
        return received.ends_with(self._endpoint.terminals)


def _tail_for(endpoint: Endpoint) -> Tail:
    return EventTail() if endpoint.name == "responses" else Tail()


def reply_headers(head: Head, framing: Framing) -> dict[str, str]:
    """What the caller sees of a backend's headers: the type of the body, and nothing of the inside.

    Streams ask proxies on the way not to collect them.
    """
    headers = {}
    if content_type := head.headers.get("content-type"):
        headers["content-type"] = content_type
    if framing is not Framing.WHOLE:
        headers["cache-control"] = "no-cache"
        headers["x-accel-buffering"] = "no"
    return headers
