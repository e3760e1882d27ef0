"""What a request to a backend may hold: whoever changes one is told at once, before anybody tries to send it. Pure.

Raises TypeError or ValueError, whose messages name a header, never its value, which may be a secret.
"""

from __future__ import annotations

import re
from typing import Any

METHOD = re.compile(r"[A-Z]+")
PATH = re.compile(r"/[!-~]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(r"[^\0-\x08\n-\x1f\x7f]*")


def check_line(method: Any, path: Any) -> None:
    """The method and the path of a request line."""
    _check_text(method, "the method")
    _check_text(path, "the path")
    if not METHOD.fullmatch(method) or not PATH.fullmatch(path):
        raise ValueError(
            f"{method!r:.20} {path!r:.100} cannot be a request line: a path begins with / and has no spaces"
        )


def check_header(name: Any, value: Any) -> None:
    """One header, its name in lower case."""
    _check_text(name, "the name of a header")
    _check_text(value, f"the header {name!r:.50}")
    if not _may_be_sent(name, value):
        raise ValueError(f"the header {name!r:.50} has characters that HTTP does not allow, in its name or its value")


def check_headers(headers: Any, known: tuple[tuple[str, str], ...]) -> None:
    """All of them, a tuple of pairs. Those that are `known` are in order."""
    if not isinstance(headers, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in headers):
        raise TypeError("the headers of a request are a tuple of pairs, each a name and a value")
    for pair in headers:
        if pair not in known:
            check_header(*pair)


def check_body(body: Any) -> None:
    """The whole body."""
    if not isinstance(body, bytes):
        raise TypeError(f"the body of a request is bytes, not {type(body).__name__}")


def _check_text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {type(value).__name__}")


def _may_be_sent(name: str, value: str) -> bool:
    try:
        value.encode("utf-8", "surrogateescape")  # as they are sent
    except UnicodeEncodeError:
        return False
    return _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None
