"""The opening of a backend's reply: as much of it as must be seen before anything is released.

For a stream that is its first complete event; for any other reply the whole body, up to a limit.
"""

from __future__ import annotations

import re
from enum import Enum

from herdgate.exchange import Head
from herdgate.failure import Failure, Kind, Phase
from herdgate.surface import Family

EVENT_LIMIT = 8_000_000
"""The longest first event, in bytes: what Ollama's own client accepts as one line."""
HOLD_LIMIT = 8 * 1024 * 1024
"""How much of a reply that does not stream is held, in bytes."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class Framing(Enum):
    """How the body of a reply is divided into events."""

    NDJSON = "ndjson"
    SSE = "sse"
    WHOLE = "whole"


_STREAMS = {"application/x-ndjson": Framing.NDJSON, "text/event-stream": Framing.SSE}


def framing_of(head: Head, *, may_stream: bool) -> Framing:
    """How to read this reply. Even a streaming request may get one JSON object: errors, loads and unloads."""
    return _STREAMS.get(head.content_type, Framing.WHOLE) if may_stream else Framing.WHOLE


def foreign(framing: Framing, family: Family) -> Failure | None:
    """Whether this is a stream as another API has it: no client of this one would understand it, or miss its end."""
    if framing is Framing.WHOLE or framing is (Framing.NDJSON if family is Family.OLLAMA else Framing.SSE):
        return None
    return Failure(Kind.MALFORMED, Phase.OPENING, f"a stream of {framing.value}, which this path does not send")


def holds(data: bytes) -> bool:
    """Whether a complete body is one to be held, neither empty nor too long."""
    return 0 < len(data) <= HOLD_LIMIT and not data.isspace()


class Opening:
    """Collects bytes until the opening is complete. No I/O."""

    __slots__ = ("_event_start", "_searched", "buffer", "framing")

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.buffer = bytearray()
        self._searched = 0
        self._event_start = 0

    def feed(self, data: bytes) -> int | None:
        """Take more bytes. Returns where the first event ends, or None if more is needed."""
        self.buffer += data
        match self.framing:
            case Framing.WHOLE:
                return len(self.buffer) if len(self.buffer) > HOLD_LIMIT else None
            case Framing.NDJSON:
                end = self._line_end()
            case Framing.SSE:
                end = self._event_end()
        self._searched = len(self.buffer)
        return end

    def _line_end(self) -> int | None:
        found = self.buffer.find(b"\n", self._searched)
        return found + 1 if found >= 0 else None

    def _event_end(self) -> int | None:
        """The end of the first event that has data: comments alone, as some proxies send them, say nothing yet."""
        unseen = max(self._event_start, self._searched - len(b"\r\n\r"))
        for blank in _BLANK_LINE.finditer(self.buffer, unseen):
            event = self.buffer[self._event_start : blank.start()]
            if any(line.startswith(b"data:") for line in event.splitlines()):
                return blank.end()
            self._event_start = blank.end()
        return None

    def overlong(self) -> Failure | None:
        """Whether the first event has grown past anything a model sends."""
        if self.framing is Framing.WHOLE or len(self.buffer) <= EVENT_LIMIT:
            return None
        return Failure(Kind.MALFORMED, Phase.OPENING, f"no end of the first event within {EVENT_LIMIT} bytes")

    def ended(self) -> Failure | None:
        """The body has ended before the opening was complete: is it a reply all the same?

        A last line of NDJSON may lack its end. An SSE event without the blank line after it does not count, by the
        standard.
        """
        if not self.buffer or self.buffer.isspace():
            return Failure(Kind.EMPTY, Phase.OPENING, "a success status with an empty body")
        if self.framing is Framing.SSE:
            return Failure(Kind.BROKEN, Phase.OPENING, "the stream ended before its first event was complete")
        return None
