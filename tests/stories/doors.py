"""What the stories of the front door have in common."""

from __future__ import annotations

import json
from typing import Any

from tests.stories.conftest import CHAT, Chat
from tests.stories.raw import Raw

from herdgate.testing.simulated import SimulatedOllama

ASK = Chat(CHAT, stream=False)
BODY = json.dumps(ASK.body()).encode()
POLLS = {"/api/tags", "/api/version"}
CHUNKED = {"Transfer-Encoding": "chunked"}


def told(value: object) -> str:
    """How a parameter appears in a test's name: the same in every process, whatever order a set has there."""
    return repr(sorted(value)) if isinstance(value, set) else repr(value)


def forwarded(backend: SimulatedOllama) -> list[str]:
    """What a backend was asked, polls aside."""
    assert backend.malformed == []
    return [request.path for request in backend.requests if request.path not in POLLS]


def message_of(reply: Raw, path: str) -> str:
    """The message of an error. Fails if it does not have the shape of the path's family."""
    assert reply.header("content-type") == "application/json"
    said: dict[str, Any] = json.loads(reply.body)
    if path.startswith("/v1/messages"):
        assert (set(said), said["type"]) == ({"type", "error", "request_id"}, "error")
        assert said["request_id"] == reply.header("x-request-id")
        assert set(said["error"]) == {"type", "message"}
        return str(said["error"]["message"])
    assert set(said) == {"error"}
    if path.startswith("/v1/"):
        assert set(said["error"]) == {"message", "type", "param", "code"}
        return str(said["error"]["message"])
    assert isinstance(said["error"], str)
    return str(said["error"])


def padded(size: int) -> bytes:
    """A proper body of exactly this size."""
    body = json.dumps({**ASK.body(), "padding": ""}).encode()
    return body[:-2] + b"x" * (size - len(body)) + b'"}'


def chunked(*pieces: bytes) -> bytes:
    """These pieces, each as a chunk, and the last chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
