"""The table of paths, and what is answered for a path that is not in it."""

import posixpath
from collections.abc import Callable
from dataclasses import replace

from herdgate.testing.simulation.answers import anthropic, catalogue, management, native, openai
from herdgate.testing.simulation.answers.admission import cross_origin, turn_away
from herdgate.testing.simulation.answers.ask import Ask, Refused
from herdgate.testing.simulation.reply import TEXT, Dialect, Reply, refusal, whole
from herdgate.testing.simulation.wire.anthropic import ANTHROPIC
from herdgate.testing.simulation.wire.native import NATIVE
from herdgate.testing.simulation.wire.openai import CHAT, OPENAI
from herdgate.testing.simulation.wire.openai import TEXT as COMPLETION

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


def answer(ask: Ask, on_loopback: bool) -> Reply:
    """The reply to a request; ``on_loopback`` as Ollama checks ``Host`` only if it listens there."""
    dialect = dialect_of(ask.head.path)
    turned_away = turn_away(ask, dialect, on_loopback)
    if turned_away is not None:
        return turned_away
    try:
        reply = _route(ask)
    except Refused as error:
        reply = refusal(error.status, error.text, dialect)
    return replace(reply, headers=(*reply.headers, *cross_origin(ask.head)))


def dialect_of(path: str) -> Dialect:
    """In which words a path says that something went wrong."""
    special = {"/v1/messages": ANTHROPIC, "/v1/chat/completions": CHAT, "/v1/completions": COMPLETION}
    return special.get(path, OPENAI if path.startswith("/v1/") else NATIVE)


def _route(ask: Ask) -> Reply:
    path, method = ask.head.path, ask.head.method
    methods = _methods(path)
    if methods is None:
        return _elsewhere(path, method)
    handler = methods.get(method)
    if handler is None:
        allow = (("Allow", ", ".join(sorted(methods))),)
        return Reply(405, TEXT, (b"405 method not allowed",), NATIVE, headers=allow)
    return handler(ask)


def _elsewhere(path: str, method: str) -> Reply:
    """A redirect to the path's proper spelling, or 404."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if _methods(clean) is None:
        return whole(404, b"404 page not found", TEXT, NATIVE)
    only_slash = clean == path.rstrip("/")
    status = 307 if only_slash and method != "GET" else 301
    return Reply(status, "", (), NATIVE, headers=(("Location", clean),))


def _methods(path: str) -> dict[str, _Handler] | None:
    """The handlers of a path, by method. A path parameter is one segment: a name with ``/`` does not match."""
    for prefix, methods in _PARAMETRISED.items():
        if path.startswith(prefix) and path != prefix and "/" not in path.removeprefix(prefix):
            return methods
    return ROUTES.get(path)
