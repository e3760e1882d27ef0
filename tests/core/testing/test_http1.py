"""What the simulated backend accepts as HTTP/1.1: nothing that two readers could understand differently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate.testing.simulation.http1 import ChunkedBody, Malformed, parse_head


def test_a_head_is_kept_as_it_was_sent() -> None:
    head = parse_head(b"POST /api/ch%61t?x=1 HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-one:  zwei \r\nContent-Length: 5")
    assert head.path == "/api/chat"
    assert head.target == "/api/ch%61t?x=1"
    assert head.headers == (("Host", "a"), ("X-One", "1"), ("x-one", "zwei"), ("Content-Length", "5"))
    assert head.values("x-one") == ("1", "zwei")
    assert head.length == 5


@pytest.mark.parametrize(
    "lines",
    [
        b"GET  / HTTP/1.1\r\nHost: a",
        b"GET / HTTP/2.0\r\nHost: a",
        b"GET /a b HTTP/1.1\r\nHost: a",
        b"GET /\xe4 HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost : a",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded: b",
        b"GET / HTTP/1.1\r\nHost: a\nX: b",
        b"GET / HTTP/1.1\r\nHost: a\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked",
    ],
)
def test_a_doubtful_head_is_refused(lines: bytes) -> None:
    with pytest.raises(Malformed):
        parse_head(lines)


@pytest.mark.parametrize(
    ("connection", "version", "kept"),
    [
        ("", "1.1", True),
        ("close", "1.1", False),
        ("x, Close", "1.1", False),
        ("", "1.0", False),
        ("keep-alive", "1.0", True),
    ],
)
def test_whether_a_connection_is_kept(connection: str, version: str, kept: bool) -> None:
    lines = f"GET / HTTP/{version}\r\nHost: a" + (f"\r\nConnection: {connection}" if connection else "")
    assert parse_head(lines.encode()).keeps_alive is kept


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_a_chunked_body_is_the_same_however_it_arrives(chunks: list[bytes], data: st.DataObject) -> None:
    wire = (
        b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        + b"0\r\nX-Trailer: 1\r\n\r\n"
        + b"GET /next"
    )
    body, buffer = ChunkedBody(), bytearray()
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        buffer += wire[:cut]
        wire = wire[cut:]
        body.feed(buffer)
    assert body.done
    assert bytes(body.body) == b"".join(chunks)
    assert bytes(buffer) == b"GET /next"


@pytest.mark.parametrize(
    "wire", [b"0x3\r\nabc\r\n", b"3\r\nabcX\r\n", b"-1\r\n", b"\r\n", b"3 3\r\n", b"0\r\nbad trailer\r\n"]
)
def test_a_doubtful_chunk_is_refused(wire: bytes) -> None:
    with pytest.raises(Malformed):
        ChunkedBody().feed(bytearray(wire))
