"""The table of paths, and what Ollama checks before it looks at one: key, Host, Origin, the path's spelling."""

import ipaddress
import posixpath
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from herdgate.testing.answers import anthropic, catalogue, management, native, openai
from herdgate.testing.answers.ask import Ask, Refused
from herdgate.testing.reply import TEXT, Dialect, Reply, refusal, whole
from herdgate.testing.wire.anthropic import ANTHROPIC
from herdgate.testing.wire.native import NATIVE
from herdgate.testing.wire.openai import CHAT, OPENAI
from herdgate.testing.wire.openai import TEXT as COMPLETION

_Handler = Callable[[Ask], Reply]


def _read(handler: _Handler) -> dict[str, _Handler]:
    return {"GET": handler, "HEAD": handler}


ROUTES: dict[str, dict[str, _Handler]] = {
    "/": _read(catalogue.root),
    "/api/version": _read(catalogue.version),
    "/api/status": {"GET": catalogue.status},
    "/api/tags": _read(catalogue.tags),
    "/api/ps": {"GET": catalogue.ps},
    "/api/show": {"POST": catalogue.show},
    "/api/generate": {"POST": native.generate},
    "/api/chat": {"POST": native.chat},
    "/api/embed": {"POST": native.embed},
    "/api/embeddings": {"POST": native.embeddings},
    "/v1/models": {"GET": catalogue.openai_list},
    "/v1/chat/completions": {"POST": openai.chat},
    "/v1/completions": {"POST": openai.completions},
    "/v1/embeddings": {"POST": openai.embeddings},
    "/v1/responses": {"POST": openai.respond},
    "/v1/messages": {"POST": anthropic.messages},
    "/v1/audio/transcriptions": {"POST": openai.transcribe},
    "/api/pull": {"POST": management.pull},
    "/api/push": {"POST": management.push},
    "/api/create": {"POST": management.create},
    "/api/copy": {"POST": management.copy},
    "/api/delete": {"DELETE": management.delete},
    "/api/me": {"POST": management.account},
    "/api/signout": {"POST": management.account},
    "/api/experimental/web_search": {"POST": management.web},
    "/api/experimental/web_fetch": {"POST": management.web},
}
_PARAMETRISED: dict[str, dict[str, _Handler]] = {
    "/v1/models/": {"GET": catalogue.openai_model},
    "/api/blobs/": {"HEAD": management.blob, "POST": management.blob},
}
INFERENCE = frozenset(path for path in ROUTES if path.startswith("/v1/") and path != "/v1/models") | {
    "/api/generate",
    "/api/chat",
    "/api/embed",
    "/api/embeddings",
}
"""The paths that occupy a model."""

_ORIGIN_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104
_ORIGIN_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")


def answer(ask: Ask, on_loopback: bool) -> Reply:
    """The reply to a request; ``on_loopback`` as Ollama checks ``Host`` only if it listens there."""
    dialect = dialect_of(ask.head.path)
    token = ask.world.behaviour.auth_token
    if token is not None and ask.head.values("authorization") != (f"Bearer {token}",):
        return refusal(401, "unauthorized", dialect)
    host = next(iter(ask.head.values("host")), "")
    origin = next(iter(ask.head.values("origin")), "")
    if (on_loopback and not allows_host(host)) or (origin and not allows_origin(origin, host)):
        return whole(403, b"", "", dialect)
    try:
        return _route(ask)
    except Refused as error:
        return refusal(error.status, error.text, dialect)


def dialect_of(path: str) -> Dialect:
    """In which words a path says that something went wrong."""
    special = {"/v1/messages": ANTHROPIC, "/v1/chat/completions": CHAT, "/v1/completions": COMPLETION}
    return special.get(path, OPENAI if path.startswith("/v1/") else NATIVE)


def _route(ask: Ask) -> Reply:
    path = ask.head.path
    clean = posixpath.normpath("/" + path.lstrip("/"))
    methods = _methods(path)
    if methods is None:
        if _methods(clean) is None:
            return whole(404, b"404 page not found", TEXT, NATIVE)
        permanent = ask.head.method == "GET" or clean != path.rstrip("/")
        moved = whole(301 if permanent else 307, b"", "", NATIVE)
        return Reply(moved.status, "", (), NATIVE, headers=(("Location", clean),))
    handler = methods.get(ask.head.method)
    if handler is None:
        allow = (("Allow", ", ".join(sorted(methods))),)
        return Reply(405, TEXT, (b"405 method not allowed",), NATIVE, headers=allow)
    return handler(ask)


def _methods(path: str) -> dict[str, _Handler] | None:
    """The handlers of a path, by method. A path parameter is one segment: a name with ``/`` does not match."""
    for prefix, methods in _PARAMETRISED.items():
        if path.startswith(prefix) and path != prefix and "/" not in path.removeprefix(prefix):
            return methods
    return ROUTES.get(path)


def allows_host(host: str) -> bool:
    """Whether Ollama on a loopback address accepts this ``Host``: local names and local addresses."""
    name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
    name = name.lower()
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]") if name != host.lower() else name)
    except ValueError:
        known = ("", "localhost", socket.gethostname().lower())
        return name in known or name.endswith((".localhost", ".local", ".internal"))
    return address.is_loopback or address.is_private or address.is_unspecified


def allows_origin(origin: str, host: str) -> bool:
    """Whether Ollama, as delivered, accepts this ``Origin``: its own, local pages, and desktop applications."""
    parts = urlsplit(origin)
    if parts.scheme in _ORIGIN_SCHEMES:
        return True
    return parts.scheme in ("http", "https") and (parts.netloc == host or parts.hostname in _ORIGIN_HOSTS)
