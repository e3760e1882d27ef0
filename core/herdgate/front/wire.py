"""HTTP/1.x replies as bytes. Pure, but for the date.

Replies are formatted here and not by Sanic, so that their headers are exactly those that were decided: nothing added,
nothing doubled, and the same bytes for the same decision.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

BODILESS = frozenset({204, 304})
LAST_CHUNK = b"0\r\n\r\n"


def head(status: int, headers: Mapping[str, str], *, lines: str = "", keep_alive: bool) -> bytes:
    """Status line and headers, with the date and whether the connection stays open.

    `lines` are headers that are formatted already, each with its line end.
    """
    given = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    text = f"{_status_line(status)}{given}{lines}{_ending(int(time.time()), keep_alive)}"
    return text.encode("utf-8", "surrogateescape")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. Empty data would end the body, so it makes no chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\n"


@lru_cache(maxsize=4)
def _ending(second: int, keep_alive: bool) -> str:
    connection = "keep-alive" if keep_alive else "close"
    return f"date: {formatdate(second, usegmt=True)}\r\nconnection: {connection}\r\n\r\n"
