"""From the bytes a backend sends to one response, strictly. Does no I/O.

What one reader may take for the body and another for the next response is refused. Where the head and the body end is
decided here, so that bytes behind the end are noticed and the connection that carried them is not used again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from herdgate.upstream.chunks import ChunkReader
from herdgate.upstream.head import ResponseHead, read_head
from herdgate.upstream.pieces import END_OF_HEAD, HeadInPieces, too_large


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """How much a backend may send before its response counts as an attack or a fault.

    head_bytes: bytes in one head (status line, fields, empty line); also the chunk extensions and trailers
        that may come without body in between.
    fields: header fields in one head.
    interim: 1xx responses before the real one.
    """

    head_bytes: int = 65_536
    fields: int = 128
    interim: int = 8


DEFAULT_LIMITS = ResponseLimits()


class ResponseParser:
    """Reads exactly one response.

    expects_body: False for the answer to HEAD.

    Every method that takes bytes raises ``httpx.RemoteProtocolError`` when they are not HTTP, not
    unambiguous or beyond the limits; the parser is of no use after that.
    """

    __slots__ = (
        "_chunks",
        "_expects_body",
        "_interim",
        "_left",
        "_limits",
        "_pieces",
        "complete",
        "head",
        "keep_alive",
        "step",
        "surplus",
    )

    def __init__(self, *, expects_body: bool = True, limits: ResponseLimits) -> None:
        self._expects_body = expects_body
        self._limits = limits
        self.step: Callable[[ResponseParser, bytes], bytes] = ResponseParser._feed_head
        """What takes the next bytes, given this parser. No method of it, which would be a reference cycle."""
        self._pieces: HeadInPieces | None = None
        self._interim = 0
        self._left: int  # if the length of the body is declared
        self._chunks: ChunkReader  # if it comes in chunks
        self.complete = False
        """Whether the response has ended as its framing demands."""
        self.head: ResponseHead | None = None
        """The final head, as soon as all of it is there."""
        self.keep_alive: bool
        """Whether the backend means to keep the connection; known once the head is there."""
        self.surplus = False
        """Whether bytes followed the end of the response, which makes the connection unfit for another."""

    @property
    def chunk_reader(self) -> ChunkReader | None:
        """What reads the body, if it comes in chunks and has not ended."""
        return self._chunks if self.step is ResponseParser._feed_chunked else None

    def feed(self, data: bytes) -> bytes:
        """Take what came from the socket and return the bytes of the body in it, chunk framing removed."""
        return self.step(self, data)

    def feed_eof(self) -> None:
        """Take the end of the connection; only a body without a declared end may end so."""
        step = self.step
        if step is ResponseParser._feed_until_close:
            self._end()
        elif step is ResponseParser._feed_length:
            raise httpx.RemoteProtocolError(self._too_short())
        elif step is ResponseParser._feed_chunked:
            raise httpx.RemoteProtocolError("connection closed before the last chunk of the body")
        elif step is ResponseParser._feed_head and (self._pieces or self._interim):
            raise httpx.RemoteProtocolError("connection closed in the middle of the response head")
        elif step is ResponseParser._feed_head:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")

    def _too_short(self) -> str:
        length = self.head.length if self.head and self.head.length else 0
        return f"connection closed after {length - self._left} of {length} bytes of the body"

    def _end(self) -> None:
        self.step = ResponseParser._feed_end
        self.complete = True

    def _feed_head(self, data: bytes) -> bytes:
        """Usually all of the head is in one read, and more with it."""
        end = -1 if self._pieces else data.find(END_OF_HEAD)
        if end < 0:
            data = self._join(data)
            if not data:
                return b""
            end = data.find(END_OF_HEAD)
        end += len(END_OF_HEAD)
        limits = self._limits
        if end > limits.head_bytes:
            raise too_large(limits.head_bytes)
        head = read_head(data[: end - 2].decode("latin-1"), expects_body=self._expects_body, most_fields=limits.fields)
        if head.status >= 200:
            self._take_head(head)
        else:
            self._skip_interim()
        return self.step(self, data[end:]) if len(data) > end else b""

    def _join(self, data: bytes) -> bytes:
        """Everything since the head began, once all of it is there."""
        if self._pieces is None:
            self._pieces = HeadInPieces(self._limits.head_bytes, self._limits.fields)
        whole = self._pieces.add(data)
        if whole:
            self._pieces = None
        return whole

    def _skip_interim(self) -> None:
        self._interim += 1
        if self._interim > self._limits.interim:
            raise httpx.RemoteProtocolError(f"more than {self._limits.interim} interim (1xx) responses")

    def _take_head(self, head: ResponseHead) -> None:
        self.head = head
        self.keep_alive = head.keep_alive
        length = head.length
        if length:
            self._left = length
            self.step = ResponseParser._feed_length
        elif length == 0:
            self._end()
        elif head.chunked:
            self._chunks = ChunkReader(self._limits.head_bytes)
            self.step = ResponseParser._feed_chunked
        else:
            self.step = ResponseParser._feed_until_close

    def _feed_length(self, data: bytes) -> bytes:
        self._left = left = self._left - len(data)
        if left > 0:
            return data
        self.step = ResponseParser._feed_end
        self.complete = True
        if left == 0:
            return data
        self.surplus = True
        return data[:left]

    def _feed_chunked(self, data: bytes) -> bytes:
        chunks = self._chunks
        body = chunks.feed(data)
        if chunks.complete:
            self._end()
            self.surplus = chunks.surplus
        return body

    def _feed_until_close(self, data: bytes) -> bytes:
        return data

    def _feed_end(self, data: bytes) -> bytes:  # noqa: ARG002  (each step takes the same arguments)
        self.surplus = True
        return b""
