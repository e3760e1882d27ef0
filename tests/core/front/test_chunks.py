from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate.front.chunks import BadChunks, ChunkReader, TinyChunks


def read(*parts: bytes) -> tuple[bytes, bytes, bool]:
    reader = ChunkReader()
    body, surplus = b"", b""
    for part in parts:
        piece, behind = reader.feed(part)
        body += piece
        surplus += behind
    return body, surplus, reader.complete


def test_a_body_is_the_data_of_its_chunks() -> None:
    assert read(b"5\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n0\r\n\r\n") == (b"hello world", b"", True)


def test_what_lies_behind_the_end_is_not_touched() -> None:
    assert read(b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n") == (b"a", b"GET / HTTP/1.1\r\n", True)


def test_extensions_and_trailers_are_dropped() -> None:
    assert read(b'1;a="b" ;c\r\nx\r\n0 ;last\r\nX-Sum: 1\r\nDate: now\r\n\r\n') == (b"x", b"", True)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.data())
def test_it_does_not_matter_where_the_network_cuts(chunks: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\nrest"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    parts = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert read(*parts) == (b"".join(chunks), b"rest", True)
    assert read(*(bytes([byte]) for byte in sent)) == (b"".join(chunks), b"rest", True)


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n",
        b"zz\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"0x3\r\n",
        b" 3\r\n",
        b"3 \r\n",
        b"3\n",
        b"3\rx\r\n",
        b"3;a\rb\r\n",
        b"3;a\0\r\n",
        b"1" * 16 + b"\r\n",
        b"3\r\nabcXX",
        b"3\r\nabcX",
        b"3\r\nabc\n",
        b"3\r\nabcd\r\n",
        b"0\r\nX Y: x\r\n",
        b"0\r\n: x\r\n",
        b"0\r\nX: x\n",
        b"0\r\n X: x\r\n",
        b"0\r\n" + b"X: x\r\n" * 17,
        b"3;" + b"x" * 1100,
        b"1" * 1100,
    ],
)
def test_what_another_reader_could_cut_differently_is_refused(sent: bytes) -> None:
    with pytest.raises(BadChunks):
        read(sent)
    with pytest.raises(BadChunks):
        read(*(bytes([byte]) for byte in sent))


def test_a_chunk_is_known_before_it_comes() -> None:
    reader = ChunkReader()
    reader.feed(b"ffff\r\nabc")
    assert (reader.announced, reader.complete) == (0xFFFF - 3, False)


def chunked(body: bytes, size: int, extension: bytes = b"") -> bytes:
    """The body in chunks of this size, without the last one."""
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)


def read_before_refused(sent: bytes) -> int | None:
    """Bytes that are read of this until it is refused; None if it is not."""
    reader = ChunkReader()
    for at in range(0, len(sent), 4096):
        try:
            reader.feed(sent[at : at + 4096])
        except TinyChunks:
            return at
    return None


@pytest.mark.parametrize(("size", "extension"), [(1, b""), (2, b""), (16, b""), (1, b";" + b"a" * 900)])
def test_a_body_that_is_nearly_all_framing_is_refused_before_it_has_taken_much_time(
    size: int, extension: bytes
) -> None:
    taken = read_before_refused(chunked(b"x" * size * 20_000, size, extension))
    assert taken is not None
    assert taken < 400_000


@pytest.mark.parametrize(("length", "size"), [(8000, 1), (8_000_000, 128), (8_000_000, 4096)])
def test_a_small_body_may_come_piece_by_piece_and_a_large_one_in_chunks_that_are_no_more_than_small(
    length: int, size: int
) -> None:
    body = b"x" * length
    assert ChunkReader().feed(chunked(body, size) + b"0\r\n\r\n") == (body, b"")


def test_body_excuses_no_framing_that_comes_later() -> None:
    reader = ChunkReader()
    reader.feed(chunked(b"x" * 8_000_000, 1_000_000))
    with pytest.raises(TinyChunks):
        reader.feed(chunked(b"x" * 20_000, 1))
