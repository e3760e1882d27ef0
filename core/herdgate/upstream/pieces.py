"""A head that does not come in one read: put together, and refused as soon as nothing good can become of it."""

import re

import httpx

from herdgate.upstream.grammar import NAME, TEXT, beginnings
from herdgate.upstream.head import read_head

END_OF_HEAD = b"\r\n\r\n"

_BEGUN_STATUS_LINE = re.compile(
    beginnings(*"HTTP/1", r"\.", "[01]", " ", "[1-9]", "[0-9]", "[0-9]", f"(?: {TEXT})?", r"\r").encode()
)
_BEGUN_FIELD = re.compile(beginnings(NAME, ":", TEXT, r"\r").encode() + rb"|\r")
_ENOUGH = 256
"""Bytes of a line that must be there to tell that it is none; so no line is looked at for ever."""


class HeadInPieces:
    """Collects a head of at most `most_bytes` and `most_fields`."""

    __slots__ = ("_line", "_most_bytes", "_most_fields", "_seen")

    def __init__(self, most_bytes: int, most_fields: int) -> None:
        self._most_bytes = most_bytes
        self._most_fields = most_fields
        self._seen = bytearray()
        self._line = 0
        """Where the line begins whose end has not come."""

    def add(self, data: bytes) -> bytes:
        """All there is, once the end of the head is among it; before that nothing.

        Raises ``httpx.RemoteProtocolError``.
        """
        seen = self._seen
        before = len(seen)
        seen += data
        if seen.find(END_OF_HEAD, max(0, before - len(END_OF_HEAD) + 1)) >= 0:
            return bytes(seen)
        if len(seen) > self._most_bytes:
            raise too_large(self._most_bytes)
        lines = data.rfind(b"\n") + 1
        if lines:  # at most as often as a head may have fields
            self._line = before + lines
            read_head(seen[: self._line].decode("latin-1"), expects_body=True, most_fields=self._most_fields)
        begun = seen[self._line : self._line + _ENOUGH]
        if self._line == 0 and not _BEGUN_STATUS_LINE.fullmatch(begun):
            raise httpx.RemoteProtocolError("the response does not begin with an HTTP/1 status line")
        if self._line and not _BEGUN_FIELD.fullmatch(begun):
            raise httpx.RemoteProtocolError("malformed response: a line of its head is no header field")
        return b""


def too_large(most_bytes: int) -> httpx.RemoteProtocolError:
    """What is wrong with a head of more bytes than these."""
    return httpx.RemoteProtocolError(f"response head larger than {most_bytes} bytes")
