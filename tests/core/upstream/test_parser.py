"""The response parser, fed with raw bytes."""

import itertools

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate.upstream.parser import DEFAULT_LIMITS, ResponseLimits, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def parser(expects_body: bool = True, limits: ResponseLimits = DEFAULT_LIMITS) -> ResponseParser:
    return ResponseParser(expects_body=expects_body, limits=limits)


def read(raw: bytes, *, expects_body: bool = True, step: int = 1 << 30) -> tuple[ResponseParser, bytes]:
    """Feed all of it, some bytes at a time."""
    reading = parser(expects_body)
    body = b"".join(reading.feed(raw[at : at + step]) for at in range(0, len(raw), step))
    return reading, body


WELL_FORMED = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "length zero": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "white space around the length": (OK + b"Content-Length: \t5 \r\n\r\nhello", b"hello"),
    "chunks": (CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "chunk extensions": (CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Trailer: a\r\nY: b\r\n\r\n", b"hello"),
    "Chunked": (OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "line ends in the chunk": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
    "empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", b""),
    "upgrade not taken": (OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "one interim": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
    "two interims": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100\r\n\r\n" + CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 30])
@pytest.mark.parametrize(("raw", "body"), WELL_FORMED.values(), ids=WELL_FORMED)
def test_a_well_formed_response_is_read_however_it_is_cut(raw: bytes, body: bytes, step: int) -> None:
    reading, got = read(raw, step=step)
    assert got == body
    assert reading.complete
    assert not reading.surplus
    assert reading.keep_alive
    reading.feed_eof()


MALFORMED = {
    "not HTTP": b"SSH-2.0-OpenSSH_9\r\n\r\n",
    "blank": b" HTTP/1.1 200 OK\r\n\r\n",
    "empty line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "two empty lines first": b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "line feed first": b"\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "ICE": b"ICE/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "small letters": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "two blanks": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "control character in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "DEL in the reason": b"HTTP/1.1 200 O\x7fK\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare line feed in the head": OK + b"A: 1\nContent-Length: 0\r\n\r\n",
    "bare line feed as the empty line": OK + b"Content-Length: 0\r\n\n",
    "bare CR in a value": OK + b"A: 1\rContent-Length: 0\r\n\r\n",
    "CR CR LF": OK + b"A: 1\r\r\nContent-Length: 0\r\n\r\n",
    "obs-fold": OK + b"A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
    "obs-fold with a tab": OK + b"A: 1\r\n\t2\r\nContent-Length: 0\r\n\r\n",
    "blank before the first field": OK + b" A: 1\r\nContent-Length: 0\r\n\r\n",
    "blank before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "blank in a name": OK + b"A B: 1\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": 1\r\nContent-Length: 0\r\n\r\n",
    "no colon": OK + b"A\r\nContent-Length: 0\r\n\r\n",
    "NUL in a name": OK + b"A\0: 1\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": OK + b"A: \0\r\nContent-Length: 0\r\n\r\n",
    "control character in a value": OK + b"A: \x0b\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "list of lengths": OK + b"Content-Length: 3, 3\r\n\r\nabc",
    "length +3": OK + b"Content-Length: +3\r\n\r\nabc",
    "length -3": OK + b"Content-Length: -3\r\n\r\nabc",
    "length 0x3": OK + b"Content-Length: 0x3\r\n\r\nabc",
    "length 1_0": OK + b"Content-Length: 1_0\r\n\r\nabcdefghij",
    "length empty": OK + b"Content-Length:\r\n\r\n",
    "length of 24 digits": OK + b"Content-Length: 999999999999999999999999\r\n\r\n",
    "length of 5000 zeros": OK + b"Content-Length: " + b"0" * 5000 + b"3\r\n\r\nabc",
    "gzip": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked;a=b": OK + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
    "transfer coding empty": OK + b"Transfer-Encoding:\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "interim in HTTP/1.0": b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "101 without upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "garbage behind an interim": b"HTTP/1.1 100 Continue\r\n\r\ngarbage",
    "empty line behind an interim": b"HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "chunk size 0x3": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size +3": CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
    "chunk size -3": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "chunk size g": CHUNKED + b"g\r\nabc\r\n0\r\n\r\n",
    "chunk size empty": CHUNKED + b"\r\nabc\r\n0\r\n\r\n",
    "chunk size too big": CHUNKED + b"fffffffffffffffff\r\nabc",
    "blank behind the chunk size": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "blank before the chunk size": CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n",
    "bare line feed behind the chunk size": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "bare CR behind the chunk size": CHUNKED + b"3\rabc\r\n0\r\n\r\n",
    "bare line feed behind the chunk": CHUNKED + b"3\r\nabc\n0\r\n\r\n",
    "chunk without line end": CHUNKED + b"3\r\nabc0\r\n\r\n",
    "other bytes for the line end behind the chunk": CHUNKED + b"3\r\nabcXY0\r\n\r\n",
    "another byte for LF behind the chunk": CHUNKED + b"3\r\nabc\rX0\r\n\r\n",
    "LF CR behind the chunk": CHUNKED + b"3\r\nabc\n\r0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "line feed in a chunk extension": CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "line feed in a quoted extension": CHUNKED + b'3;a="b\nc"\r\nabc\r\n0\r\n\r\n',
    "chunk extension without a name": CHUNKED + b"3;\r\nabc\r\n0\r\n\r\n",
    "blank in a chunk extension": CHUNKED + b"3; a=b\r\nabc\r\n0\r\n\r\n",
    "blank before a chunk extension": CHUNKED + b"3 ;a=b\r\nabc\r\n0\r\n\r\n",
    "open quotes in a chunk extension": CHUNKED + b'3;a="b\r\nabc\r\n0\r\n\r\n',
    "quotes in a chunk extension": CHUNKED + b'3;a="b"c\r\nabc\r\n0\r\n\r\n',
    "NUL in a chunk extension": CHUNKED + b"3;a=\0\r\nabc\r\n0\r\n\r\n",
    "malformed trailer": CHUNKED + b"0\r\nA : 1\r\n\r\n",
    "folded trailer": CHUNKED + b"0\r\nA: 1\r\n 2\r\n\r\n",
    "length as a trailer": CHUNKED + b"0\r\nContent-Length: 3\r\n\r\n",
    "transfer coding as a trailer": CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("step", [1, 5, 1 << 30])
@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_response_is_refused_however_it_is_cut(raw: bytes, step: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        read(raw, step=step)


@pytest.mark.parametrize("raw", [b"X", b"\r", b"HTTQ", b"HTTP/1.1 200 OK\r\nA: \0", b"HTTP/1.1 2x"])
def test_garbage_is_refused_at_once_and_not_when_the_head_is_complete(raw: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        parser().feed(raw)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"Connection: Close\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"Connection: keep-alive, x,  close ,y\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"Connection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"Connection: closed\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_the_backend_decides_whether_the_connection_is_kept(raw: bytes, kept: bool) -> None:
    reading, _ = read(raw)
    assert reading.complete
    assert reading.keep_alive is kept


@pytest.mark.parametrize("step", [1, 3, 1 << 30])
@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 2\r\n\r\nok",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nok\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
@pytest.mark.parametrize("more", [b"\n", b"\r\n", b"\r\n\r\n", b"X", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"])
def test_bytes_behind_the_end_are_noticed_and_do_not_spoil_the_response(raw: bytes, more: bytes, step: int) -> None:
    reading, body = read(raw + more, step=step)
    assert reading.complete
    assert reading.surplus
    assert body == read(raw)[1]


def test_bytes_behind_the_answer_to_head_are_noticed() -> None:
    reading, body = read(OK + b"Content-Length: 2\r\n\r\nok", expects_body=False)
    assert (reading.complete, reading.surplus, body) == (True, True, b"")


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_the_answer_to_head_ends_with_its_head(framing: bytes) -> None:
    reading, body = read(OK + framing + b"\r\n", expects_body=False)
    assert (reading.complete, reading.surplus, reading.keep_alive, body) == (True, False, True, b"")


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_a_body_without_a_declared_end_lasts_until_the_connection_closes(version: bytes) -> None:
    reading, body = read(version + b" 200 OK\r\nConnection: keep-alive\r\n\r\nhello\r\n\r\nHTTP/1.1 200 OK", step=4)
    assert body == b"hello\r\n\r\nHTTP/1.1 200 OK"
    assert not reading.complete
    reading.feed_eof()
    assert reading.complete
    assert not reading.keep_alive


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Server disconnected without sending a response"),
        (b"HTT", "in the middle of the response head"),
        (OK + b"Content-Le", "in the middle of the response head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "in the middle of the response head"),
        (OK + b"Content-Length: 5\r\n\r\nhel", "after 3 of 5 bytes"),
        (CHUNKED, "before the last chunk"),
        (CHUNKED + b"3\r\nabc\r\n", "before the last chunk"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", "before the last chunk"),
        (CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\n", "before the last chunk"),
    ],
)
def test_an_early_end_is_an_error(raw: bytes, message: str) -> None:
    reading, _ = read(raw)
    with pytest.raises(httpx.RemoteProtocolError, match=message):
        reading.feed_eof()


def test_the_head_keeps_what_the_backend_wrote() -> None:
    reading, _ = read(b"HTTP/1.1 299 Fast G\xfcnstig\r\nX-A: 1 \r\nx-a:\t2\r\nX-Empty:\r\nX-L: \xff\r\n\r\n")
    assert reading.head is not None
    assert (reading.head.version, reading.head.status, reading.head.reason) == ("1.1", 299, "Fast G\xfcnstig")
    assert reading.head.raw == [(b"X-A", b"1"), (b"x-a", b"2"), (b"X-Empty", b""), (b"X-L", b"\xff")]
    assert reading.head.headers == {"x-a": "1", "x-empty": "", "x-l": "\xff"}


def test_fields_of_interim_responses_and_trailers_are_not_mixed_into_the_head() -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + CHUNKED + b"0\r\nX-Trailer: b\r\n\r\n"
    reading, _ = read(raw)
    assert reading.head is not None
    assert reading.head.raw == [(b"Transfer-Encoding", b"chunked")]


@pytest.mark.parametrize("step", [1000, 1 << 30])
def test_a_head_that_is_too_large_is_refused_before_it_ends(step: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="larger than 65536"):
        read(OK + b"A: " + b"x" * 70_000, step=step)
    with pytest.raises(httpx.RemoteProtocolError, match="larger than 65536"):
        read(OK + b"A: " + b"x" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n", step=step)


def test_a_head_of_exactly_the_limit_passes() -> None:
    empty = OK + b"Content-Length: 0\r\nA: \r\n\r\n"
    limits = ResponseLimits(head_bytes=1000)
    fits = OK + b"Content-Length: 0\r\nA: " + b"x" * (1000 - len(empty)) + b"\r\n\r\n"
    reading = parser(limits=limits)
    reading.feed(fits)
    assert reading.complete
    with pytest.raises(httpx.RemoteProtocolError, match="larger than 1000"):
        parser(limits=limits).feed(fits.replace(b"A: ", b"A: x"))


def test_the_limit_counts_the_head_and_not_the_body_behind_it() -> None:
    reading, body = read(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)
    assert reading.complete
    assert len(body) == 100_000


def test_too_many_fields_are_refused() -> None:
    fits = OK + b"A: b\r\n" * 127 + b"Content-Length: 0\r\n\r\n"
    assert read(fits)[0].complete
    with pytest.raises(httpx.RemoteProtocolError, match="more than 128 fields"):
        read(fits.replace(b"A: b\r\n", b"A: b\r\nA: c\r\n", 1))


@pytest.mark.parametrize("step", [1, 1 << 30])
def test_interim_responses_without_end_are_refused(step: int) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    final = OK + b"Content-Length: 0\r\n\r\n"
    assert read(interim * 8 + final, step=step)[0].complete
    with pytest.raises(httpx.RemoteProtocolError, match="more than 8 interim"):
        read(interim * 9, step=step)


@pytest.mark.parametrize(
    "endless",
    [
        b"3;" + b"x" * 100_000,
        b"0" * 100_000,
        b"0\r\nA: " + b"x" * 100_000,
        b"0\r\n" + b"A: b\r\n" * 20_000,
        (b"1;" + b"x" * 1000 + b"\r\ny\r\n") * 200,
    ],
    ids=["extension", "zeros", "trailer", "trailers", "extensions of many chunks"],
)
def test_chunk_framing_without_end_is_refused(endless: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without end"):
        read(CHUNKED + endless, step=5000)


def test_the_smallest_chunks_are_no_attack() -> None:
    reading, body = read(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", step=5000)
    assert reading.complete
    assert body == b"x" * 100_000


@pytest.mark.parametrize("before", [b"1", b"f\r", b"f\r\n", b"f\r\nab", b"0\r\n", b"0\r\nA: b\r\n"])
def test_what_looks_like_a_chunk_is_none_where_none_can_begin(before: bytes) -> None:
    """A read of the socket that is one whole chunk goes a shorter way; this one is none."""
    read_apart, read_whole = parser(), parser()
    pieces = [CHUNKED, before, b"5\r\nhello\r\n"]
    outcomes = []
    for reading, fed in ((read_apart, pieces), (read_whole, [b"".join(pieces)])):
        try:
            outcomes.append(b"".join([reading.feed(piece) for piece in fed]))
        except httpx.RemoteProtocolError:
            outcomes.append(b"refused")
    assert outcomes[0] == outcomes[1] != b"hello"


def chunked(chunks: list[bytes]) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    places=st.lists(st.integers(min_value=0, max_value=1000), max_size=12),
    more=st.sampled_from([b"", b"\r\n", b"\r\n\r\n\r\n", b"x"]),
)
def test_any_cut_of_any_chunked_body_reads_the_same(chunks: list[bytes], places: list[int], more: bytes) -> None:
    reading = parser()
    body = b"".join([reading.feed(piece) for piece in cut(chunked(chunks) + more, places)])
    assert body == b"".join(chunks)
    assert (reading.complete, reading.surplus) == (True, bool(more))


@given(raw=st.binary(max_size=200), places=st.lists(st.integers(min_value=0, max_value=1000), max_size=5))
def test_no_bytes_whatever_raise_anything_but_a_protocol_error(raw: bytes, places: list[int]) -> None:
    for start in (b"", OK, CHUNKED):
        reading = parser()
        try:
            for piece in cut(start + raw, places):
                reading.feed(piece)
            reading.feed_eof()
        except httpx.RemoteProtocolError:
            continue
        assert reading.complete
