"""The head of a response, and what it says about the body behind it. Does no I/O."""

import re
from dataclasses import dataclass
from enum import Enum, auto

import httpx

Headers = list[tuple[bytes, bytes]]

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n")

_LONGEST_LENGTH = 20
"""Digits of a Content-Length; 2**64 has twenty."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and header fields as the backend wrote them, white space around the values removed."""

    version: bytes
    status: int
    reason: bytes
    headers: Headers


class BodyEnd(Enum):
    """What ends the body of a response."""

    NONE = auto()
    """There is no body."""
    LENGTH = auto()
    LAST_CHUNK = auto()
    CLOSE = auto()


@dataclass(frozen=True, slots=True)
class Framing:
    """How a body ends, its length if that is how, and whether the backend means to keep the connection after it."""

    end: BodyEnd
    length: int
    keep_alive: bool


def read_status_line(block: bytes) -> tuple[bytes, int, bytes]:
    """Return version, status and reason. Raises ``httpx.RemoteProtocolError``, for 101 too."""
    line = _STATUS_LINE.match(block)
    if line is None:
        raise httpx.RemoteProtocolError("the response does not begin with a valid HTTP/1 status line")
    version, code, reason = line.groups(b"")
    if code == b"101":
        raise httpx.RemoteProtocolError("the server switched protocols (101), which nobody asked for")
    return version, int(code), reason


def framing(head: ResponseHead, *, expects_body: bool) -> Framing:
    """Find out how the body ends (RFC 9112, section 6.3).

    Expects that llhttp has refused what else could be wrong: a length beside a transfer coding, two lengths, one
    that is no plain number. Raises ``httpx.RemoteProtocolError``.
    """
    connection: list[bytes] = []
    codings: list[bytes] = []
    length: int | None = None
    for name, value in head.headers:
        match name.lower():
            case b"content-length":
                length = _read_length(value)
            case b"transfer-encoding":
                codings.append(value.lower())
            case b"connection":
                connection += (option.strip() for option in value.lower().split(b","))
    if codings and (codings != [b"chunked"] or head.version == b"1.0"):
        raise httpx.RemoteProtocolError("a transfer coding other than chunked, or chunked in HTTP/1.0")
    keep_alive = b"close" not in connection and (head.version == b"1.1" or b"keep-alive" in connection)
    if not expects_body or head.status in (204, 304) or length == 0:
        return Framing(BodyEnd.NONE, 0, keep_alive)
    if codings:
        return Framing(BodyEnd.LAST_CHUNK, 0, keep_alive)
    if length is None:
        return Framing(BodyEnd.CLOSE, 0, keep_alive=False)
    return Framing(BodyEnd.LENGTH, length, keep_alive)


def _read_length(digits: bytes) -> int:
    """Convert what llhttp found to be digits only; it lets any number of zeros in front of them pass."""
    if len(digits) > _LONGEST_LENGTH:
        raise httpx.RemoteProtocolError("a Content-Length of absurd length")
    return int(digits)
