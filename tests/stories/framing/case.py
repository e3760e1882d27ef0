"""What one case of the framing corpus is, and a few ways to write one down.

The expectations are those of RFC 9112 (its sections are named in brackets) and, where that leaves a choice, of the
gateway's promise that what is ambiguous is refused with 400 and closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.stories.doors import BODY, chunked

HOST = b"Host: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
TE = b"Transfer-Encoding: chunked\r\n"
CHUNKS = chunked(BODY)
SIZE = b"%x" % len(BODY)
CHAT = b"/api/chat"
SECRET = b"c4n4ry"
"""Stands in headers and trailers that must lead nowhere: no reply and no backend may see it."""

_ASK = b'{"model":"llama3.2","prompt":"second","stream":false}'
SECOND = (
    b"POST /api/generate HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(_ASK) + _ASK
)
"""Follows on the same connection. Only a gateway that saw the end of what came before it where it was may answer it."""
HIDDEN = b"GET /api/version HTTP/1.1\r\n" + HOST + b"\r\n"
"""Inside of bodies, as a request that only a misled reader sees."""


@dataclass(frozen=True)
class Expect:
    """What must happen.

    `replies` are the statuses allowed for each reply to the case itself, interim ones aside; with `silent` the
    connection may also be closed without one. `reach` are the numbers of requests for it that a backend may see.
    `then` are the statuses allowed for the reply to what follows: empty, nothing that follows may be answered and the
    connection must be closed. `must` demands that reply.
    """

    replies: tuple[frozenset[int], ...]
    reach: frozenset[int] = frozenset({0})
    then: frozenset[int] = frozenset()
    must: bool = False
    silent: bool = False


def expect(*replies: int | set[int], reach: int | set[int] = 0, **more: object) -> Expect:
    """An Expect in short: `expect(200, reach=1)`."""
    allowed = tuple(frozenset({reply} if isinstance(reply, int) else reply) for reply in replies)
    return replace(Expect(allowed, frozenset({reach} if isinstance(reach, int) else reach)), **more)  # type: ignore[arg-type]


OK = frozenset({200})
REFUSED = expect(400)
"""Ambiguous or broken: 400, and the connection is closed."""
INVALID_HOST = expect(400, then=OK)
"""[3.2] demands 400 for it; the framing is sound."""
ANSWERED = expect(200, then=OK, must=True)
"""Proper, and answered by the gateway itself: the next request on the connection is answered, too."""
ROUTED = replace(ANSWERED, reach=frozenset({1}))
"""Proper, and relayed."""
RELAYED = replace(ROUTED, must=False)
"""Proper, and relayed; whether the connection is kept afterwards is the gateway's choice."""
NOWHERE = expect({400, 404, 405}, then=OK)
"""Proper framing, but a target that is nothing here: it must not be read as something that is."""
EITHER = expect({200, 400}, then=OK)
"""Allowed by the RFC, and no harm if it is refused: proxies and clients do not send it."""
AS_RELAYED = replace(EITHER, reach=frozenset({0, 1}))
TOO_LARGE = expect({400, 413, 414, 431})
TOO_MUCH = replace(TOO_LARGE, silent=True)
"""So much that closing the connection may overtake the reply."""
UNKNOWN_CODING = expect({400, 501})
"""RFC 9112, 6.1, recommends 501 for a transfer coding that is not understood."""
UNKNOWN_VERSION = expect({400, 505})
LEFT = expect({400, 408}, silent=True)
"""The caller leaves before the end of its request."""


@dataclass(frozen=True)
class Case:
    """`sent` begins a connection.

    `leaves`: nothing follows, the caller closes its side. `bodiless`: the replies to the case itself, not what follows,
    are to HEAD.
    """

    sent: bytes
    expect: Expect
    leaves: bool = False
    bodiless: bool = False


Table = dict[str, Case]


def get(*fields: bytes, path: bytes = b"/api/version", host: bytes = HOST, version: bytes = b"1.1") -> bytes:
    """A request without a body. Each field is a whole line; one without its end gets it."""
    return head(b"GET " + path + b" HTTP/" + version, host, fields)


def post(*fields: bytes, body: bytes = BODY, path: bytes = CHAT, host: bytes = HOST, version: bytes = b"1.1") -> bytes:
    """A chat with these headers and this body, neither checked nor completed."""
    return head(b"POST " + path + b" HTTP/" + version, host, fields) + body


def head(line: bytes, host: bytes, fields: Sequence[bytes]) -> bytes:
    """A request's head."""
    return line + b"\r\n" + host + b"".join(f if f.endswith(b"\n") else f + b"\r\n" for f in fields) + b"\r\n"


def length(body: bytes) -> bytes:
    """The Content-Length of a body."""
    return b"Content-Length: %d" % len(body)
