"""The short way for chunks that may go on as they came."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from herdgate.outbox import Delivery
from herdgate.upstream.chunks import SIZES, ChunkReader

if TYPE_CHECKING:
    from herdgate.upstream.connection import Connection

Sink = Callable[[bytes], None]

_TOGETHER = 8
"""Chunks that are noted together."""


class Passage(asyncio.Protocol):
    """Stands between a connection and its socket while a reply is relayed as it is, to somebody who is sent chunks too.

    A read of the socket that is exactly one chunk, as nearly all are while a model writes, is sent on with its frame
    instead of being taken out of one and put into another. Whatever else happens is left to the connection.

    With a thousand streams the memory that belongs to one of them is in no cache when its next chunk comes, and to
    fetch it takes longer than what is done with it. So this uses as few objects as it can.

    delivery: where chunks are sent.
    note: gets what was in them, later and several at a time; all of it after ``flush``.
    """

    __slots__ = ("_between", "_chunks", "_connection", "_note", "_outbox", "_reader", "_to")

    def __init__(self, connection: "Connection", reader: ChunkReader, delivery: Delivery, note: Sink) -> None:
        self._connection = connection
        self._reader = reader
        self._outbox, self._to = delivery
        self._note = note
        self._chunks: list[bytes] = []
        self._between = reader.between

    def data_received(self, data: bytes) -> None:
        """Send this on if it is one chunk."""
        line = data.find(b"\r\n")
        size = SIZES.get(data[:line])
        if size is None or data[line + 2 + size :] != b"\r\n" or not self._between:
            self.flush()
            self._connection.data_received(data)
            self._between = self._reader.between
            return
        self._connection.silence.since = self._connection.loop.time()
        self._outbox.write(self._to, data)
        chunks = self._chunks
        chunks.append(data)
        if len(chunks) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Note what has not been noted yet."""
        if self._chunks:
            self._note(b"".join([chunk[chunk.find(b"\n") + 1 : -2] for chunk in self._chunks]))
            self._chunks.clear()

    def eof_received(self) -> None:
        """Leave this to the connection, like all that follows."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``eof_received``. The connection may find something that is still to be read."""
        self.flush()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """See ``eof_received``."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """See ``eof_received``."""
        self._connection.resume_writing()
