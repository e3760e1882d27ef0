import json
from dataclasses import replace

import pytest

from herdgate.errors import Reply, denial, dump, error_body, error_reply, in_band, message_of, unauthorized
from herdgate.surface import Endpoint, Family, find


def endpoint(path: str) -> Endpoint:
    found = find(path)
    assert found is not None
    return found


CHAT = endpoint("/api/chat")
COMPLETIONS = endpoint("/v1/chat/completions")
MESSAGES = endpoint("/v1/messages")
RESPONSES = endpoint("/v1/responses")


@pytest.mark.parametrize(
    ("family", "body"),
    [
        (Family.OLLAMA, b'{"error":"access to this model is not allowed"}'),
        (
            Family.OPENAI,
            b'{"error":{"message":"access to this model is not allowed","type":"permission_error","param":null,'
            b'"code":"model_not_allowed"}}',
        ),
        (
            Family.ANTHROPIC,
            b'{"type":"error","error":{"type":"permission_error","message":"access to this model is not allowed"},'
            b'"request_id":"r1"}',
        ),
    ],
)
def test_the_generic_403_is_these_very_bytes(family: Family, body: bytes) -> None:
    assert denial(family, request_id="r1") == Reply(403, {"content-type": "application/json"}, body)


@pytest.mark.parametrize(
    ("status", "openai", "code", "anthropic"),
    [
        (400, "invalid_request_error", None, "invalid_request_error"),
        (401, "authentication_error", "invalid_api_key", "authentication_error"),
        (403, "permission_error", "permission_denied", "permission_error"),
        (404, "not_found_error", None, "not_found_error"),
        (405, "invalid_request_error", None, "invalid_request_error"),
        (413, "invalid_request_error", None, "request_too_large"),
        (429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"),
        (500, "api_error", None, "api_error"),
        (502, "api_error", None, "api_error"),
        (503, "api_error", None, "overloaded_error"),
        (504, "api_error", None, "api_error"),
        (529, "api_error", None, "overloaded_error"),
    ],
)
def test_each_status_has_the_words_of_its_family(status: int, openai: str, code: str | None, anthropic: str) -> None:
    assert json.loads(error_body(Family.OLLAMA, status, "why", request_id="r")) == {"error": "why"}
    assert json.loads(error_body(Family.OPENAI, status, "why", request_id="r")) == {
        "error": {"message": "why", "type": openai, "param": None, "code": code}
    }
    assert json.loads(error_body(Family.ANTHROPIC, status, "why", request_id="r")) == {
        "type": "error",
        "error": {"type": anthropic, "message": "why"},
        "request_id": "r",
    }


@pytest.mark.parametrize("family", list(Family))
def test_a_401_asks_for_a_bearer_key(family: Family) -> None:
    reply = unauthorized(family, request_id="r")
    assert reply.status == 401
    assert reply.headers == {"content-type": "application/json", "www-authenticate": "Bearer"}


def test_an_error_carries_the_headers_it_is_given() -> None:
    reply = error_reply(Family.OLLAMA, 503, "busy", request_id="r", headers={"retry-after": "5"})
    assert reply.headers == {"content-type": "application/json", "retry-after": "5"}


def test_what_some_clients_take_for_a_line_end_is_escaped() -> None:
    text = "a\u0085b\u2028c\u2029d\ud800e"
    dumped = dump({"error": text})
    assert dumped.isascii()
    assert len(dumped.splitlines()) == 1
    assert json.loads(dumped) == {"error": text}


# replies that could not be sent


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, "text"),
        ({}, None),
        ({}, bytearray(b"x")),
        ({"x": "a\r\nset-cookie: b"}, b""),
        ({"x": "a\nb"}, b""),
        ({"x": "a\0"}, b""),
        ({"x\r\ny": "a"}, b""),
        ({"": "a"}, b""),
        ({"x y": "a"}, b""),
        ({"Content-Length": "3"}, b""),
        ({"transfer-encoding": "chunked"}, b""),
        ({"connection": "close"}, b""),
        ({"x-request-id": "forged"}, b""),
    ],
)
def test_whoever_makes_a_reply_that_cannot_be_sent_fails(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises((TypeError, ValueError)):
        Reply(403, headers, body)


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600])
def test_a_reply_has_a_final_status(status: int) -> None:
    with pytest.raises(ValueError, match=f"{status}"):
        Reply(status)


def test_header_names_end_up_in_lower_case() -> None:
    assert Reply(200, {"Content-Type": "text/plain"}).headers == {"content-type": "text/plain"}


# errors inside a stream


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (CHAT, b'{"error":"broke"}\n'),
        (
            COMPLETIONS,
            b'data: {"error":{"message":"broke","type":"api_error","param":null,"code":null}}\n\n',
        ),
        (
            MESSAGES,
            b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"broke"}}\n\n',
        ),
        (
            RESPONSES,
            b'event: error\ndata: {"type":"error","code":"server_error","message":"broke","param":null,'
            b'"sequence_number":0,"error":{"type":"server_error","code":"server_error","message":"broke","param":null}}'
            b"\n\n",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_broken_stream_ends_in_the_words_of_its_family(where: Endpoint, expected: bytes) -> None:
    assert in_band(where, "broke") == expected


@pytest.mark.parametrize(
    ("where", "tail", "closing"),
    [
        (CHAT, b"", b""),
        (CHAT, b'{"a":1}\n', b""),
        (CHAT, b'{"a":', b"\n"),
        (COMPLETIONS, b"data: {}\n\n", b""),
        (COMPLETIONS, b"data: {}\r\n\r\n", b""),
        (COMPLETIONS, b"data: {}\n", b"\n\n"),
        (COMPLETIONS, b"data: {", b"\n\n"),
        (MESSAGES, b"event: x\n", b"\n\n"),
    ],
)
def test_an_unfinished_event_is_closed_before_the_error(where: Endpoint, tail: bytes, closing: bytes) -> None:
    assert in_band(where, "broke", tail=tail) == closing + in_band(where, "broke")


def test_an_error_of_a_response_takes_the_next_number() -> None:
    tail = b'data: {"sequence_number":7}\n\nevent: x\ndata: {"type":"x","sequence_number": 41}\n\n'
    assert b'"sequence_number":42,' in in_band(RESPONSES, "broke", tail=tail)


def test_an_error_in_a_stream_never_looks_like_its_end() -> None:
    for where in (CHAT, COMPLETIONS, MESSAGES, replace(COMPLETIONS, name="completions")):
        assert b"[DONE]" not in in_band(where, "broke")
        assert b'"done":true' not in in_band(where, "broke")


# what a backend said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"out of memory"}', "out of memory"),
        (b'{"error":{"message":"bad option","type":"x"}}', "bad option"),
        (b'{"type":"error","error":{"type":"x","message":"overloaded"}}', "overloaded"),
        (b'{"StatusCode":429,"error":"slow down"}', "slow down"),
        (b'{"type":"error","code":"x","message":"flat","param":null}', "flat"),
        (b'{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"of the runner\\"}}"}', "of the runner"),
        (b'{"error":"{\\"error\\":\\"\\"}"}', '{"error":""}'),
        (b'{"error":"123"}', "123"),
        (b'\xef\xbb\xbf{"error":"with a mark"}', "with a mark"),
        (b'{"error":""}', None),
        (b'{"error":"  "}', None),
        (b'{"error":7}', None),
        (b'{"error":{"message":null}}', None),
        (b'{"message":"elsewhere"}', None),
        (b'["error"]', None),
        (b"<html>Bad Gateway</html>", None),
        (b"", None),
        (b'{"error":"\xff"}', None),
        (b"[" * 200_000, None),
    ],
)
def test_what_a_backend_said_is_found_in_every_shape(body: bytes, message: str | None) -> None:
    assert message_of(body) == message


def test_what_tells_of_the_inside_is_left_out() -> None:
    assert message_of(dump({"error": "open /root/.ollama/x: no such file"})) == "open … no such file"


def test_a_very_long_message_is_cut() -> None:
    message = message_of(dump({"error": "x" * 1_000_000}))
    assert message is not None
    assert len(message) == 2000
