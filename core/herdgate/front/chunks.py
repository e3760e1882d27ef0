"""A chunked request body, read strictly (RFC 9112, section 7.1). Pure.

A reader that forgives takes bytes for framing that another one takes for the next request. What is allowed and means
nothing here, chunk extensions and trailers, is dropped, within limits.

Each chunk takes time, however small it is, and while one body is read nobody else is served. So the framing is limited
as well: by what the body excuses, and a fixed size for clients that send a small body piece by piece.
"""

from __future__ import annotations

import re

_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TEXT = rb"[^\x00-\x08\x0a-\x1f\x7f]*"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;" + _TEXT + rb")?\r\n")
_TRAILER = re.compile(_NAME + rb":" + _TEXT + rb"\r\n")
_LONGEST_LINE = 1024
_MOST_TRAILERS = 16
_EXCUSED = 16
"""Bytes of body that excuse one byte of framing: chunks of a hundred bytes are large enough, those of clients have
thousands.
"""
_MOST_EXCESS = 64 * 1024
"""Bytes of framing that may come without being excused: some 10,000 of the smallest chunks."""


class BadChunks(ValueError):  # noqa: N818 - what is wrong is the caller's
    """The body is not chunked as HTTP demands."""


class TinyChunks(BadChunks):
    """The body is nearly all framing."""


class ChunkReader:
    """Takes bytes as they come and gives those of the body. `complete` once the end of the body was there."""

    __slots__ = ("_between", "_excess", "_left", "_pending", "_trailers", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._left = 0
        self._excess = 0
        """Bytes of framing that no body has excused."""
        self._between = False
        """Whether the line end behind a chunk's data is still to come."""
        self._trailers: int | None = None
        """How many trailers there were; None before the last chunk."""
        self._pending = b""

    @property
    def announced(self) -> int:
        """How much of the present chunk is still to come, in bytes."""
        return self._left

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What of the body is in these bytes, and what lies behind its end. Raises BadChunks."""
        data = self._pending + data
        pieces: list[bytes] = []
        position = 0
        while not self.complete:
            if self._left:
                piece = data[position : position + self._left]
                if not piece:
                    break
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                self._between = not self._left
                continue
            end = data.find(b"\n", position, position + _LONGEST_LINE)
            if end < 0:
                self._refuse_early(data[position : position + _LONGEST_LINE])
                break
            self._line(data[position : end + 1])
            position = end + 1
        self._pending = b"" if self.complete else data[position:]
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return body, data[position:] if self.complete else b""

    def _refuse_early(self, begun: bytes) -> None:
        """A line whose end has not come yet, and which can become nothing good."""
        if len(begun) >= _LONGEST_LINE or (self._between and begun not in (b"", b"\r")):
            raise BadChunks

    def _line(self, line: bytes) -> None:
        if self._between:
            if line != b"\r\n":
                raise BadChunks
            self._between = False
        elif self._trailers is None:
            self._begin_chunk(line)
        elif line == b"\r\n":
            self.complete = True
        elif not _TRAILER.fullmatch(line) or self._trailers == _MOST_TRAILERS:
            raise BadChunks
        else:
            self._trailers += 1

    def _begin_chunk(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise BadChunks
        self._left = int(found[1], 16)
        self._excess = max(0, self._excess + len(line) + 2 - self._left // _EXCUSED)
        if self._excess > _MOST_EXCESS:
            raise TinyChunks
        if not self._left:
            self._trailers = 0
