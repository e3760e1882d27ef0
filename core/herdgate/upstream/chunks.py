"""A chunked response body, read strictly (RFC 9112, section 7.1). Does no I/O.

Not the reader of request bodies (`front/chunks.py`). A caller has no reason to send long extensions or many trailers, a
server behind other proxies may have one: here only the sum of them is limited, while extensions must be well-formed and
trailers must not frame the body. And a stream comes in thousands of reads, nearly all of them whole chunks; those have
a way of their own.
"""

import re

import httpx

from herdgate.upstream.grammar import NAME, TEXT, beginnings

SIZES = {b"%x" % size: size for size in range(1, 1024)}
"""Most chunks of a stream are of these sizes; to look one up is cheaper than to read it strictly."""

_SIZE_DIGITS = "0*[0-9A-Fa-f]{1,16}"
_QUOTED = r'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_SIZE = re.compile(f"({_SIZE_DIGITS})(?:;{NAME}(?:=(?:{NAME}|{_QUOTED}))?)*\r\n".encode())
_TRAILER = re.compile(f"({NAME}):{TEXT}\r\n".encode())
_BEGUN_SIZE = re.compile(beginnings(_SIZE_DIGITS, f"(?:;{TEXT})?", r"\r").encode())
_BEGUN_TRAILER = re.compile(beginnings(NAME, ":", TEXT, r"\r").encode() + rb"|\r")
_ENOUGH = 256
"""Bytes of a line that must be there to tell that it is none."""
_END = [b"0", b"", b""]
"""The end of a body without trailers, cut at its line ends."""
_NO_TRAILERS = (b"content-length", b"transfer-encoding")
"""What frames the message cannot come behind it (RFC 9110, section 6.5.1)."""

_ALLOWANCE = 16
"""Bytes of chunk framing that one byte of body excuses; the smallest chunk needs six."""


class ChunkReader:
    """Takes bytes as they come and gives those of the body.

    most_excess: bytes of chunk extensions and trailers that may come without body in between.
    """

    __slots__ = ("_begun", "_excess", "_in_trailers", "_left", "_most_excess", "between", "complete", "surplus")

    def __init__(self, most_excess: int) -> None:
        self._most_excess = most_excess
        self._excess = 0
        self._left = 0
        """Bytes of the present chunk that are still to come, those of the line end behind it included."""
        self._in_trailers = False
        self._begun = bytearray()
        """A line whose end has not come."""
        self.between = True
        """Whether the next byte begins a chunk, and nothing of the earlier ones is to be remembered."""
        self.complete = False
        """Whether the end of the body was there."""
        self.surplus = False
        """Whether something came behind it."""

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body in these. Raises ``httpx.RemoteProtocolError``."""
        pieces: list[bytes] = []
        at = self._rest_of_chunk(data, 0, pieces) if self._left else 0
        if not self._begun and not self._in_trailers:
            at = self._whole_chunks(data, at, pieces)
        while at < len(data) and not self.complete:
            at = self._rest_of_line(data, at)
            if self._left and at < len(data):
                at = self._rest_of_chunk(data, at, pieces)
        self.surplus = at < len(data)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        excess = self._excess + len(data) - _ALLOWANCE * len(body)
        if excess > self._most_excess and not self.complete:
            raise httpx.RemoteProtocolError("chunk extensions or trailers without end")
        self._excess = max(0, excess)
        self.between = not (self._left or self._begun or self._in_trailers or self._excess)
        return body

    def _whole_chunks(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take the whole chunks before the end of data or body, if all are as usual, with few calls.

        Cut at every line end, sizes and chunks alternate. If each chunk is as long as the size before it says, no line
        end was inside of one, and this is what reading one after the other would have given. Returns where the rest
        begins.
        """
        line = data.find(b"\r\n", at)
        size = SIZES.get(data[at:line])
        if size is None or line + size + 4 > len(data):  # a large one, or only the beginning of one
            return at
        parts = data[at:].split(b"\r\n")
        last = (len(parts) - 1) // 2 * 2
        if parts[-3:] == _END:
            last -= 2
        chunks = parts[1:last:2]
        if list(map(SIZES.get, parts[:last:2])) != list(map(len, chunks)):
            return at
        pieces += chunks
        return len(data) - len(b"\r\n".join(parts[last:]))

    def _rest_of_chunk(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take what there is of the present chunk and of the line end behind it. Returns where the rest begins."""
        left = self._left
        end = at + left
        if left > 2 and data[end - 2 : end] == b"\r\n":  # all of both
            pieces.append(data[at : end - 2])
            self._left = 0
            return end
        if left > 2:
            piece = data[at : end - 2]
            pieces.append(piece)
            left -= len(piece)
            at += len(piece)
        line_end = data[at : at + left]
        if not b"\r\n"[-left:].startswith(line_end):
            raise httpx.RemoteProtocolError("malformed response: no line end behind a chunk")
        self._left = left - len(line_end)
        return at + len(line_end)

    def _rest_of_line(self, data: bytes, at: int) -> int:
        """Take what there is of a line. Returns where the rest begins."""
        end = data.find(b"\n", at) + 1
        if end:
            line = data[at:end]
            if self._begun:
                line = bytes(self._begun) + line
                self._begun.clear()
            self._take_line(line)
            return end
        self._begun += data[at:]
        possible = _BEGUN_TRAILER if self._in_trailers else _BEGUN_SIZE
        if not possible.fullmatch(self._begun[:_ENOUGH]):
            raise self._malformed()
        return len(data)

    def _take_line(self, line: bytes) -> None:
        if not self._in_trailers:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise self._malformed()
            length = int(size[1], 16)
            self._left = length and length + 2
            self._in_trailers = not length
        elif line == b"\r\n":
            self.complete = True
        else:
            trailer = _TRAILER.fullmatch(line)
            if trailer is None or trailer[1].lower() in _NO_TRAILERS:
                raise self._malformed()

    def _malformed(self) -> httpx.RemoteProtocolError:
        what = "trailer" if self._in_trailers else "chunk size"
        return httpx.RemoteProtocolError(f"malformed response: a line that is no {what}")
