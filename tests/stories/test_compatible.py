"""OpenAI's responses and transcriptions, Anthropic's messages, and what the gateway answers or changes by itself."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.stories.conftest import CHAT, MODEL, OPENAI_CHAT
from tests.stories.doors import forwarded, message_of, padded
from tests.stories.raw import Raw, connected

from herdgate.body import Body
from herdgate.testing.faults import (
    Cut,
    EndWithoutDone,
    ErrorEvent,
    Fault,
    FirstEvent,
    ResetBeforeHeaders,
    Slice,
    Status,
)
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimModel, SimulatedOllama

if sys.version_info >= (3, 14):
    from compression.zstd import compress
else:
    from backports.zstd import compress

pytestmark = pytest.mark.usefixtures("quick_keys")

RESPONSES, MESSAGES, AUDIO = "/v1/responses", "/v1/messages", "/v1/audio/transcriptions"
COUNT = f"{MESSAGES}/count_tokens"
SAID = "Hello from simulated backend {}. You said: hi"
STREAMED = [RESPONSES, MESSAGES]
ENDS = {RESPONSES: "response.completed", MESSAGES: "message_stop"}


def asked(**more: object) -> dict[str, object]:
    return {"model": MODEL, "input": "hi", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **more}


def text_of(path: str, body: bytes) -> str:
    said = json.loads(body)
    return str((said["output"][0] if path == RESPONSES else said)["content"][0]["text"])


def events_of(body: bytes) -> list[dict[str, Any]]:
    blocks = [block.split("\n") for block in body.decode().split("\n\n") if block]
    events = [json.loads(block[-1].removeprefix("data: ")) for block in blocks]
    assert [block[0] for block in blocks] == [f"event: {event['type']}" for event in events]
    return events


def streamed_text(path: str, body: bytes) -> str:
    """The text of a stream. Fails if the stream is not complete."""
    events = events_of(body)
    assert events[-1]["type"] == ENDS[path]
    if path == RESPONSES:
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    return "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")


@pytest.mark.parametrize("path", STREAMED)
async def test_a_request_is_routed_whole_and_streamed(gateway: RunningGateway, path: str) -> None:
    async with connected(gateway) as connection:
        whole = await connection.ask("POST", path, asked())
        assert (whole.status, whole.header("content-type")) == (200, "application/json")
        assert text_of(path, whole.body) == SAID.format("first")
        stream = await connection.ask("POST", path, asked(stream=True))
        assert stream.header("content-type") == "text/event-stream"
        assert streamed_text(path, stream.body) == SAID.format("first")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [ResetBeforeHeaders(), Status(503), Status(404), Cut(after="headers")], ids=repr)
@pytest.mark.parametrize("path", STREAMED)
async def test_another_backend_answers_instead(
    gateway: RunningGateway, first: SimulatedOllama, path: str, fault: Fault, stream: bool
) -> None:
    first.script(path, fault, times=None)
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", path, asked(stream=stream))
    text = streamed_text(path, reply.body) if stream else text_of(path, reply.body)
    assert text == SAID.format("second")


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"full"}}\n\n',
        b'event: error\ndata: {"type":"error","code":"x","message":"full","param":null,"sequence_number":0}\n\n',
        b'data: {"error":{"message":"full"}}\n\n',
    ],
    ids=["object", "flat", "unnamed"],
)
@pytest.mark.parametrize("path", STREAMED)
async def test_a_stream_that_begins_with_an_error_is_none(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, path: str, event: bytes
) -> None:
    first.script(path, FirstEvent(event), times=2)
    second.script(path, Status(503, "nobody is here"))
    async with connected(gateway) as connection:
        assert message_of(await connection.ask("POST", path, asked(stream=True)), path) == "nobody is here"
        reply = await connection.ask("POST", path, asked(stream=True))
    assert streamed_text(path, reply.body) == SAID.format("second")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Cut(after=3), "the model's reply was interrupted"),
        (Cut(after=3, within="event"), "the model's reply was interrupted"),
        (EndWithoutDone(after=3), "the model's reply ended before it was complete"),
        (ErrorEvent(after=3), "the model's reply ended before it was complete"),  # Ollama says nothing
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", STREAMED)
async def test_a_stream_that_breaks_ends_with_an_error(
    gateway: RunningGateway, first: SimulatedOllama, path: str, fault: Fault, message: str
) -> None:
    first.script(path, fault)
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", path, asked(stream=True))
    last = json.loads(reply.body.rsplit(b"\ndata: ", 1)[1])
    assert b"\n\nevent: error\ndata: " in reply.body
    assert (last["type"], last["error"]["message"]) == ("error", message)
    if path == RESPONSES:
        assert last["message"] == message
        assert last["sequence_number"] in {3, 4}  # 3 may have come in part


@pytest.mark.parametrize("fault", [Slice(size=97), Slice(size=700, seed=3)], ids=repr)
@pytest.mark.parametrize("path", STREAMED)
async def test_a_reply_of_any_length_and_in_any_pieces_is_complete(
    gateway: RunningGateway, first: SimulatedOllama, path: str, fault: Fault
) -> None:
    """The last event of a response repeats all of it: here more than the gateway remembers of a stream."""
    first.behaviour.reply_words = 2500
    first.script(path, fault)
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", path, asked(stream=True))
    text = streamed_text(path, reply.body)
    assert text.endswith("word2500")
    assert len(text) > 16 * 1024
    first.script(path, EndWithoutDone(after=2505 if path == RESPONSES else 2502))  # before the last events
    async with connected(gateway) as connection:
        assert b"\nevent: error\n" in (await connection.ask("POST", path, asked(stream=True))).body


@pytest.mark.parametrize("path", [*STREAMED, COUNT])
async def test_mistakes_are_told_in_the_words_of_the_family(
    gateway: RunningGateway, first: SimulatedOllama, path: str
) -> None:
    key = await gateway.make_key(MODEL)
    first.script(path, Status(400, "max_tokens is required and must be positive"))
    async with connected(gateway) as connection:
        for body, status, message in (
            (b"{", 400, "not valid JSON"),
            ({}, 400, "model is required"),
            (asked(model="a b"), 400, "invalid model name"),
            (asked(model="no-such-model"), 403, "not allowed"),
            (asked(model="only-second"), 403, "not allowed"),
            *([] if path == COUNT else [(asked(), 400, "max_tokens is required")]),
        ):
            reply = await connection.ask("POST", path, body, key)
            assert reply.status == status
            assert message in message_of(reply, path)


@pytest.mark.parametrize("path", [CHAT, OPENAI_CHAT, *STREAMED])
async def test_what_a_backend_says_never_names_it(first: SimulatedOllama, path: str) -> None:
    address = first.url.replace("127.0.0.1", "localhost")
    first.script(path, Status(400, f"open /root/x: localhost said no, so did {address}/x"))
    async with running_gateway({"name": "one", "base_url": address}) as gateway, connected(gateway) as connection:
        reply = await connection.ask("POST", path, asked())
    assert (reply.status, message_of(reply, path)) == (400, "open … … said no, so did …")


@pytest.mark.parametrize(
    "fault",
    [
        Status(500, b"", ""),
        Status(500, b"<html>Bad Gateway at gpu1</html>", "text/html"),
        Status(418, b"plain text", "text/plain"),
        Status(400, b'{"error":""}'),
        Status(500, b'{"error":{"message":"of another family"}}'),
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", [CHAT, OPENAI_CHAT, *STREAMED])
async def test_an_error_is_never_empty_nor_a_page(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, path: str, fault: Status
) -> None:
    for backend in (first, second):
        backend.script(path, fault)
    async with connected(gateway) as connection:
        message = message_of(await connection.ask("POST", path, asked()), path)
    assert message in {"backend unavailable", "the backend did not accept the request", "of another family"}


async def test_tokens_are_estimated_without_a_backend(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    await first.stop()
    await second.stop()
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", COUNT, asked(messages=[{"role": "user", "content": "x" * 400}]))
    assert (reply.status, json.loads(reply.body)) == (200, {"input_tokens": 100})
    assert reply.header("content-type") == "application/json"


async def test_while_the_tokens_of_a_long_conversation_are_counted_others_are_served(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count waits for a reply to somebody else, which it would keep from being given."""
    served = threading.Event()

    def count(body: Body) -> int:
        return 7 if served.wait(10) else 0

    monkeypatch.setattr("herdgate.routed.estimated_tokens", count)
    async with connected(gateway) as one, connected(gateway) as other, asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(one.ask("POST", COUNT, asked()))
        await other.ask("GET", "/healthz")
        served.set()
    assert json.loads(counting.result().body) == {"input_tokens": 7}


# transcriptions


@pytest.fixture
async def ears(first: SimulatedOllama, second: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    for backend in (first, second):
        backend.models.add(SimModel("whisper", capabilities=("audio",)))
    async with running_gateway(first, second) as running:
        yield running


def recording(model: str = "whisper", **fields: str) -> tuple[bytes, dict[str, str]]:
    parts = [(f'name="{name}"', value.encode()) for name, value in {"model": model, **fields}.items()]
    parts.append(('name="file"; filename="a.wav"', b"RIFF\r\n\x00\xff"))
    body = b"".join(
        b"--limit\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), content)
        for head, content in parts
    )
    return body + b"--limit--\r\n", {"Content-Type": 'multipart/form-data; boundary="limit"'}


async def heard(gateway: RunningGateway, body: bytes, headers: dict[str, str]) -> Raw:
    async with connected(gateway) as connection:
        return await connection.ask("POST", AUDIO, body, headers)


async def test_a_recording_goes_on_as_it_came(ears: RunningGateway, first: SimulatedOllama) -> None:
    body, headers = recording()
    reply = await heard(ears, body, headers)
    assert (reply.status, reply.header("content-type")) == (200, "application/json")
    assert json.loads(reply.body) == {"text": "Hello from simulated backend first. You sent 8 bytes."}
    (received,) = [request for request in first.requests if request.path == AUDIO]
    assert received.body == body
    assert received.values("content-type") == ("multipart/form-data; boundary=limit",)


async def test_a_transcription_as_text_is_called_text(ears: RunningGateway) -> None:
    reply = await heard(ears, *recording(response_format="text"))
    assert (reply.status, reply.header("content-type")) == (200, "text/plain; charset=utf-8")
    assert reply.body == b"Hello from simulated backend first. You sent 8 bytes."


@pytest.mark.parametrize("fault", [ResetBeforeHeaders(), Status(503), FirstEvent(b'{"error":"full"}')], ids=repr)
async def test_another_backend_listens_instead(ears: RunningGateway, first: SimulatedOllama, fault: Fault) -> None:
    first.script(AUDIO, fault, times=None)
    for form in ({}, {"response_format": "text"}):
        assert b"second" in (await heard(ears, *recording(**form))).body


async def test_a_form_that_could_be_read_in_two_ways_goes_nowhere(ears: RunningGateway, first: SimulatedOllama) -> None:
    body, headers = recording()
    twice = body.replace(b"--limit--", b'--limit\r\nContent-Disposition: form-data; name="Model"\r\n\r\nx\r\n--limit--')
    for bad, kind in (
        (b"", headers),
        (b'{"model":"whisper"}', {"Content-Type": "application/json"}),
        (body, {}),
        (twice, headers),
        (body.replace(b"\r\n", b"\n"), headers),
        (recording(model="")[0], headers),
        (recording(model="a b")[0], headers),
    ):
        reply = await heard(ears, bad, kind)
        assert reply.status == 400
        assert message_of(reply, AUDIO)
    assert (await heard(ears, *recording(model="no-such-model"))).status == 403
    compressed = await heard(ears, compress(body), {**headers, "Content-Encoding": "zstd"})
    assert compressed.status == 415
    assert forwarded(first) == []


# compressed bodies


@pytest.mark.parametrize("path", [OPENAI_CHAT, "/v1/completions", "/v1/embeddings", RESPONSES, MESSAGES])
async def test_a_compressed_body_is_read_here_and_goes_on_plain(
    gateway: RunningGateway, first: SimulatedOllama, path: str
) -> None:
    plain = json.dumps(asked(prompt="hi")).encode()
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", path, compress(plain), {"Content-Encoding": "zstd"})
        assert reply.status == 200
        for bad in (plain, compress(plain)[:-2], compress(plain) * 2, compress(b"{"), b""):
            assert (await connection.ask("POST", path, bad, {"Content-Encoding": "zstd"})).status == 400
        for coding in ("gzip", "zstd, zstd", "zstd, identity"):
            assert (await connection.ask("POST", path, plain, {"Content-Encoding": coding})).status == 415
    (received,) = [request for request in first.requests if request.path == path]
    assert received.body == plain
    assert received.values("content-encoding") == ()
    assert received.values("content-length") == (str(len(plain)),)


async def test_what_is_forbidden_is_so_when_it_is_compressed(gateway: RunningGateway, first: SimulatedOllama) -> None:
    key = await gateway.make_key(MODEL)
    async with connected(gateway) as connection:
        body = compress(json.dumps(asked(model="only-first")).encode())
        reply = await connection.ask("POST", OPENAI_CHAT, body, {**key, "Content-Encoding": "zstd"})
        assert (reply.status, forwarded(first)) == (403, [])


async def test_a_body_that_explodes_is_refused(first: SimulatedOllama) -> None:
    bomb = compress(b" " * 10**9)
    assert len(bomb) < 100_000
    async with running_gateway(first) as gateway, connected(gateway) as connection:
        reply = await connection.ask("POST", OPENAI_CHAT, bomb, {"Content-Encoding": "zstd"})
        assert (reply.status, message_of(reply, OPENAI_CHAT)) == (413, "request body too large")
    async with running_gateway(first, toml="[server]\nmax_body = 2000\n") as gateway, connected(gateway) as connection:
        for size, status in ((2000, 200), (2001, 413)):
            body = compress(padded(size))
            assert (await connection.ask("POST", OPENAI_CHAT, body, {"Content-Encoding": "zstd"})).status == status
    assert forwarded(first) == [OPENAI_CHAT]


async def test_the_memory_of_all_bodies_together_has_a_limit_when_they_are_compressed_too(
    first: SimulatedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herdgate.front.door.BODIES_AT_ONCE", 1)
    body = padded(1500)
    async with running_gateway(first, toml="[server]\nmax_body = 1600\n") as gateway, connected(gateway) as connection:
        reply = await connection.ask("POST", OPENAI_CHAT, compress(body), {"Content-Encoding": "zstd"})
        assert (reply.status, reply.header("retry-after")) == (503, "1")
        assert (await connection.ask("POST", OPENAI_CHAT, body)).status == 200


# what is shown of a model


async def test_only_an_admin_sees_the_paths_of_a_backend(gateway: RunningGateway) -> None:
    open_mode = (await gateway.client.post("/api/show", json={"model": MODEL})).json()
    assert re.search(r"^FROM …/sha256-[0-9a-f]{64}$", open_mode["modelfile"], re.MULTILINE)
    user = await gateway.make_key(MODEL)
    admin = await gateway.make_key(MODEL, admin=True, name="boss")
    for_user = (await gateway.client.post("/api/show", json={"model": MODEL}, headers=user)).json()
    for_admin = (await gateway.client.post("/api/show", json={"model": MODEL}, headers=admin)).json()
    assert for_user == open_mode
    assert "FROM /simulated/blobs/sha256-" in for_admin["modelfile"]
    assert {**for_admin, "modelfile": ""} == {**for_user, "modelfile": ""}


async def test_a_long_description_is_redacted_as_well(gateway: RunningGateway, first: SimulatedOllama) -> None:
    vocabulary = ["x" * 1000] * 12_000
    said = json.dumps({"model_info": {"tokens": vocabulary}, "modelfile": "FROM /secret/x"}).encode()
    first.script("/api/show", FirstEvent(said))
    shown = (await gateway.client.post("/api/show", json={"model": MODEL, "verbose": True})).json()
    assert shown == {"model_info": {"tokens": vocabulary}, "modelfile": "FROM …/x"}


@pytest.mark.parametrize("path", STREAMED)
async def test_no_backend_is_made_to_search_the_web(gateway: RunningGateway, first: SimulatedOllama, path: str) -> None:
    """It would do so with its owner's account; clients ask for it unasked, so the rest of the request is served."""
    key = await gateway.make_key(MODEL, admin=True, cloud=True)
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": {"type": "object"}}]
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", path, asked(tools=tools), key)
        assert (reply.status, text_of(path, reply.body)) == (200, SAID.format("first"))
    (received,) = [request for request in first.requests if request.path == path]
    assert received.json == asked(tools=tools[1:])
    assert received.values("content-length") == (str(len(received.body)),)


async def test_a_native_path_takes_no_compressed_body(gateway: RunningGateway) -> None:
    async with connected(gateway) as connection:
        body = compress(json.dumps(asked()).encode())
        assert (await connection.ask("POST", CHAT, body, {"Content-Encoding": "zstd"})).status == 415
