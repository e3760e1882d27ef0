"""From the bytes a backend sends to one response, strictly. Does no I/O.

llhttp reads the head and the chunks. What it lets through and a gateway must not, because the next reader
of the same bytes may see another message in them, is refused here: empty lines before the status line,
protocols other than HTTP/1.0 and 1.1, control characters in the reason phrase, and every transfer coding
but a single ``chunked``. Where the head and the body end is decided here too, so that bytes behind the end
are noticed and the connection that carried them is not used again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import httptools
import httpx

from herdgate.upstream.head import BodyEnd, Headers, ResponseHead, framing, read_status_line

_BEGINNING = b"HTTP/1."
_END_OF_HEAD = b"\r\n\r\n"

_CHUNK_ALLOWANCE = 16
"""Bytes of chunk framing that one byte of body excuses; the smallest chunk needs six."""


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


class _Events:
    """What llhttp reports.

    An object of its own: the parser holds methods of it, and if they were methods of the parser's owner,
    every response would leave a reference cycle for the garbage collector.
    """

    __slots__ = ("head_complete", "headers", "message_complete", "on_body", "pieces")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append
        self.head_complete = False
        self.message_complete = False

    def on_message_begin(self) -> None:
        if self.message_complete:  # else llhttp reads on and a second response becomes part of the first
            raise ValueError("another response behind the end of this one")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:  # later ones are trailers, which nobody upstream of a relay can use
            self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_message_complete(self) -> None:
        self.message_complete = True

    def await_next_head(self) -> None:
        self.headers = []
        self.head_complete = self.message_complete = False


class ResponseParser:
    """Reads exactly one response.

    expects_body: False for the answer to HEAD.

    Every method that takes bytes raises ``httpx.RemoteProtocolError`` when they are not HTTP, not
    unambiguous or beyond the limits; the parser is of no use after that.
    """

    def __init__(self, *, expects_body: bool = True, limits: ResponseLimits) -> None:
        self._expects_body = expects_body
        self._limits = limits
        self._events = _Events()
        self._llhttp = httptools.HttpResponseParser(self._events)
        # What the next byte belongs to. A function and no method of its own, which would be a reference cycle.
        self._step: Callable[[ResponseParser, bytes], bytes] = ResponseParser._feed_head
        self._head_bytes = b""
        self._interim = 0
        self._length = self._left = 0
        self._excess = 0
        self._tail = b""
        self.complete = False
        """Whether the response has ended as its framing demands."""
        self.head: ResponseHead | None = None
        """The final head, as soon as all of it is there."""
        self.keep_alive = False
        """Whether the backend means to keep the connection; meaningful once the head is there."""
        self.surplus = False
        """Whether bytes followed the end of the response, which makes the connection unfit for another."""

    @property
    def started(self) -> bool:
        """Whether any byte has come."""
        return bool(self.head or self._head_bytes or self._interim)

    def feed(self, data: bytes) -> bytes:
        """Take what came from the socket and return the bytes of the body in it, chunk framing removed."""
        return self._step(self, data)

    def feed_eof(self) -> None:
        """Take the end of the connection; only a body without a declared end may end so."""
        step = self._step
        if step is ResponseParser._feed_until_close:
            self._end()
        elif step is ResponseParser._feed_length:
            got = self._length - self._left
            raise httpx.RemoteProtocolError(f"connection closed after {got} of {self._length} bytes of the body")
        elif step is ResponseParser._feed_chunked:
            raise httpx.RemoteProtocolError("connection closed before the last chunk of the body")
        elif step is ResponseParser._feed_head and self.started:
            raise httpx.RemoteProtocolError("connection closed in the middle of the response head")
        elif step is ResponseParser._feed_head:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")

    def _end(self) -> None:
        self._step = ResponseParser._feed_end
        self.complete = True

    def _feed_head(self, data: bytes) -> bytes:
        before = len(self._head_bytes)
        seen = self._head_bytes + data
        end = seen.find(_END_OF_HEAD, max(0, before - 3))
        if end < 0:
            self._check_partial_head(seen)
            self._parse(data)
            self._head_bytes = seen
            return b""
        end += len(_END_OF_HEAD)
        self._check_head_size(end)
        version, status, reason = read_status_line(seen)
        self._parse(data[: end - before])
        self._head_bytes = b""
        if status < 200:
            self._skip_interim()
        else:
            self._take_head(ResponseHead(version, status, reason, self._events.headers))
        rest = data[end - before :]
        return self.feed(rest) if rest else b""

    def _check_partial_head(self, seen: bytes) -> None:
        if not seen.startswith(_BEGINNING[: len(seen)]):  # "\r\n", which llhttp skips, or another protocol
            raise httpx.RemoteProtocolError("the response does not begin with an HTTP/1 status line")
        self._check_head_size(len(seen))

    def _check_head_size(self, size: int) -> None:
        if size > self._limits.head_bytes:
            raise httpx.RemoteProtocolError(f"response head larger than {self._limits.head_bytes} bytes")

    def _skip_interim(self) -> None:
        self._interim += 1
        if self._interim > self._limits.interim:
            raise httpx.RemoteProtocolError(f"more than {self._limits.interim} interim (1xx) responses")
        self._events.await_next_head()

    def _take_head(self, head: ResponseHead) -> None:
        if len(head.headers) > self._limits.fields:
            raise httpx.RemoteProtocolError(f"response head with more than {self._limits.fields} fields")
        expected = framing(head, expects_body=self._expects_body)
        self._step = _STEPS[expected.end]
        self.complete = expected.end is BodyEnd.NONE
        self._length = self._left = expected.length
        self.keep_alive = expected.keep_alive
        self.head = head

    def _feed_length(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left > 0:
            return data
        self._end()
        if self._left == 0:
            return data
        self.surplus = True
        return data[: self._left]

    def _feed_chunked(self, data: bytes) -> bytes:
        events = self._events
        try:
            self._llhttp.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not events.message_complete:
                raise httpx.RemoteProtocolError(f"malformed response: {error}") from error
            self.surplus = True
        pieces = events.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._tail = data if len(data) > 4 else (self._tail + data)[-5:]
        if events.message_complete:
            self._end()
            # llhttp skips line ends behind the response; the response itself ends in exactly two of them.
            self.surplus = self.surplus or not self._tail[-5:].strip(b"\r\n")
            return body
        excess = self._excess + len(data) - _CHUNK_ALLOWANCE * len(body)
        if excess > self._limits.head_bytes:
            raise httpx.RemoteProtocolError("chunk extensions or trailers without end")
        self._excess = max(0, excess)
        return body

    def _feed_until_close(self, data: bytes) -> bytes:
        return data

    def _feed_end(self, data: bytes) -> bytes:  # noqa: ARG002  (each state takes the same arguments)
        self.surplus = True
        return b""

    def _parse(self, data: bytes) -> None:
        try:
            self._llhttp.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise httpx.RemoteProtocolError(f"malformed response: {error}") from error


_STEPS = {
    BodyEnd.NONE: ResponseParser._feed_end,
    BodyEnd.LENGTH: ResponseParser._feed_length,
    BodyEnd.LAST_CHUNK: ResponseParser._feed_chunked,
    BodyEnd.CLOSE: ResponseParser._feed_until_close,
}
