"""What the supervisor and a worker say to each other over the socket between them.

A message is one byte that says what it is, the number of the reload that it is about in four bytes, the length of what
follows in four more, and that. What follows a RELOAD is the settings, pickled: the socket has no name, so nobody else
can write to it.

Each reload has a number of its own, so that what is late is not taken for an answer to the next one.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

_FRAME = struct.Struct("!cII")


class Word(Enum):
    """What a message is."""

    READY = b"+"
    """A worker to its supervisor: it serves."""
    CANNOT_START = b"!"
    """A worker to its supervisor: it cannot start; the text says why."""
    STOP = b"s"
    """The supervisor to a worker: let requests in flight end. The end of the stream means the same."""
    STOP_NOW = b"n"
    """The supervisor to a worker: break what is in flight."""
    RELOAD = b"r"
    """The supervisor to a worker: prepare for these settings."""
    PREPARED = b"p"
    """A worker to its supervisor: it could serve with them."""
    REFUSED = b"x"
    """A worker to its supervisor: it could not; the text says why."""
    TAKE_OVER = b"t"
    """The supervisor to a worker: every worker is prepared, serve with them."""
    DROP = b"d"
    """The supervisor to a worker: some worker is not, forget them."""


class Message(NamedTuple):
    """One message; `reload` is 0 where it is about none."""

    word: Word
    reload: int = 0
    body: bytes = b""

    def __bytes__(self) -> bytes:
        """As it goes over the socket."""
        return _FRAME.pack(self.word.value, self.reload, len(self.body)) + self.body


class Inbox:
    """Makes messages of what is read from the socket."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with this data."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _FRAME.size:
            word, reload, length = _FRAME.unpack_from(self._buffer)
            end = _FRAME.size + length
            if len(self._buffer) < end:
                break
            messages.append(Message(Word(word), reload, bytes(self._buffer[_FRAME.size : end])))
            del self._buffer[:end]
        return messages
