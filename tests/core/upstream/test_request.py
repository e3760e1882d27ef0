"""What is sent for an httpx request, and what is not sent at all."""

from collections.abc import AsyncIterator

import httpx
import pytest

from herdgate.upstream.request import PIECE, encode, encode_fields


class Stream(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""


def test_the_head_is_what_the_request_says_in_its_order_and_case() -> None:
    request = httpx.Request(
        "POST",
        "http://backend:11434/a%2Fb//c?q=%20",
        headers=[("X-b", "1"), ("HOST", "other"), ("x-B", " 2 "), ("X-Empty", "")],
        content=b"hi",
    )
    encoded = encode(request)
    lines = encoded.head.split(b"\r\n")
    assert lines[0] == b"POST /a%2Fb//c?q=%20 HTTP/1.1"
    assert lines[1:] == [b"X-b: 1", b"HOST: other", b"x-B:  2 ", b"X-Empty: ", b"Content-Length: 2", b"", b""]
    assert (encoded.body, encoded.length, encoded.expects_body) == (b"hi", 2, True)


def test_the_answer_to_head_has_no_body() -> None:
    assert not encode(httpx.Request("HEAD", "http://backend/")).expects_body


def raw_request(
    *fields: tuple[bytes, bytes],
    method: str = "POST",
    stream: httpx.AsyncByteStream | httpx.SyncByteStream | None = None,
) -> httpx.Request:
    return httpx.Request(
        method, "http://backend/", headers=[(b"Host", b"backend"), *fields], stream=stream or httpx.ByteStream(b"")
    )


@pytest.mark.parametrize(
    "bad", [b"a\r\nb", b"a\r\nX-B: b", b"a\r\n", b"a\r\n\r\n", b"a\nb", b"a\rb", b"a\0b", b"a\x7fb"]
)
def test_a_value_that_would_end_its_line_is_not_sent_and_not_shown(bad: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError, match="the value of header 'X-Secret'") as caught:
        encode(raw_request((b"X-Fine", b"1"), (b"X-Secret", b"Bearer " + bad)))
    assert "Bearer" not in str(caught.value)


@pytest.mark.parametrize("bad", [b"a\r\nb", b"a\nb", b"a:b", b"a: b", b"a b", b"a\0", b"", b"\xe4", b" a", b"a\t"])
def test_a_name_that_is_no_token_is_not_sent(bad: bytes) -> None:
    with pytest.raises(httpx.LocalProtocolError, match="a header name"):
        encode(raw_request((bad, b"1")))


@pytest.mark.parametrize("bad", ["GET /x HTTP/1.1\r\nHost: evil\r\n\r\nGET", "GE T", "", "GÉT", "GET\0"])
def test_a_method_that_is_no_token_is_not_sent(bad: str) -> None:
    request = raw_request()
    request.method = bad
    with pytest.raises(httpx.LocalProtocolError, match="the method or the target"):
        encode(request)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Content-Length", b"3")],
        [(b"Content-Length", b"1")],
        [(b"Content-Length", b"2"), (b"content-length", b"2")],
        [(b"Content-Length", b"+2")],
        [(b"Content-Length", b"2 ")],
        [(b"Content-Length", b"")],
        [(b"Content-Length", b"2"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"identity")],
        [(b"Host", b"another"), (b"Content-Length", b"2")],
        [],
    ],
)
def test_a_body_that_is_not_framed_unambiguously_is_not_sent(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        encode(raw_request(*fields, stream=httpx.ByteStream(b"ok")))


def test_a_request_without_host_is_not_sent() -> None:
    request = raw_request()
    request.headers = httpx.Headers([(b"Accept", b"*/*")])
    with pytest.raises(httpx.LocalProtocolError, match="Host"):
        encode(request)


def test_a_stream_needs_framing() -> None:
    with pytest.raises(httpx.LocalProtocolError, match="Content-Length"):
        encode(raw_request(stream=Stream()))
    assert encode(raw_request((b"content-length", b"7"), stream=Stream())).length == 7
    assert encode(raw_request((b"transfer-encoding", b"chunked"), stream=Stream())).length is None


def test_a_request_without_body_needs_no_framing() -> None:
    assert encode(raw_request(method="GET")).length == 0


def test_a_body_that_only_reads_synchronously_is_a_mistake() -> None:
    class Sync(httpx.SyncByteStream):
        pass

    with pytest.raises(TypeError, match="AsyncByteStream"):
        encode(raw_request((b"content-length", b"0"), stream=Sync()))


def test_a_large_part_is_cut_into_pieces() -> None:
    data = bytes(range(256)) * (PIECE // 256) + b"rest"
    plain = encode(raw_request((b"content-length", b"%d" % len(data)), stream=httpx.ByteStream(data)))
    assert [len(piece) for piece in plain.frame(data)] == [PIECE, 4]
    assert b"".join(plain.frame(data)) == data
    chunks = encode(raw_request((b"transfer-encoding", b"chunked"), stream=httpx.ByteStream(data)))
    assert list(chunks.frame(data)) == [b"40000\r\n" + data[:PIECE] + b"\r\n", b"4\r\nrest\r\n"]
    assert list(chunks.frame(b"")) == []  # an empty chunk would be the last


def test_the_lines_of_some_fields() -> None:
    assert encode_fields([]) == b""
    assert encode_fields([(b"A", b"1"), (b"b", b"")]) == b"A: 1\r\nb: \r\n"
    with pytest.raises(httpx.LocalProtocolError, match="the value of header 'A'"):
        encode_fields([(b"A", b"1\r\nB: 2")])
    with pytest.raises(httpx.LocalProtocolError, match="a header name"):
        encode_fields([(b"A: b", b"1")])
