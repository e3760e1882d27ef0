"""HTTP/1.1 requests, read strictly: what a lenient reader would guess at is refused and remembered.

A gateway that sends something doubtful to a backend has a bug, and a test must see it. Pure: bytes in, facts out.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote, urlsplit

LONGEST_HEAD = 1 << 20  # Go's limit, which Ollama leaves as it is: 431 beyond it
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([01])")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class Malformed(Exception):  # noqa: N818
    """The peer sent something that is no strict HTTP/1.1; ``status`` is what Go's server would answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class RequestHead:
    """The request line and the headers, as received: nothing folded, merged or decoded."""

    method: str
    target: str
    minor: int
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a header, in order; ``name`` in lower case."""
        return tuple(value for key, value in self.headers if key.lower() == name)

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded, without the query, as Ollama's router matches it."""
        return unquote(urlsplit(self.target).path if not self.target.startswith("/") else self.target.partition("?")[0])

    @cached_property
    def length(self) -> int | None:
        """Bytes of body to come; None means chunked."""
        return None if self.values("transfer-encoding") else int(next(iter(self.values("content-length")), "0"))

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may carry another request after this one."""
        options = {option.strip().lower() for value in self.values("connection") for option in value.split(",")}
        return "close" not in options and (self.minor == 1 or "keep-alive" in options)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body."""
        return any(value.lower() == "100-continue" for value in self.values("expect"))


def parse_head(raw: bytes) -> RequestHead:
    """Read a request head, given without its closing empty line. Raises Malformed."""
    first, *lines = raw.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise Malformed(f"not a request line: {first[:200]!r}")
    method, target, minor = match[1].decode("ascii"), match[2].decode("ascii"), int(match[3])
    head = RequestHead(method, target, minor, tuple(_header(line) for line in lines))
    _check_framing(head)
    return head


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or _TOKEN.fullmatch(name) is None:
        raise Malformed(f"not a header line: {line[:200]!r}")
    value = value.strip(b" \t")
    if _FORBIDDEN_IN_VALUE.search(value):
        raise Malformed(f"a control character in the value of {name.decode('ascii')}")
    return name.decode("ascii"), value.decode("utf-8", "surrogateescape")


def _check_framing(head: RequestHead) -> None:
    hosts, lengths, codings = (head.values(name) for name in ("host", "content-length", "transfer-encoding"))
    if len(hosts) > 1 or (head.minor == 1 and not hosts):
        raise Malformed(f"{len(hosts)} Host headers")
    if codings and lengths:
        raise Malformed("both Content-Length and Transfer-Encoding")
    if len(lengths) > 1 or any(re.fullmatch(r"[0-9]{1,18}", value) is None for value in lengths):
        raise Malformed(f"bad Content-Length: {lengths!r}")
    if codings and (codings != ("chunked",) or head.minor == 0):
        raise Malformed(f"unsupported Transfer-Encoding: {codings!r}", 501)


class ChunkedBody:
    """Takes a chunked body apart, strictly. Feed it the receive buffer; it consumes what it understood."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.done = False
        self._left = 0  # bytes of the current chunk still to come, its CRLF included
        self._in_trailers = False

    def feed(self, buffer: bytearray) -> None:
        """Move as much as possible from ``buffer`` into ``body``. Raises Malformed."""
        while not self.done and (self._data(buffer) if self._left else self._line(buffer)):
            pass

    def _data(self, buffer: bytearray) -> bool:
        wanted = self._left - 2
        if wanted > 0:
            piece = buffer[:wanted]
            del buffer[: len(piece)]
            self.body += piece
            self._left -= len(piece)
            return bool(piece)
        if len(buffer) < 2:
            return False
        if buffer[:2] != b"\r\n":
            raise Malformed("no CRLF after a chunk")
        del buffer[:2]
        self._left = 0
        return True

    def _line(self, buffer: bytearray) -> bool:
        line, end, _ = buffer.partition(b"\r\n")
        if not end:
            if len(buffer) > LONGEST_HEAD:
                raise Malformed("an endless chunk header")
            return False
        del buffer[: len(line) + 2]
        if self._in_trailers:
            if line:
                _header(bytes(line))
            self.done = not line
            return True
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Malformed(f"bad chunk size: {bytes(line[:60])!r}")
        count = int(size[1], 16)
        self._in_trailers = count == 0
        self._left = count + 2 if count else 0
        return True
