"""Every reply that the gateway makes itself in place of an answer, in the dialect of the caller.

The shapes are those that the `ollama`, `openai` and `anthropic` client libraries turn into their own exceptions: always
JSON, never empty, `error` a plain string for Ollama (its Python client fails on anything else).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from herdgate.inside import redacted
from herdgate.surface import Endpoint, Family

DENIED = "access to this model is not allowed"
JSON = "application/json"


_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+: [^\r\n\0]*")
_NOT_TO_BE_GIVEN = frozenset({"connection", "content-length", "date", "transfer-encoding", "x-request-id"})


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply. Header names end up in lower case; length, date and request id are added when it is sent.

    Raises TypeError or ValueError for what could not be sent, so that whoever makes such a reply is the one who fails.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __post_init__(self) -> None:
        if not isinstance(self.body, bytes):
            raise TypeError(f"the body of a reply is bytes, not {type(self.body).__name__}")
        if not isinstance(self.status, int) or not isinstance(self.headers, Mapping):
            raise TypeError("a reply has a status, which is an int, and a mapping of headers")
        if not 200 <= self.status <= 599:
            raise ValueError(f"{self.status} is not the status of a final reply")
        headers = {name.lower(): value for name, value in self.headers.items()}
        for name, value in headers.items():
            if not _may_be_given(name, value):
                raise ValueError(f"a reply cannot have the header {name!r} with this value")
        object.__setattr__(self, "headers", headers)


@lru_cache(maxsize=1024)  # the same few headers come with every reply
def _may_be_given(name: str, value: str) -> bool:
    if not isinstance(value, str):
        raise TypeError(f"the header {name!r} of a reply is a str, not {type(value).__name__}")
    return name not in _NOT_TO_BE_GIVEN and _HEADER.fullmatch(f"{name}: {value}") is not None


class Halt(Exception):  # noqa: N818 - it ends a request with a reply, which need not be an error
    """End this request with this reply. Only the core raises it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_OPENAI_CODES = {401: "invalid_api_key", 403: "permission_denied", 429: "rate_limit_exceeded"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def dump(value: object) -> bytes:
    """Compact JSON in ASCII: some clients split lines at U+0085 and U+2028, which must therefore be escaped."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def error_body(family: Family, status: int, message: str, *, request_id: str, code: str | None = None) -> bytes:
    """The JSON body of an error in a family's shape."""
    client_side = 400 <= status < 500
    if family is Family.OLLAMA:
        return dump({"error": message})
    if family is Family.OPENAI:
        kind = _OPENAI_TYPES.get(status, "invalid_request_error" if client_side else "api_error")
        return dump(
            {"error": {"message": message, "type": kind, "param": None, "code": code or _OPENAI_CODES.get(status)}}
        )
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if client_side else "api_error")
    return dump({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def error_reply(
    family: Family, status: int, message: str, *, request_id: str, headers: Mapping[str, str] | None = None
) -> Reply:
    """An error of the gateway's own."""
    body = error_body(family, status, message, request_id=request_id)
    return Reply(status, {"content-type": JSON, **(headers or {})}, body)


def denial(family: Family, *, request_id: str) -> Reply:
    """The generic 403: the same bytes whether the model does not exist, is hidden, or is not this caller's."""
    body = error_body(family, 403, DENIED, request_id=request_id, code="model_not_allowed")
    return Reply(403, {"content-type": JSON}, body)


def unauthorized(family: Family, *, request_id: str) -> Reply:
    """The 401, the same for a missing, a wrong and an expired key."""
    message = "unauthorized: a valid API key is required"
    return error_reply(family, 401, message, request_id=request_id, headers={"www-authenticate": "Bearer"})


def in_band(endpoint: Endpoint, message: str, *, tail: bytes = b"") -> bytes:
    """What ends a stream that has broken after its first byte, in the form that this endpoint's clients recognise.

    `tail` is the end of what was already sent: an unfinished line or event is closed first, or the error would become a
    part of it.
    """
    if endpoint.family is Family.OLLAMA:
        opening = b"" if not tail or tail.endswith(b"\n") else b"\n"
        return opening + dump({"error": message}) + b"\n"
    opening = b"" if not tail or tail.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
    if endpoint.family is Family.ANTHROPIC:
        event: dict[str, object] = {"type": "error", "error": {"type": "api_error", "message": message}}
        return opening + b"event: error\ndata: " + dump(event) + b"\n\n"
    if endpoint.name == "responses":
        said: dict[str, object] = {"code": "server_error", "message": message, "param": None}
        # Flat, as OpenAI documents it, and as an object, which is what its library makes an exception of.
        event = {
            "type": "error",
            **said,
            "sequence_number": _next_number(tail),
            "error": {"type": "server_error", **said},
        }
        return opening + b"event: error\ndata: " + dump(event) + b"\n\n"
    error = {"error": {"message": message, "type": "api_error", "param": None, "code": None}}
    return opening + b"data: " + dump(error) + b"\n\n"


_NUMBER = re.compile(rb'"sequence_number": ?(\d{1,9})\b')


def _next_number(tail: bytes) -> int:
    numbers = _NUMBER.findall(tail)
    return int(numbers[-1]) + 1 if numbers else 0


_MESSAGE_LIMIT = 2000


def message_of(body: bytes) -> str | None:
    """What a backend's error body says, without addresses and file-system paths of the inside; None if it says nothing.

    A body may be Ollama's string, OpenAI's or Anthropic's object, on `/v1` either (Ollama's cloud proxy uses the native
    shape), or the flat event of `/v1/responses`. A text that is itself such a body, as Ollama passes on what its runner
    said, is unwrapped.
    """
    text = _said(body)
    while text is not None and (inner := _said(text)) is not None:
        text = inner
    return redacted(text[:_MESSAGE_LIMIT]) if text is not None else None


def _said(body: bytes | str) -> str | None:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    error = said if said.get("type") == "error" and "error" not in said else said.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    return text if isinstance(text, str) and text.strip() else None
