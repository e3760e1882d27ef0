from __future__ import annotations

import pytest

from herdgate.front.head import MAX_FIELDS, Refused, RequestHead, read_head

HOST = "Host: gateway\r\n"


def head(*fields: str, line: str = "POST /api/chat HTTP/1.1") -> RequestHead:
    return read_head("".join(f"{each}\r\n" for each in (line, "Host: gateway", *fields)))


def refused(text: str) -> Refused:
    with pytest.raises(Refused) as raised:
        read_head(text)
    return raised.value


def test_a_head_is_method_target_and_headers() -> None:
    read = head("Content-Type: application/json", "X-Empty:", "X-Wide:  \t a  b \t", line="POST /api/chat?x=1 HTTP/1.1")
    assert (read.method, read.target, read.path, read.modern) == ("POST", "/api/chat?x=1", "/api/chat", True)
    assert read.headers == {"host": "gateway", "content-type": "application/json", "x-empty": "", "x-wide": "a  b"}
    assert (read.length, read.keep_alive, read.waits) == (0, True, False)


def test_the_body_is_counted_or_comes_in_chunks() -> None:
    assert head("Content-Length: 12").length == 12
    assert head("content-LENGTH:12").length == 12
    assert head("Content-Length: 0").length == 0
    assert head("Transfer-Encoding: Chunked").length is None


@pytest.mark.parametrize(
    ("version", "said", "stays"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "TE, Close", False),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_a_connection_stays_as_version_and_options_say(version: str, said: str | None, stays: bool) -> None:
    fields = [] if said is None else [f"Connection: {said}"]
    assert head(*fields, line=f"GET / HTTP/{version}").keep_alive is stays


def test_a_caller_waits_only_for_what_it_has_to_send() -> None:
    assert head("Expect: 100-Continue", "Content-Length: 5").waits
    assert head("Expect: 100-continue", "Transfer-Encoding: chunked").waits
    assert not head("Expect: 100-continue", "Content-Length: 0").waits
    assert not head("Expect: 100-continue", "Content-Length: 5", line="POST / HTTP/1.0").waits
    assert refused("POST /v1/x HTTP/1.1\r\n" + HOST + "Content-Length: 1\r\nExpect: tea\r\n").status == 417


def test_headers_of_one_name_are_one_list() -> None:
    assert head("X-Forwarded-For: a", "x-forwarded-for: b").headers["x-forwarded-for"] == "a, b"


@pytest.mark.parametrize("name", ["Host", "Content-Length", "Transfer-Encoding", "Authorization", "X-Api-Key"])
def test_what_there_can_be_only_once_is_refused_twice(name: str) -> None:
    once = "" if name == "Host" else f"{name}: 5\r\n"
    problem = refused(f"POST /v1/models HTTP/1.1\r\n{HOST}{once}{name.lower()}: 5\r\n")
    assert (problem.status, problem.path) == (400, "/v1/models")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n",
        "GET /\r\n",
        "GET / HTTP/1.2\r\n" + HOST,
        "GET / HTTP/1.1 \r\n" + HOST,
        " GET / HTTP/1.1\r\n" + HOST,
        "GET  / HTTP/1.1\r\n" + HOST,
        "GET x HTTP/1.1\r\n" + HOST,
        "GET /\u00e4 HTTP/1.1\r\n" + HOST,
        "GET ftp://gateway/ HTTP/1.1\r\n" + HOST,
        "GET http:/// HTTP/1.1\r\n" + HOST,
        "CONNECT gateway:80 HTTP/1.1\r\n" + HOST,
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "nonsense\r\n",
        "GET / HTTP/1.1\r\n" + HOST + ": x\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X : x\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X Y: x\r\n",
        "GET / HTTP/1.1\r\n" + HOST + " X: x\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: a\r\n b\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: a\nY: b\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: a\rb\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: a\r\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: a\0b\r\n",
        "GET / HTTP/1.1\r\n" + HOST + "X: a\x7fb\r\n",
        "GET / HTTP/1.1\n" + HOST,
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: +5\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 5, 5\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: \u0665\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length:\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: " + "9" * 19 + "\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: gzip, chunked\r\n",
        "POST / HTTP/1.1\r\n" + HOST + "Transfer-Encoding: \x0bchunked\r\n",
        "POST / HTTP/1.0\r\n" + HOST + "Transfer-Encoding: chunked\r\n",
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(text: str) -> None:
    assert refused(text).status == 400


@pytest.mark.parametrize(
    ("target", "host", "path", "rest"),
    [
        ("http://gateway:80/api/tags?a=/b", "gateway:80", "/api/tags", "/api/tags?a=/b"),
        ("https://[::1]:80/", "[::1]:80", "/", "/"),
        ("http://gateway", "gateway", "/", "/"),
        ("http://gateway?a", "gateway", "/", "/?a"),
        ("http://gateway//x", "gateway", "//x", "//x"),
    ],
)
def test_a_target_that_names_its_host_overrules_the_header(target: str, host: str, path: str, rest: str) -> None:
    read = head(line=f"GET {target} HTTP/1.1")
    assert (read.headers["host"], read.path, read.target) == (host, path, rest)


def test_a_head_has_a_limited_number_of_headers() -> None:
    fields = [f"X-{number}: x" for number in range(MAX_FIELDS - 1)]
    assert len(head(*fields).headers) == MAX_FIELDS
    with pytest.raises(Refused) as raised:
        head(*fields, "X-Last: x")
    assert raised.value.status == 431
