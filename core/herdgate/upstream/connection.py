"""One TCP or TLS connection to a backend, carrying one exchange after the other."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, cast

import httpx

from herdgate.outbox import Outbox
from herdgate.upstream.errors import lost_error
from herdgate.upstream.origin import Origin
from herdgate.upstream.parser import ResponseParser
from herdgate.upstream.silence import SilenceTimer
from herdgate.upstream.stream import BodyStream

_SOCKET_OPTIONS = tuple(
    (level, getattr(socket, option), value)
    for level, option, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
    )
    if hasattr(socket, option)  # not every system has all of them
)
"""A backend may think for minutes without a byte on the wire. Keep-alive probes tell a backend that thinks from
a machine that is gone, within 30 s; TCP_USER_TIMEOUT (ms) does the same while sent bytes are not acknowledged. The
event loops see to TCP_NODELAY themselves."""

_READ_SIZE = 65_536


class State(Enum):
    """What a connection is doing."""

    OPENING = auto()
    IDLE = auto()
    BUSY = auto()
    CLOSED = auto()


class Connection(asyncio.Protocol):
    """Moves bytes between a socket and the response that is arriving on it.

    on_idle: called when an exchange has ended and the connection can carry another.
    on_closed: called once, as soon as it cannot be used any more.
    """

    __slots__ = (
        "__weakref__",
        "_diverted",
        "_full",
        "_on_closed",
        "_on_idle",
        "_outbox",
        "_reading_paused",
        "_sent",
        "_state",
        "_stream",
        "_time",
        "_transport",
        "_writable",
        "answered",
        "loop",
        "lost",
        "origin",
        "silence",
    )

    def __init__(
        self,
        origin: Origin,
        loop: asyncio.AbstractEventLoop,
        on_idle: Callable[["Connection"], None],
        on_closed: Callable[["Connection"], None],
        outbox: Outbox,
    ) -> None:
        self.origin = origin
        self._outbox = outbox
        self.loop = loop
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the socket is closed."""
        self.answered = False
        """Whether any byte has come in the current or latest exchange."""
        self.silence = SilenceTimer(loop, self._silent_for)
        self._time = loop.time
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._state = State.OPENING
        self._transport: asyncio.Transport  # from the moment there is one
        self._stream: BodyStream | None = None
        self._sent = True
        self._diverted = False
        self._reading_paused = False
        self._full = False
        """Whether the backend takes no more for now."""
        self._writable: asyncio.Future[None] | None = None
        """What waits for it to take more: made when it is needed, which for most connections is never."""

    # Exchanges

    def opened(self, transport: asyncio.Transport) -> bool:
        """Begin to serve, over the transport that TLS may have put on top of the socket's.

        False if the backend has made the connection unusable by now.
        """
        if self._state is State.CLOSED:
            return False
        self._transport = transport
        self._state = State.IDLE
        return True

    def begin(self, parser: ResponseParser, idle_timeout: float | None) -> BodyStream:
        """Start an exchange; whatever arrives from now on is its response."""
        self._state = State.BUSY
        self.answered = self._sent = False
        self._stream = stream = BodyStream(self, parser, idle_timeout)
        return stream

    def write_part(self, data: bytes | memoryview) -> None:
        """Send without waiting; do nothing on a broken connection, whose end the response is about to hear of."""
        if not self.is_closing():
            self._transport.write(data)

    def write_whole(self, request: bytes) -> None:
        """Send a whole request, together with those that go elsewhere in this turn of the loop."""
        self._outbox.write(self, request)

    def is_closing(self) -> bool:
        """Whether nothing of the request can be sent any more."""
        return self._state is not State.BUSY or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send all of a request, or what is left of it; not to be called on a closing connection."""
        self._transport.write(data)
        self._sent = True

    def divert(self, protocol: asyncio.Protocol) -> None:
        """Until the end of the exchange have the socket's bytes go to this, which gives back what is not for it."""
        self._diverted = True
        self._transport.set_protocol(protocol)

    async def drain(self, seconds: float | None) -> None:
        """Wait until the backend has taken most of what was written.

        Raises ``httpx.WriteTimeout`` when it does not within this time.
        """
        if self._transport.is_closing():
            await asyncio.sleep(0)  # let the event loop report it
        if not self._full:
            return
        self._writable = writable = self.loop.create_future()
        try:
            async with asyncio.timeout(seconds) as deadline:
                await writable
        except TimeoutError:
            if not deadline.expired():
                raise
            raise httpx.WriteTimeout(f"{self.origin} took no more of the request for {seconds:g} s") from None
        finally:
            self._writable = None

    def release(self, *, reusable: bool) -> None:
        """End an exchange whose response is complete.

        The backend may have answered without reading the whole request. What is left of that would be the
        beginning of the next request, so such a connection is closed.
        """
        self._stream = None
        self.silence.seconds = None
        transport = self._transport
        if self._diverted:
            self._diverted = False
            transport.set_protocol(self)
        all_taken = self._sent and not transport.get_write_buffer_size() and not transport.is_closing()
        if self._state is State.BUSY and reusable and all_taken:
            self._state = State.IDLE
            if self._reading_paused:
                self.resume_reading()
            self._on_idle(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection at once, whatever it is doing."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        self.silence.close()
        self.resume_writing()
        self._transport.abort()
        self._on_closed(self)
        if self._stream is not None:
            self._stream.fail(httpx.ReadError(f"the connection to {self.origin} was closed on this side"))
            self._stream = None

    def pause_reading(self) -> None:
        """Leave incoming bytes to the socket, whose window then slows the backend down."""
        if self._state is State.BUSY and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo ``pause_reading``."""
        if self._reading_paused and self._state is not State.CLOSED:
            self._reading_paused = False
            self._transport.resume_reading()

    def _hear_last_words(self) -> None:
        """Read what the backend said before it refused to be sent any more.

        A server that answers early and closes resets the connection as well. The event loop gives the connection
        up when a write fails, with the answer unread in the socket, which is still open here. With TLS its bytes
        would be of no use.
        """
        if self._stream is None or self.origin.scheme == "https":
            return
        descriptor = self._transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while self._stream is not None and (data := os.read(descriptor, _READ_SIZE)):
                self.data_received(data)

    def _silent_for(self, seconds: float) -> None:
        if self._stream is not None:
            self._stream.fail(httpx.ReadTimeout(f"{self.origin} sent nothing for {seconds:g} s"))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket's options; with TLS this is the transport below it."""
        self._transport = cast(asyncio.Transport, transport)
        _set_options(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Pass on bytes of the response; bytes that nobody asked for make the connection unusable."""
        stream = self._stream
        if stream is None:
            self.abort()
            return
        self.answered = True
        self.silence.since = self._time()
        stream.receive(data)

    def eof_received(self) -> None:
        """Close our side too: a backend that will not send any more is of no use."""
        if self._stream is not None:
            self._stream.receive_eof()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the response why it ends, if it was still arriving."""
        if exc is not None:
            self._hear_last_words()
        if self._stream is not None and exc is not None:
            self._stream.fail(lost_error(self.origin, exc, sent=self._sent))
        elif self._stream is not None:
            self._stream.receive_eof()
        self.abort()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._full = True

    def resume_writing(self) -> None:
        """The socket has taken most of it, or there is none any more."""
        self._full = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


def _set_options(lent: Any) -> None:
    """Set the options of the socket that a transport lends. uvloop makes a socket of its own for each call of that, so
    this makes one for all of them.
    """
    sock = socket.socket(lent.family, lent.type, lent.proto, lent.fileno())
    try:
        for option in _SOCKET_OPTIONS:
            with contextlib.suppress(OSError):
                sock.setsockopt(*option)
    finally:
        sock.detach()
