"""The front door: paths and methods, connections of all kinds, and what is known of a request."""

from __future__ import annotations

import json
import logging

import pytest
from tests.stories.conftest import CHAT, MODEL, OPENAI_CHAT, Chat
from tests.stories.doors import ASK, BODY, forwarded, message_of
from tests.stories.raw import Connection, Raw, connected, request

from herdgate.testing.faults import RawReply
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("POST", "/api/web_search", 404, None),
        ("GET", "/v1/files", 404, None),
        ("POST", "/v1/images/generations", 404, None),
        ("GET", "/v1/models/", 404, None),
        ("POST", "/api/chat/", 404, None),
        ("POST", "//api/chat", 404, None),
        ("POST", "/api/../api/chat", 404, None),
        ("POST", "/api/%63hat", 404, None),
        ("POST", "/API/CHAT", 404, None),
        ("POST", "/api/chat;x=1", 404, None),
        ("GET", "/api/chat", 405, "OPTIONS, POST"),
        ("PUT", "/api/pull", 405, "OPTIONS, POST"),
        ("POST", "/api/tags", 405, "GET, HEAD, OPTIONS"),
        ("HEAD", "/api/ps", 405, "GET, OPTIONS"),
        ("GET", "/api/delete", 405, "DELETE, OPTIONS"),
        ("GET", "/v1/chat/completions", 405, "OPTIONS, POST"),
        ("DELETE", "/v1/models/llama3.2", 405, "GET, OPTIONS"),
        ("GET", "/v1/messages", 405, "OPTIONS, POST"),
        ("BREW", "/api/chat", 405, "OPTIONS, POST"),
        ("TRACE", "/api/chat", 405, "OPTIONS, POST"),
        ("POST", "/", 405, "GET, HEAD, OPTIONS"),
        ("get", "/api/tags", 405, "GET, HEAD, OPTIONS"),
    ],
)
async def test_unknown_paths_and_wrong_methods_get_json_and_go_nowhere(
    gateway: RunningGateway, first: SimulatedOllama, method: str, path: str, status: int, allow: str | None
) -> None:
    async with connected(gateway) as connection:
        for body in (None, BODY):
            reply = await connection.ask(method, path, body)
            assert (reply.status, reply.header("allow"), reply.header("connection")) == (status, allow, "keep-alive")
            if method == "HEAD":
                assert int(reply.header("content-length") or 0) > 0
            else:
                assert message_of(reply, path) == {404: "not found", 405: "method not allowed"}[status]
    assert forwarded(first) == []


async def test_a_query_goes_no_further(gateway: RunningGateway, first: SimulatedOllama) -> None:
    async with connected(gateway) as connection:
        assert (await connection.ask("POST", f"{CHAT}?ts=123&model=other", BODY)).status == 200
    (received,) = [each for each in first.requests if each.path == CHAT]
    assert received.head.target == CHAT


# connections


@pytest.mark.parametrize("family", [CHAT, OPENAI_CHAT])
async def test_old_clients_get_a_stream_that_ends_with_its_connection(gateway: RunningGateway, family: str) -> None:
    chat = Chat(family, stream=True)
    asked = request("POST", family, chat.body()).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connected(gateway) as connection:
        connection.send(asked)
        reply = await connection.reply()
    assert (reply.status, reply.header("connection"), reply.header("transfer-encoding")) == (200, "close", None)
    whole = await chat.ask(gateway)
    assert [event.keys() for event in chat.events_of(reply.body.decode())] == [
        event.keys() for event in chat.events_of(whole.text)
    ]
    assert whole.headers["transfer-encoding"] == "chunked"


async def test_old_clients_see_that_a_reply_is_not_complete(gateway: RunningGateway, first: SimulatedOllama) -> None:
    """The end of the connection would be the proper end of the body."""
    large = json.dumps({"message": {"role": "assistant", "content": "x" * 9_000_000}, "done": True}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20000000\r\n\r\n"
    first.script(CHAT, RawReply(head + large))
    asked = request("POST", CHAT, BODY).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connected(gateway) as connection:
        connection.send(asked)
        with pytest.raises(ConnectionResetError):
            await connection.reply()


@pytest.mark.parametrize(
    ("version", "said", "stays"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive", True),
    ],
)
async def test_the_connection_stays_open_as_its_caller_wants(
    gateway: RunningGateway, version: str, said: str | None, stays: bool
) -> None:
    headers = {} if said is None else {"Connection": said}
    sent = request("POST", CHAT, BODY, headers).replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    async with connected(gateway) as connection:
        connection.send(sent)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (200, "keep-alive" if stays else "close")
        assert reply.header("content-length") is not None
        if stays:
            connection.send(sent)
            assert (await connection.reply()).status == 200
        else:
            assert await connection.rest() == b""


async def test_requests_may_be_sent_ahead(gateway: RunningGateway, first: SimulatedOllama) -> None:
    """Answered one after the other, in order, whatever becomes of each."""
    stream = Chat(CHAT, stream=True)
    async with connected(gateway) as connection:
        connection.send(
            request("GET", "/api/version")
            + request("POST", CHAT, ASK.body(say="one"))
            + request("POST", CHAT, b"no JSON")
            + request("HEAD", "/api/tags")
            + request("POST", CHAT, stream.body(say="two"))
            + request("POST", "/api/pull", b"x" * 5000)
            + request("GET", "/nothing", BODY)
            + request("POST", CHAT, ASK.body(say="three"))
        )
        replies = [await connection.reply(bodiless=number == 3) for number in range(8)]
    assert [reply.status for reply in replies] == [200, 200, 400, 200, 200, 403, 404, 200]
    said = [json.loads(replies[number].body)["message"]["content"] for number in (1, 7)]
    assert [text.rsplit(": ", 1)[1] for text in said] == ["one", "three"]
    events = stream.events_of(replies[4].body.decode())
    assert events[-1]["done"] is True
    assert forwarded(first) == [CHAT] * 3


async def waits_for_leave(connection: Connection, path: str, length: int) -> Raw:
    connection.send(request("POST", path, headers={"Content-Length": str(length), "Expect": "100-continue"}))
    return await connection.reply()


async def test_a_caller_that_asks_before_it_sends_is_told_to_go_on(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    async with connected(gateway) as connection:
        assert (await waits_for_leave(connection, CHAT, len(BODY))).head == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(BODY)
        reply = await connection.reply()
        assert (reply.status, reply.header("connection")) == (200, "keep-alive")
        assert (await connection.ask("POST", CHAT, BODY)).status == 200
    assert forwarded(first) == [CHAT] * 2


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/api/pull", 50, 403), ("/nothing", 50, 404), ("/api/tags", 50, 405), (CHAT, 100 * 1024**2 + 1, 413)],
)
async def test_a_caller_that_asks_before_it_sends_is_refused_without_sending(
    gateway: RunningGateway,
    first: SimulatedOllama,
    path: str,
    length: int,
    status: int,
) -> None:
    async with connected(gateway) as connection:
        reply = await waits_for_leave(connection, path, length)
        # closed: nobody could tell whether what comes next is the body or another request
        assert (reply.status, reply.header("connection")) == (status, "close")
        connection.send(request("GET", "/api/tags"))
        assert await connection.rest() == b""
    assert forwarded(first) == []


async def test_no_other_expectation_can_be_met(gateway: RunningGateway) -> None:
    async with connected(gateway) as connection:
        reply = await connection.ask("POST", OPENAI_CHAT, BODY, {"Expect": "tea"})
        assert (reply.status, message_of(reply, OPENAI_CHAT)) == (417, "expectation cannot be met")


# what is known of a request

KEPT = ["a", "A-b_c.9", "x" * 64]
MADE_ANEW = ["", "x" * 65, "with space", "semi;colon", "ünï", "{}", "a/b"]


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models/no-such-model", "/nothing", "/"])
async def test_a_harmless_request_id_is_kept_and_any_other_replaced(gateway: RunningGateway, path: str) -> None:
    async with connected(gateway) as connection:
        for given in KEPT:
            assert (await connection.ask("GET", path, headers={"X-Request-Id": given})).header("x-request-id") == given
        strange = ({}, *({"X-Request-Id": given} for given in MADE_ANEW))
        made = [(await connection.ask("GET", path, headers=headers)).header("x-request-id") for headers in strange]
    assert len(set(made)) == len(made)
    assert all(identity and identity.isalnum() and len(identity) <= 64 for identity in made)
    assert not set(made) & set(MADE_ANEW)


FORWARDED_FOR = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}


@pytest.mark.parametrize(
    ("trusted", "client"), [([], "127.0.0.1"), (["10.0.0.0/8"], "127.0.0.1"), (["127.0.0.0/8"], "198.51.100.7")]
)
async def test_only_a_trusted_proxy_is_believed_about_who_calls(
    first: SimulatedOllama, caplog: pytest.LogCaptureFixture, trusted: list[str], client: str
) -> None:
    caplog.set_level(logging.INFO, "herdgate.access")
    async with running_gateway(first, toml=f"[server]\ntrusted_proxies = {json.dumps(trusted)}\n") as gateway:
        await ASK.ask(gateway, **FORWARDED_FOR)
        await until(lambda: any(record.name == "herdgate.access" for record in caplog.records))
    (line,) = [record for record in caplog.records if record.name == "herdgate.access"]
    assert vars(line)["client"] == client
    (received,) = [each for each in first.requests if each.path == CHAT]
    assert received.values("x-forwarded-for") == ()


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/version", "/healthz", "/readyz"])
async def test_head_is_get_without_its_body(gateway: RunningGateway, path: str) -> None:
    async with connected(gateway) as connection:
        got = await connection.ask("GET", path)
        head = await connection.ask("HEAD", path)
    assert got.status == 200
    assert len(got.body) > 0
    assert head.undated == Raw(got.head, b"").undated


async def test_the_model_is_answered_as_it_was_asked_for(gateway: RunningGateway) -> None:
    for name in (MODEL, MODEL.upper(), f"{MODEL}:latest", f"library/{MODEL}", f" {MODEL} "):
        response = await gateway.client.post(CHAT, json=ASK.body(name))
        assert (response.status_code, response.json()["model"]) == (200, name)
