"""One response on its way from a backend, and the two ways to read its body."""

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

import httpx

from herdgate.outbox import Delivery
from herdgate.upstream.head import ResponseHead
from herdgate.upstream.parser import ResponseParser
from herdgate.upstream.passage import Passage, Sink

if TYPE_CHECKING:
    from herdgate.upstream.connection import Connection

HIGH_WATER = 262_144
"""Bytes of body that wait for their reader before the socket is left unread."""


class Phase(Enum):
    """How far the response has come."""

    ARRIVING = auto()
    COMPLETE = auto()
    BROKEN = auto()
    CLOSED = auto()


class BodyStream(httpx.AsyncByteStream):
    """The body of a response: pulled with ``async for``, or pushed into a sink with ``relay``.

    Both raise what ended the response early: ``httpx.RemoteProtocolError`` (the backend broke HTTP or closed
    in the middle), ``httpx.ReadError`` (the connection broke), ``httpx.ReadTimeout`` (silence for longer than
    the idle timeout) and ``httpx.StreamClosed`` after ``aclose``. A reader that is cancelled ends the response.

    The stream holds the connection only while the response is arriving. Once the last byte is there, the
    connection serves others although the body may not have been read yet.
    """

    __slots__ = (
        "_buffer",
        "_buffered",
        "_connection",
        "_error",
        "_idle_timeout",
        "_on_answer",
        "_parser",
        "_paused",
        "_phase",
        "_sink",
        "_waiter",
    )

    def __init__(self, connection: "Connection", parser: ResponseParser, idle_timeout: float | None) -> None:
        self._connection: Connection | None = connection
        """Ours in the phase ARRIVING and in no other."""
        self._parser = parser
        self._idle_timeout = idle_timeout
        self._phase = Phase.ARRIVING
        self._error: Exception | None = None
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._sink: Sink | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_answer: Callable[[], None] | None = None

    # For the consumer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield all that has arrived since the last time, as one bytes object, until the body ends."""
        while data := await self.more():
            yield data

    def arrived(self) -> bytes:
        """All that has arrived since the last time, without waiting for any of it."""
        return self._take() if self._buffer else b""

    async def more(self) -> bytes:
        """All that has arrived since the last time; empty once the body has ended."""
        while not self._buffer:
            if not await self._news():
                return b""
        return self._take()

    @property
    def complete(self) -> bool:
        """Whether the last byte is there, be it read or not."""
        return self._phase is Phase.COMPLETE

    async def relay(self, sink: Sink, delivery: Delivery | None = None, note: Sink | None = None) -> bytes:
        """Hand over what is buffered, then call ``sink`` with the body in each read of the socket but the last: what
        came together with the end is returned.

        If ``delivery`` and ``note`` are given, reads that are exactly one chunk may go there instead; see ``Passage``.

        The calls come from the event loop's read callback, without waking a task; ``sink`` must not block.
        What it raises closes the connection and surfaces here. Returns at the end of the body. If ``sink``
        cannot keep up it calls ``pause``, and ``resume`` later.
        """
        self._sink = sink
        passage = None
        try:
            if self._buffer and not self.complete:
                self._hand_over(sink, self._take())
            connection, reader = self._connection, self._parser.chunk_reader
            if connection is not None and reader is not None and delivery is not None and note is not None:
                passage = Passage(connection, reader, delivery, note)
                connection.divert(passage)
            while await self._news():
                pass
        finally:
            self._sink = None  # it may well refer to this stream, in order to pause it
            if passage is not None:
                passage.flush()
        return self.arrived()

    def pause(self) -> None:
        """Leave the socket unread until ``resume``; the backend's silence does not count meanwhile."""
        if self._connection is not None:
            self._paused = True
            self._connection.pause_reading()
            self._connection.silence.seconds = None

    def resume(self) -> None:
        """Read again after ``pause``."""
        if self._connection is not None and self._paused:
            self._paused = False
            self._connection.resume_reading()
            self._restart_clock()

    def set_idle_timeout(self, seconds: float | None) -> None:
        """From now on the backend may be silent for this long while somebody waits for it; None: for ever."""
        self._idle_timeout = seconds
        self._restart_clock()

    async def aclose(self) -> None:
        """Be done with the response. Never waits and may be called any number of times.

        If the response is still arriving, its connection is cut at once, which tells the backend to stop working on it.
        """
        self.close()

    def close(self) -> None:
        """``aclose`` without a coroutine, which it has no need of."""
        self._buffer.clear()
        connection = self._connection
        if connection is not None:
            self._connection, self._phase = None, Phase.CLOSED
            connection.abort()
            self._wake()
        elif self._phase is Phase.COMPLETE:
            self._phase = Phase.CLOSED

    # For the transport, before the consumer gets the stream

    async def head(self) -> ResponseHead:
        """Wait for the final response head."""
        parser = self._parser
        while parser.head is None:
            if not await self._news():
                raise RuntimeError("a response without a head cannot be complete")
        if self._error is not None:
            raise self._error
        return parser.head

    def when_answered(self, callback: Callable[[], None] | None) -> None:
        """Be called once when the head is there or never will be, while nobody waits in ``head``."""
        self._on_answer = callback
        self._tell_answer()

    # For the connection

    def receive(self, data: bytes) -> None:
        """Take what came from the socket."""
        parser = self._parser
        try:
            body = parser.step(parser, data)
        except httpx.RemoteProtocolError as error:
            self.fail(error)
            return
        sink = self._sink
        if not body:
            pass
        elif sink is None or parser.complete:
            self._keep(body)
        else:
            try:
                sink(body)
            except Exception as error:
                self.fail(error)
        if parser.complete:
            self._finish()
        elif sink is None:
            self._wake()

    def receive_eof(self) -> None:
        """Take the end of the connection, which for some bodies is their proper end."""
        try:
            self._parser.feed_eof()
        except httpx.RemoteProtocolError as error:
            self.fail(error)
        else:
            self._finish()

    def fail(self, error: Exception) -> None:
        """End a response that is still arriving, with this error and with its connection."""
        connection = self._connection
        if connection is not None:
            self._connection, self._phase, self._error = None, Phase.BROKEN, error
            connection.abort()
            self._wake()

    # Inside

    def _finish(self) -> None:
        connection, parser = self._connection, self._parser
        if connection is not None:
            self._connection, self._phase = None, Phase.COMPLETE
            connection.release(reusable=parser.keep_alive and not parser.surplus)
            self._wake()

    def _keep(self, body: bytes) -> None:
        self._buffer.append(body)
        self._buffered += len(body)
        if self._buffered > HIGH_WATER and self._connection is not None:
            self._connection.pause_reading()

    def _hand_over(self, sink: Sink, body: bytes) -> None:
        try:
            sink(body)
        except Exception as error:
            self.fail(error)

    def _take(self) -> bytes:
        data = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        if self._connection is not None and not self._paused:
            self._connection.resume_reading()
        return data

    async def _news(self) -> bool:
        """Wait until something has happened, but not longer than the idle timeout; False if nothing will any more.

        Raises what ended the response early.
        """
        connection = self._connection
        if connection is None:
            return self._has_ended_well()
        if self._waiter is not None:
            raise RuntimeError("a response body has one reader at a time")
        self._waiter = waiter = connection.loop.create_future()
        if self._idle_timeout is not None and not self._paused:
            connection.silence.start(self._idle_timeout)
        try:
            await waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None
            if self._connection is not None:
                connection.silence.seconds = None
        return True

    def _has_ended_well(self) -> bool:
        if self._error is not None:
            raise self._error
        if self._phase is Phase.CLOSED:
            raise httpx.StreamClosed
        return False

    def _restart_clock(self) -> None:
        if self._connection is not None and self._waiter is not None and not self._paused:
            self._connection.silence.start(self._idle_timeout)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._on_answer is not None:
            self._tell_answer()

    def _tell_answer(self) -> None:
        if self._on_answer is not None and (self._parser.head is not None or self._phase is not Phase.ARRIVING):
            callback, self._on_answer = self._on_answer, None
            callback()
