import json

import pytest

from herdgate import Exchange, Failure, Head, Kind, Phase
from herdgate.opening import HOLD_LIMIT
from herdgate.testing.faults import ErrorEvent, Events, FirstEvent
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama
from herdgate.testing.simulation.fault import Fault
from herdgate_plugins.opening_check import OpeningCheck

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
SSE = "text/event-stream"


def inspected(opening: bytes, content_type: str, path: str = "/api/chat") -> Failure | None:
    exchange = Exchange("r1", method="POST", path=path, client="127.0.0.1")
    headers = {"content-type": content_type} if content_type else {}
    return OpeningCheck().inspect_opening(exchange, Head(200, headers), opening)


@pytest.mark.parametrize(
    ("opening", "content_type"),
    [
        (b'{"response":"a","done":false}\n', NDJSON),
        (b'{"response":"a","done":true}', NDJSON),
        (b'{"embeddings":[[1,2]]}', JSON),
        ('{"antwort":"größer","größe":1}'.encode(), JSON),
        (b'{"error":null,"status":"completed"}', JSON),
        ('{"error":null,"größe":1}'.encode(), JSON),
        (b'{"error":"","done":true}', JSON),
        (b'{"error":{},"done":true}', JSON),
        (b'data: {"choices":[]}\n\n', SSE),
        (b'data:{"choices":[]}\r\n\r\n', SSE),
        (b": waiting\n\nid: 1\nretry: 10\nevent: message_start\ndata: {}\n\n", SSE),
        (b'data: {"a":\ndata: 1}\n\n', SSE),
        (b"data: [DONE]\n\n", SSE),
        (b'data: {"model":"","choices":[],"prompt_filter_results":[]}\n\n', SSE),  # Azure's first chunk
    ],
)
def test_a_good_opening_passes(opening: bytes, content_type: str) -> None:
    assert inspected(opening, content_type) is None


@pytest.mark.parametrize(
    ("opening", "content_type"),
    [
        (b"\n", NDJSON),
        (b"<html>\n", NDJSON),
        (b'{"response":"a"\n', NDJSON),
        (b'{"response":"a"} {"response":"b"}\n', NDJSON),
        (b'"text"\n', NDJSON),
        (b"[]", JSON),
        (b"null", JSON),
        (b"\xff\xfe", JSON),
        (b'{"gr\xf6\xdfe":1}', JSON),
        (b"[" * 100_000, JSON),
        (b'{"error":1e999}', JSON),
        (b'{"error":' + b"9" * 5000 + b"}", JSON),
        (b'{"error":"\xff"}', JSON),
        (b'data: {"a":1\n\n', SSE),
        (b"data: \n\n", SSE),
        (b"data: 7\n\n", SSE),
        (b"<html>\ndata: {}\n\n", SSE),
        (b'{"choices":[]}\ndata: {}\n\n', SSE),
    ],
)
def test_an_opening_that_is_not_what_the_endpoint_sends_is_malformed(opening: bytes, content_type: str) -> None:
    failure = inspected(opening, content_type)
    assert failure is not None
    assert (failure.kind, failure.phase) == (Kind.MALFORMED, Phase.OPENING)


@pytest.mark.parametrize(
    ("opening", "content_type", "message"),
    [
        (b'{"error":"out of memory"}\n', NDJSON, "out of memory"),
        (b'{"error":"out of memory","status":500}\n', NDJSON, "out of memory"),
        (b'{"error":"open /root/.ollama/models/x failed"}\n', NDJSON, "open \u2026 failed"),
        (b'{"error":{"message":"bad"}}', JSON, "bad"),
        ('{"error":"zu groß"}'.encode(), JSON, "zu groß"),
        (b'{"err\\u006fr":"escaped"}', JSON, "escaped"),
        (b'{"error":7}', JSON, None),
        (b'data: {"error":{"message":"bad"}}\n\n', SSE, "bad"),
        (b'event: error\ndata: {"type":"error","error":{"message":"bad"}}\n\n', SSE, "bad"),
        (b"event:error\ndata: oops\n\n", SSE, None),
        (b'{"error":"bad"}\ndata: {}\n\n', SSE, "bad"),
    ],
)
def test_an_error_in_a_success_is_an_error(opening: bytes, content_type: str, message: str | None) -> None:
    failure = inspected(opening, content_type)
    assert failure is not None
    assert (failure.kind, failure.phase, failure.message) == (Kind.ERROR_EVENT, Phase.OPENING, message)


@pytest.mark.parametrize(
    ("content_type", "path", "good"),
    [
        ("text/html", "/api/chat", False),
        ("text/plain", "/api/chat", False),
        ("", "/api/chat", False),
        ("text/html; charset=utf-8", "/v1/chat/completions", False),
        ("application/octet-stream", "/v1/embeddings", True),
        ("", "/v1/chat/completions", True),
    ],
)
def test_a_content_type_that_the_family_never_sends_is_malformed(content_type: str, path: str, good: bool) -> None:
    assert (inspected(b"hello", content_type, path) is None) is good


# through a gateway


CHAT = "/api/chat"
COMPLETIONS = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (CHAT, FirstEvent(b'{"error":"out of memory"}\n')),
        (CHAT, FirstEvent(b"\n")),
        (CHAT, FirstEvent(b"<html>\n")),
        (CHAT, Events((b'{"message":',))),
        (COMPLETIONS, FirstEvent(b'data: {"error":{"message":"out of memory"}}\n\n')),
        (COMPLETIONS, FirstEvent(b"<html>\n\n")),
        (COMPLETIONS, Events((b'data: {"choices":[]}',))),
        (COMPLETIONS, Events((b": nothing but a comment\n\n",))),
        (COMPLETIONS, ErrorEvent(0)),
    ],
)
async def test_a_bad_first_event_sends_the_request_to_the_next_backend(path: str, fault: Fault) -> None:
    async with SimulatedOllama(name="first") as first, SimulatedOllama(name="second") as second:
        first.script(path, fault)
        async with running_gateway(first, second) as gateway:
            body = {"model": "llama3.2", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            reply = await gateway.client.post(path, json=body)
    assert reply.status_code == 200
    assert "second" in reply.text
    assert "error" not in reply.text


async def test_a_whole_reply_too_long_to_be_held_is_released_unseen() -> None:
    """A batch of embeddings may be larger than what is held: half of it is no JSON, and no failure either."""
    answer = json.dumps({"model": "llama3.2", "embeddings": [[0.5] * (HOLD_LIMIT // 4)]}).encode()
    assert len(answer) > HOLD_LIMIT
    async with SimulatedOllama() as backend:
        backend.script("/api/embed", Events((answer,)))
        async with running_gateway(backend) as gateway:
            reply = await gateway.client.post("/api/embed", json={"model": "llama3.2", "input": "hi"})
    assert reply.status_code == 200
    assert reply.content == answer
