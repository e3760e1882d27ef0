"""The table of everything Herdgate answers: path, family, who may, where the model name is, how it streams.

Routing, access checks, error shapes and the documentation all follow from it. Protocol facts: Ollama 0.33 and its
OpenAI- and Anthropic-compatible trees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from herdgate.access import Action


class Family(StrEnum):
    """Whose dialect a path speaks. It decides the shape of every reply made here, errors included."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Treatment(Enum):
    """What the gateway does with a request."""

    OPEN = "answered here, without a key"
    LOCAL = "answered here"
    UNION = "answered from the union of all backends"
    COUNTED = "answered here, for a model that the caller may use"
    ROUTED = "routed by model, with failover"
    REFUSED = "the generic 403"
    PLUGIN = "answered by a plugin"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row: a path (or, with `prefix`, every path below it) and how it is treated.

    `model_fields` are the body's fields that may hold the model name, the preferred one first; `prompt_field` is the
    one without which a request only loads or unloads the model. `streams` is the meaning of an absent `stream`; None
    for endpoints that never stream. `terminals` are the beginnings of the line one of which a complete SSE stream has
    at its end. `form`: the body is multipart/form-data, not JSON. `zstd`: the body may be compressed so.
    `web_search`: Ollama searches the web by itself if the request has a tool of this type.
    """

    name: str
    path: str
    methods: frozenset[str]
    family: Family
    treatment: Treatment
    action: Action | None = None
    model_fields: tuple[str, ...] = ()
    prompt_field: str = ""
    streams: bool | None = None
    terminals: tuple[bytes, ...] = ()
    prefix: bool = False
    form: bool = False
    zstd: bool = False
    web_search: bool = False


def family_of(path: str) -> Family:
    """The family whose error shape a path gets, known or not."""
    if path.startswith("/v1/messages"):
        return Family.ANTHROPIC
    return Family.OPENAI if path.startswith("/v1/") else Family.OLLAMA


_READ = frozenset({"GET", "HEAD"})
_GET = frozenset({"GET"})
_POST = frozenset({"POST"})
_ANY = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_MODEL = ("model",)
_DONE = (b"data: [DONE]",)
# A backend that says itself that it failed has ended its stream as well as one that did not.
_RESPONSE_ENDS = (
    b"event: response.completed",
    b"event: response.incomplete",
    b"event: response.failed",
    b"event: error",
)
_MESSAGE_ENDS = (b"event: message_stop", b"event: error")


def _native(name: str, prompt: str = "", *, streams: bool | None = None) -> Endpoint:
    return Endpoint(
        name,
        f"/api/{name}",
        _POST,
        Family.OLLAMA,
        Treatment.ROUTED,
        Action.USE,
        model_fields=_MODEL,
        prompt_field=prompt,
        streams=streams,
    )


def _compatible(name: str, path: str, streams: bool | None, terminals: tuple[bytes, ...] = ()) -> Endpoint:
    """An endpoint of the OpenAI or Anthropic tree. Ollama ≥ 0.16.3 takes zstd on all of those that read JSON."""
    return Endpoint(
        name,
        path,
        _POST,
        family_of(path),
        Treatment.ROUTED,
        Action.USE,
        model_fields=_MODEL,
        streams=streams,
        terminals=terminals,
        zstd=True,
    )


def _refused(name: str, path: str, methods: frozenset[str]) -> Endpoint:
    return Endpoint(name, path, methods, Family.OLLAMA, Treatment.REFUSED, Action.MANAGE, prefix=path.endswith("/"))


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("root", "/", _READ, Family.OLLAMA, Treatment.OPEN),
    Endpoint("healthz", "/healthz", _READ, Family.OLLAMA, Treatment.OPEN),
    Endpoint("readyz", "/readyz", _READ, Family.OLLAMA, Treatment.OPEN),
    Endpoint("version", "/api/version", _READ, Family.OLLAMA, Treatment.LOCAL),
    Endpoint("status", "/api/status", _GET, Family.OLLAMA, Treatment.LOCAL),
    Endpoint("tags", "/api/tags", _READ, Family.OLLAMA, Treatment.UNION, Action.SEE),
    Endpoint("ps", "/api/ps", _GET, Family.OLLAMA, Treatment.UNION, Action.SEE),
    Endpoint("models", "/v1/models", _GET, Family.OPENAI, Treatment.UNION, Action.SEE),
    Endpoint("model", "/v1/models/", _GET, Family.OPENAI, Treatment.UNION, Action.SEE, prefix=True),
    _native("generate", "prompt", streams=True),
    _native("chat", "messages", streams=True),
    _native("embed", "input"),
    _native("embeddings", "prompt"),
    Endpoint("show", "/api/show", _POST, Family.OLLAMA, Treatment.ROUTED, Action.SEE, model_fields=("model", "name")),
    _compatible("chat_completions", "/v1/chat/completions", False, _DONE),
    _compatible("completions", "/v1/completions", False, _DONE),
    _compatible("openai_embeddings", "/v1/embeddings", None),
    replace(_compatible("responses", "/v1/responses", False, _RESPONSE_ENDS), web_search=True),
    replace(_compatible("messages", "/v1/messages", False, _MESSAGE_ENDS), web_search=True),
    replace(_compatible("transcriptions", "/v1/audio/transcriptions", None), form=True, zstd=False),
    # No Ollama has this one, but clients of Anthropic's API call it before they send.
    replace(_compatible("count_tokens", "/v1/messages/count_tokens", None), treatment=Treatment.COUNTED),
    _refused("pull", "/api/pull", _POST),
    _refused("push", "/api/push", _POST),
    _refused("create", "/api/create", _POST),
    _refused("copy", "/api/copy", _POST),
    _refused("delete", "/api/delete", frozenset({"DELETE"})),
    _refused("blobs", "/api/blobs/", frozenset({"HEAD", "POST"})),
    _refused("me", "/api/me", _ANY),
    _refused("signout", "/api/signout", _ANY),
    _refused("user", "/api/user/", _ANY),
    _refused("experimental", "/api/experimental/", _ANY),
)

_EXACT = {endpoint.path: endpoint for endpoint in ENDPOINTS if not endpoint.prefix}
_BELOW = tuple(endpoint for endpoint in ENDPOINTS if endpoint.prefix)


def find(path: str) -> Endpoint | None:
    """The row for a path exactly as it stands in the request line, without its query; None if there is none.

    Deliberately literal: a path that needs decoding or normalising to match is unknown, so that no other reader of the
    same bytes can see another path in it.
    """
    endpoint = _EXACT.get(path)
    if endpoint is not None:
        return endpoint
    for candidate in _BELOW:
        if path.startswith(candidate.path) and len(path) > len(candidate.path):
            return candidate
    return None
