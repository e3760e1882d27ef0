"""From an ``httpx.Request`` to the bytes that go out, if they are one unambiguous request. Does no I/O."""

import re
from collections.abc import Iterator

import httpx
import msgspec

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*+")
_FIELD = _TOKEN.pattern + b": " + _VALUE.pattern + b"\r\n"
_HEAD = re.compile(_TOKEN.pattern + rb" [!-~]++ HTTP/1\.1\r\n(?:" + _FIELD + rb")+\r\n")

Fields = list[tuple[bytes, bytes]]

ONE_WRITE = 65_536
"""Head and body up to this size together leave in one write."""
PIECE = 262_144
"""Bytes handed to the socket at a time; the write deadline counts for each piece anew."""


class OutgoingRequest(msgspec.Struct, frozen=True):
    """A request ready to be sent.

    head: request line, fields and empty line.
    body: the whole body if it is at hand and could be sent twice, else the stream that yields it once.
    length: what Content-Length promises; None when the body goes out in chunks.
    expects_body: False for HEAD, whose answer has none.
    """

    head: bytes
    body: bytes | httpx.AsyncByteStream
    length: int | None
    expects_body: bool

    def in_one_write(self) -> bytes | None:
        """All of it, if it is small and its body at hand and not to be cut into chunks."""
        body = self.body
        if isinstance(body, bytes) and self.length is not None and len(self.head) + len(body) <= ONE_WRITE:
            return self.head + body
        return None

    @property
    def last_bytes(self) -> bytes:
        """What goes out behind the body."""
        return b"0\r\n\r\n" if self.length is None else b""

    def frame(self, data: bytes) -> Iterator[bytes | memoryview]:
        """Cut a part of the body into what the socket gets."""
        view = memoryview(data)
        for start in range(0, len(data), PIECE):
            piece = view[start : start + PIECE]
            yield b"".join((b"%x\r\n" % len(piece), piece, b"\r\n")) if self.length is None else piece


def encode(request: httpx.Request) -> OutgoingRequest:
    """Write the head once and find out how the body is framed.

    Raises ``httpx.LocalProtocolError`` for what must not leave this process: characters that would end a
    line or a field early, no Host or two, a body without a length or with another one than declared. The
    message names the field, never its value, which may be a secret.
    """
    fields = request.headers.raw
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii", "replace"), request.url.raw_path)]
    lines += [name + b": " + value for name, value in fields]
    lines.append(b"\r\n")
    head = b"\r\n".join(lines)
    if not _is_well_formed(head, fields):
        raise httpx.LocalProtocolError(_what_is_wrong(fields))
    body = _body(request)
    return OutgoingRequest(head, body, _declared_length(fields, body), request.method != "HEAD")


def encode_fields(fields: Fields) -> bytes:
    """The lines of these header fields, for a head that is put together elsewhere.

    Raises ``httpx.LocalProtocolError`` like ``encode``.
    """
    lines = b"".join([name + b": " + value + b"\r\n" for name, value in fields])
    if not all(_TOKEN.fullmatch(name) and _VALUE.fullmatch(value) for name, value in fields):
        raise httpx.LocalProtocolError(_what_is_wrong(fields))
    return lines


def _body(request: httpx.Request) -> bytes | httpx.AsyncByteStream:
    stream = request.stream
    if isinstance(stream, httpx.ByteStream):
        return b"".join(stream)
    if isinstance(stream, httpx.AsyncByteStream):
        return stream
    raise TypeError("the body of an asynchronous request must be bytes or an httpx.AsyncByteStream")


def _declared_length(fields: Fields, body: bytes | httpx.AsyncByteStream) -> int | None:
    """Read the fields that frame the message (RFC 9112, section 6) and hold them against the body."""
    found: dict[bytes, list[bytes]] = {b"host": [], b"content-length": [], b"transfer-encoding": []}
    for name, value in fields:
        values = found.get(name.lower())
        if values is not None:
            values.append(value)
    hosts, lengths, codings = found.values()
    if len(hosts) != 1:
        raise httpx.LocalProtocolError(f"a request needs one Host field, this one has {len(hosts)}")
    if codings:
        if lengths or codings != [b"chunked"]:
            raise httpx.LocalProtocolError("Transfer-Encoding must be 'chunked', and alone")
        return None
    if not lengths and body == b"":
        return 0
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise httpx.LocalProtocolError("a body needs one Content-Length, or Transfer-Encoding: chunked")
    length = int(lengths[0])
    if isinstance(body, bytes) and length != len(body):
        raise httpx.LocalProtocolError(f"Content-Length is {length}, the body has {len(body)} bytes")
    return length


def _is_well_formed(head: bytes, fields: Fields) -> bool:
    """Check the joined head, which is faster than each field.

    It must be a head, of as many lines as we meant, or a value brought one of its own; and the names must be names,
    because "a: b" would make a fine beginning of a line.
    """
    names = b"".join([name for name, _ in fields])
    return bool(_HEAD.fullmatch(head) and _TOKEN.fullmatch(names)) and head.count(b"\n") == len(fields) + 2


def _what_is_wrong(fields: Fields) -> str:
    for name, value in fields:
        if not _TOKEN.fullmatch(name):
            return "a header name contains characters that HTTP does not allow"
        if not _VALUE.fullmatch(value):
            return f"the value of header {name.decode()!r} contains characters that HTTP does not allow"
    if not fields:
        return "a request needs at least a Host field"
    return "the method or the target contains characters that HTTP does not allow"
