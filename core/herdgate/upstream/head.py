"""The head of a response, and what it says about the body behind it. Does no I/O.

Refused is what RFC 9112 tolerates for the sake of old senders (folded lines, bare line feeds, white space before a
colon): the next reader of the same bytes may see another message in them.
"""

import re

import httpx
import msgspec

from herdgate.upstream.grammar import NAME, TEXT

Fields = list[tuple[str, str]]

_STATUS_LINE = re.compile(rf"HTTP/(1\.[01]) ([1-9][0-9][0-9])(?: ({TEXT}))?\r\n")
_FIELD = re.compile(rf"^({NAME}):({TEXT})\r\n", re.MULTILINE)
_LENGTH = re.compile(r"[0-9]{1,18}")
_BODILESS = ("204", "304")
_ALONE = ("content-length", "transfer-encoding")
"""What frames the body must not be said twice, not even in the same words."""


class ResponseHead(msgspec.Struct, frozen=True):
    """One well-formed head, its bytes as Latin-1.

    headers: by lower-case name, without the white space around the values; of several with one name the first.
    lines: all of them, as the backend wrote them.
    length: bytes of the body behind it, whatever the fields say of another request's; None if they do not tell.
    chunked: whether the body ends with its last chunk. If neither is said, it ends with the connection.
    keep_alive: whether the backend means to keep the connection.
    """

    version: str
    status: int
    reason: str
    headers: dict[str, str]
    lines: str
    length: int | None
    chunked: bool
    keep_alive: bool

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """All fields as the backend wrote them, in their order, white space around the values removed."""
        found: Fields = _FIELD.findall(self.lines)
        return [(name.encode("latin-1"), value.strip(" \t").encode("latin-1")) for name, value in found]


def read_head(text: str, *, expects_body: bool, most_fields: int) -> ResponseHead:
    """Read a head, the line end of its last line included, the empty line behind it not (RFC 9112, sections 4 to 6).

    expects_body: False for the answer to HEAD.

    Raises ``httpx.RemoteProtocolError``, for 101 too.
    """
    line = _STATUS_LINE.match(text)
    if line is None:
        raise httpx.RemoteProtocolError("the response does not begin with a valid HTTP/1 status line")
    version, code, reason = line.groups("")
    if code[0] == "1":
        _check_interim(code, version)
    lines = text[line.end() :]
    found: Fields = _FIELD.findall(lines)
    if len(found) != lines.count("\n"):
        raise httpx.RemoteProtocolError("malformed response: a line of its head is no header field")
    if len(found) > most_fields:
        raise httpx.RemoteProtocolError(f"response head with more than {most_fields} fields")
    headers = {name.lower(): value.strip(" \t") for name, value in found}
    if len(headers) != len(found):
        headers = _first_of_each(found)
    declared, coding = headers.get("content-length"), headers.get("transfer-encoding")
    length = None if declared is None else _length(declared)
    if coding is not None:
        _check_coding(coding, version, length)
    if not expects_body or code in _BODILESS:
        length, coding = 0, None
    keep_alive = _keeps_connection(version, found) if "connection" in headers else version == "1.1"
    ends = length is not None or coding is not None  # else with the connection
    return ResponseHead(version, int(code), reason, headers, lines, length, coding is not None, ends and keep_alive)


def _check_interim(code: str, version: str) -> None:
    if code == "101":
        raise httpx.RemoteProtocolError("the server switched protocols (101), which nobody asked for")
    if version == "1.0":  # which has none (RFC 9110, section 15.2): for some readers this is the response itself
        raise httpx.RemoteProtocolError(f"malformed response: {code} in HTTP/1.0")


def _first_of_each(found: Fields) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in found:
        lower = name.lower()
        if lower in headers and lower in _ALONE:
            raise httpx.RemoteProtocolError(f"malformed response: more than one {lower.title()}")
        headers.setdefault(lower, value.strip(" \t"))
    return headers


def _length(declared: str) -> int:
    if not _LENGTH.fullmatch(declared):
        raise httpx.RemoteProtocolError("malformed response: a Content-Length that is no plain number")
    return int(declared)


def _check_coding(coding: str, version: str, length: int | None) -> None:
    if length is not None:
        raise httpx.RemoteProtocolError("malformed response: Content-Length beside Transfer-Encoding")
    if coding.lower() != "chunked" or version == "1.0":
        raise httpx.RemoteProtocolError("a transfer coding other than chunked, or chunked in HTTP/1.0")


def _keeps_connection(version: str, found: Fields) -> bool:
    said = ",".join(value for name, value in found if name.lower() == "connection")
    options = {option.strip(" \t") for option in said.lower().split(",")}
    return "close" not in options and (version == "1.1" or "keep-alive" in options)
