"""The head of a request: read in one way, or refused before anything is decided about it.

Whatever two readers could cut differently is refused: behind a proxy that reads it otherwise, one caller could put
words into another's mouth. Pure. Rules of RFC 9112, sections 3 to 6, without what it allows for the sake of old senders
(folded lines, bare line feeds, white space before a colon).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

MAX_HEAD = 16 * 1024
"""Bytes in a request's head."""
MAX_FIELDS = 128

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_AUTHORITY = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
_LINE = re.compile(rf"({_NAME}) (/[!-~]*|\*|https?://{_AUTHORITY}(?:[/?][!-~]*)?) HTTP/1\.([01])\r\n")
_AUTHORITY_OF = re.compile(rf"https?://({_AUTHORITY})")
_FIELD = re.compile(rf"^({_NAME}):([^\x00-\x08\x0a-\x1f\x7f]*)\r\n", re.MULTILINE)
_LENGTH = re.compile(r"[0-9]{1,18}")
_HOST = re.compile(rf"(?:{_AUTHORITY})?")
_STAYS = "keep-alive"
_ALONE = ("host", "content-length", "transfer-encoding", "authorization", "x-api-key")
"""What means nothing, or two things, when it is given twice."""


class Refused(Exception):  # noqa: N818 - an answer to the caller
    """This connection cannot go on: what was sent is not a request that can be answered otherwise.

    `path` is what could be read of the request's address; it decides the dialect of the reply.
    """

    def __init__(self, status: int, message: str, path: str = "/") -> None:
        super().__init__(message)
        self.status = status
        self.path = path


class RequestHead(msgspec.Struct):
    """One well-formed head. `headers` are by lower-case name; of several with one name it has them all, joined.

    `length` is that of the body in bytes, None if the body comes in chunks.
    """

    method: str
    target: str
    path: str
    """The target without its query."""
    modern: bool
    """HTTP/1.1, not 1.0."""
    headers: Mapping[str, str]
    length: int | None = 0
    keep_alive: bool = True
    waits: bool = False
    """Whether the caller waits for `100 Continue` before it sends the body."""

    def __repr__(self) -> str:
        return f"RequestHead({self.method} {self.path})"  # no credentials


def read_head(text: str) -> RequestHead:
    """Read a head, the line end of its last line included, the empty line behind it not. Raises Refused."""
    line = _LINE.match(text)
    if line is None:
        raise Refused(400, "malformed request line or header", _presumed_path(text))
    method, target, minor = line.groups()
    if target[0] == "h":
        return _of_absolute(method, target, f"HTTP/1.{minor}\r\n{text[line.end() :]}")
    begin = line.end()
    found = _FIELD.findall(text, begin)
    count = len(found)
    if count != text.count("\n", begin):
        raise Refused(400, "malformed request line or header", target)
    if count > MAX_FIELDS:
        raise Refused(431, "request headers too large", target)
    headers = {name.lower(): value.strip(" \t") for name, value in found}
    if len(headers) != count:
        headers = _joined(found, target)
    modern = minor == "1"
    host = headers.get("host")
    if host is None or not _HOST.fullmatch(host):
        _check_host(host, modern, target)
    head = RequestHead(method, target, target.partition("?")[0], modern, headers)
    if "content-length" in headers or "transfer-encoding" in headers:
        head.length = _length(head)
        if "expect" in headers:
            head.waits = _waits(head)
    if not modern or headers.get("connection", _STAYS) != _STAYS:
        head.keep_alive = _keeps_alive(head)
    return head


def _of_absolute(method: str, target: str, rest: str) -> RequestHead:
    """Read a head whose target names the host, as for a proxy: that counts, whatever the header Host says (RFC 9112,
    section 3.2.2).
    """
    found = _AUTHORITY_OF.match(target)
    assert found is not None  # noqa: S101 - _LINE has seen it
    target = target[found.end() :]
    head = read_head(f"{method} {target if target.startswith('/') else f'/{target}'} {rest}")
    head.headers = {**head.headers, "host": found[1]}
    return head


def _joined(found: list[tuple[str, str]], target: str) -> dict[str, str]:
    """Several headers of one name are a list in parts (RFC 9110, section 5.3), unless there can be only one."""
    headers: dict[str, str] = {}
    for name, value in ((name.lower(), value.strip(" \t")) for name, value in found):
        if name not in headers:
            headers[name] = value
        elif name in _ALONE:
            raise Refused(400, f"a request has exactly one {name.title()} header", target)
        else:
            headers[name] += f", {value}"
    return headers


def _check_host(host: str | None, modern: bool, target: str) -> None:
    """Only HTTP/1.0 has requests without a host, and nobody has one that is malformed."""
    if host is not None:
        raise Refused(400, "malformed Host header", target)
    if modern:
        raise Refused(400, "a request has exactly one Host header", target)


def _length(head: RequestHead) -> int | None:
    length, coding = head.headers.get("content-length"), head.headers.get("transfer-encoding")
    if length is None:
        if coding is not None and coding.lower() == "chunked" and head.modern:
            return None
    elif coding is None and _LENGTH.fullmatch(length):
        return int(length)
    raise Refused(400, "malformed Content-Length or Transfer-Encoding", head.target)


def _waits(head: RequestHead) -> bool:
    if head.headers["expect"].lower() != "100-continue":
        raise Refused(417, "expectation cannot be met", head.target)
    return head.modern and head.length != 0


def _keeps_alive(head: RequestHead) -> bool:
    options = {option.strip() for option in head.headers.get("connection", "").lower().split(",")}
    return "close" not in options and (head.modern or _STAYS in options)


def _presumed_path(text: str) -> str:
    words = text.split(" ", 2)
    return words[1] if len(words) > 1 and words[1].startswith("/") else "/"
