"""A backend that is hostile, broken, or no Ollama at all: bounded, logged, and the next one answers."""

from __future__ import annotations

import gzip
import json
import logging

import pytest
from tests.stories.conftest import CHAT, Chat

from herdgate.testing.faults import (
    EndlessLine,
    Fault,
    Garbage,
    HugeHeaders,
    RawReply,
    Status,
    WrongLength,
)
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
JSON = b'{"message":{"content":"evil"},"choices":[{"message":{"content":"evil"}}],"done":true}'
LENGTH = b"Content-Length: %d\r\n" % len(JSON)
BOMB = gzip.compress(b"[" + b" " * 50_000_000 + b"]")


def kept(data: bytes) -> RawReply:
    """These bytes, and then silence: whoever waits for an end waits for ever."""
    return RawReply(data, then="keep")


ATTACKS: dict[str, Fault] = {
    "endless headers": kept(OK + b"X-Evil: evil\r\n" * 50_000),
    "one endless header": kept(OK + b"X-Evil: " + b"x" * 1_000_000),
    "an endless status line": kept(b"HTTP/1.1 200 " + b"O" * 1_000_000),
    "huge headers": HugeHeaders(),
    "a flood of interim replies": kept(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000),
    "another protocol": kept(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\n\r\nevil"),
    "two lengths": kept(OK + LENGTH + b"Content-Length: 5\r\n\r\n" + JSON),
    "a length and chunks": kept(OK + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + JSON),
    "a negative length": kept(OK + b"Content-Length: -1\r\n\r\n" + JSON),
    "a length beyond counting": kept(OK + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n" + JSON),
    "a broken chunk": kept(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + JSON),
    "an endless chunk extension": kept(OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 1_000_000),
    "a header with a bare carriage return": kept(OK + b"X-Evil: a\rb\r\n" + LENGTH + b"\r\n" + JSON),
    "a folded header": kept(OK + b"X-Evil: a\r\n b\r\n" + LENGTH + b"\r\n" + JSON),
    "random bytes": Garbage(),
    "another server": kept(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a compressed bomb": kept(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "what calls itself compressed": Status(200, JSON, headers=(("Content-Encoding", "gzip"),)),
    "lines that call themselves compressed": Status(
        200, JSON + b"\n", "application/x-ndjson", (("Content-Encoding", "identity, zstd"),)
    ),
    "a part": Status(206, JSON, headers=(("Content-Range", "bytes 0-80/1000"),)),
    "nothing but a wish": Status(205, JSON),
    "a success of its own": Status(299, JSON),
    "a page": Status(200, b"<html>welcome</html>", "text/html"),
    "a page that calls itself JSON": Status(200, b"<html>welcome</html>"),
    "a reply that is shorter than it said": kept(OK + b"Content-Length: 10\r\n\r\n" + JSON),
    "an error without end": kept(b"HTTP/1.1 503 No\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 500_000),
    "a pause beyond counting": Status(503, b"{}", headers=(("Retry-After", "9" * 5000),)),
    "an error beyond counting": Status(200, b'{"error":' + b"9" * 5000 + b"}"),
    "a redirect": kept(b"HTTP/1.1 307 Go\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_the_next_backend_answers_and_the_log_says_why(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat, attack: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "herdgate.requests")
    first.script(chat.path, attack)
    assert "backend second" in chat.text_of(await chat.ask(gateway))
    (said,) = (record.getMessage() for record in caplog.records if "attempt 1 at first failed" in record.getMessage())
    assert "plugin" not in said
    assert len(said) < 400
    assert "\n" not in said
    assert "backend first" in chat.text_of(await chat.ask(gateway)), "one bad reply spoils no other"


async def test_a_line_without_end_is_left_when_it_is_longer_than_any_event(
    gateway: RunningGateway, first: SimulatedOllama, stream: Chat
) -> None:
    first.script(stream.path, EndlessLine(after=0))
    assert "backend second" in stream.text_of(await stream.ask(gateway))
    await until(lambda: any(request.left_at is not None for request in first.requests))


@pytest.mark.parametrize("by", [1000, -5])
async def test_a_whole_reply_of_another_length_than_it_says_is_none(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat, by: int
) -> None:
    if chat.stream:
        pytest.skip("a stream is released before its end can be seen")
    first.script(chat.path, WrongLength(by))
    assert "backend second" in chat.text_of(await chat.ask(gateway))


@pytest.mark.parametrize("line", [b'{"message":{"content":"evil"},"done":false}', b'{"message":{"content":"ev'])
async def test_a_reply_that_ends_with_its_connection_in_its_first_line_is_none(
    gateway: RunningGateway, first: SimulatedOllama, line: bytes
) -> None:
    chat = Chat(CHAT, stream=True)
    first.script(CHAT, RawReply(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n" + line))
    assert "backend second" in chat.text_of(await chat.ask(gateway))


async def test_a_stream_in_the_format_of_another_api_is_none(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat
) -> None:
    lines = Status(200, JSON + b"\n", "application/x-ndjson")
    events = Status(200, b"data: " + JSON + b"\n\ndata: [DONE]\n\n", "text/event-stream")
    first.script(chat.path, events if chat.path == CHAT else lines)
    assert "backend second" in chat.text_of(await chat.ask(gateway))


async def test_a_reply_in_one_piece_may_answer_a_request_for_a_stream(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, stream: Chat
) -> None:
    """Ollama answers so when all there is to do is to load the model."""
    first.script(stream.path, Status(200, JSON))
    assert (await stream.ask(gateway)).content == JSON
    assert not [request for request in second.requests if request.path == stream.path]


POLLED: dict[str, tuple[Fault, str]] = {
    "endless headers": (ATTACKS["endless headers"], "larger than 65536 bytes"),
    "a flood of interim replies": (ATTACKS["a flood of interim replies"], "more than 8 interim"),
    "two lengths": (ATTACKS["two lengths"], ""),
    "random bytes": (ATTACKS["random bytes"], ""),
    "a page": (ATTACKS["a page"], ""),
    "a redirect": (ATTACKS["a redirect"], "status 307"),
    "a compressed bomb": (ATTACKS["a compressed bomb"], "a compressed answer (gzip)"),
    "a list that nests without end": (Status(200, b'{"models":' + b"[" * 200_000), "nested too deeply"),
}


@pytest.mark.parametrize(("attack", "reason"), POLLED.values(), ids=POLLED)
async def test_a_poll_that_is_answered_so_changes_nothing(
    first: SimulatedOllama, second: SimulatedOllama, attack: Fault, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(first, second) as gateway:
        first.script("/api/tags", attack, times=None)
        await until(lambda: "backend first cannot be polled" in caplog.text)
        assert reason in caplog.text
        listed = [model["name"] for model in (await gateway.client.get("/api/tags")).json()["models"]]
        assert {"only-first:latest", "only-second:latest"} <= set(listed)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
        first.clear_script()
        first.models.add("later")
        await gateway.knows("later:latest")


async def test_entries_that_name_no_model_hide_no_other(first: SimulatedOllama, second: SimulatedOllama) -> None:
    entries: list[object] = [1, None, {"name": []}, {"name": "a\r\nX: evil"}, {"name": "x" * 5000}, {"name": "good"}]
    first.script("/api/tags", Status(200, json.dumps({"models": entries}).encode()), times=None)
    async with running_gateway(first, second) as gateway:
        listed = [model["name"] for model in (await gateway.client.get("/api/tags")).json()["models"]]
    assert sorted(listed) == ["good:latest", "llama3.2:latest", "only-second:latest"]
