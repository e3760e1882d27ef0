"""Take out of a text what tells of the inside: addresses, host names, file-system paths. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

HIDDEN = "…"

_INSIDE = re.compile(
    r"""
    (?: [a-z][a-z0-9+.-]*:// | (?<![\w.]) (?: /(?=[\w.-]+/) | [a-z]:\\ ) ) [^\s"'<>,;)\]}]*  # URLs, absolute paths
    | (?<![\w.]) (?: \d{1,3}(?:\.\d{1,3}){3} | \[[0-9a-f:.]*:[0-9a-f:.]*\] ) (?::\d+)? (?![\w.]*\w)  # IP addresses
    | (?<![\w.:/"'-]) [a-z0-9_] [\w-]* (?:\.[\w-]+)* :\d{4,5} (?![\w.]*\w)  # a host and its port
    | (?<![\w.:/-]) (?: [\w-]+\. )+ (?: internal | local | localdomain | lan | home | corp | intranet | svc ) (?![\w-])
    | (?<= \blookup\x20 ) [\w.-]+  # what Go says when it finds no such host
    """,
    re.IGNORECASE | re.VERBOSE,
)
_PATH = re.compile(r"(?:/|[A-Za-z]:[\\/])\S")
_ORDINARY_WORDS = frozenset({"ollama"})
"""What many call a machine and everybody writes in messages."""


def redacted(text: str, addresses: Iterable[str] = ()) -> str:
    """The text with `…` in place of URLs, absolute paths, IP addresses, `host:port`, and the hosts of `addresses`."""
    text = _INSIDE.sub(HIDDEN, text)
    for host in {urlsplit(address).hostname or "" for address in addresses} - _ORDINARY_WORDS - {""}:
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])(?:\:\d+)?", HIDDEN, text, flags=re.IGNORECASE)
    return text


def is_path(text: str) -> bool:
    """Whether this is an absolute path of a file system."""
    return _PATH.match(text) is not None
