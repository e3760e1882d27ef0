"""What Ollama checks before it looks at a path: ``Host``, ``Origin``; and a key, as a proxy in front of it would."""

import ipaddress
import socket
from urllib.parse import urlsplit

from herdgate.testing.simulation.answers.ask import Ask
from herdgate.testing.simulation.http1 import RequestHead
from herdgate.testing.simulation.parts import Headers
from herdgate.testing.simulation.reply import Dialect, Reply, refusal, whole

_ORIGIN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104
_ORIGIN_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1", "0.0.0.0/32", "::")
)


def turn_away(ask: Ask, dialect: Dialect, on_loopback: bool) -> Reply | None:
    """The reply to a request that gets no further than this, a CORS preflight included; None: go on."""
    token = ask.world.behaviour.auth_token
    if token is not None and ask.head.values("authorization") != (f"Bearer {token}",):
        return refusal(401, "unauthorized", dialect)
    host, origin = _first(ask.head, "host"), _first(ask.head, "origin")
    if (on_loopback and not allows_host(host)) or (origin and not allows_origin(origin, host)):
        return whole(403, b"", "", dialect)
    if origin and ask.head.method == "OPTIONS":
        methods = ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS")
        return Reply(204, "", (), dialect, headers=(methods, *cross_origin(ask.head)))
    return None


def cross_origin(head: RequestHead) -> Headers:
    """The headers that let a browser page read the reply."""
    origin = _first(head, "origin")
    return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin")) if origin else ()


def _first(head: RequestHead, name: str) -> str:
    return next(iter(head.values(name)), "")


def allows_host(host: str) -> bool:
    """Whether Ollama on a loopback address accepts this ``Host``: local names and private addresses.

    A bracketed IPv6 address without a port is refused: Ollama fails to take it apart, too.
    """
    name, colon, _port = host.rpartition(":")
    name = name.removeprefix("[").removesuffix("]") if colon and not host.endswith("]") else host
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        known = ("", "localhost", socket.gethostname().lower())
        return name.lower() in known or name.lower().endswith((".localhost", ".local", ".internal"))
    return any(address in network for network in _PRIVATE)


def allows_origin(origin: str, host: str) -> bool:
    """Whether Ollama, as delivered, accepts this ``Origin``: its own, local pages, and desktop applications."""
    parts = urlsplit(origin)
    if parts.scheme in _ORIGIN_SCHEMES:
        return True
    return parts.scheme in ("http", "https") and (parts.netloc == host or parts.hostname in _ORIGIN_HOSTS)
