"""A request that two readers could cut differently is refused before anything is decided about it.

Sanic is lenient: it takes `Content-Length : 5` for a header of another name, and what was meant as the body for the
next request. Behind a proxy that reads it otherwise, one caller could so put words into another's mouth.
"""

from __future__ import annotations

import re

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEAD = re.compile(
    _TOKEN + rb" [!-~]+ HTTP/1\.(?:1|(0))(?:\r\n" + _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*+)*+"  # RFC 9112, 3 and 5
)
_LENGTH = re.compile(
    rb"\r\n(?:content-length:[ \t]*[0-9]+|transfer-encoding:[ \t]*chunked)[ \t]*(?:\r\n|\Z)", re.IGNORECASE
)


def problem(head: bytes, *, hosts: int, has_body: bool) -> str | None:
    """What is wrong with a request's head (given without the empty line at its end); None if nothing is.

    `hosts` is the number of `Host` headers. `has_body` says whether Sanic expects a body.
    """
    found = _HEAD.fullmatch(head)
    if found is None:
        return "malformed request line or header"
    if hosts > 1 or (hosts == 0 and found[1] is None):
        return "a request has exactly one Host header"
    if has_body and not _LENGTH.search(head):
        return "malformed Content-Length or Transfer-Encoding"
    return None
