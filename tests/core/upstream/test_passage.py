from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate.upstream.chunks import ChunkReader
from herdgate.upstream.parser import DEFAULT_LIMITS, ResponseParser
from herdgate.upstream.passage import Passage

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def passage(reader: ChunkReader | None = None) -> tuple[Passage, list[bytes], list[bytes]]:
    written: list[bytes] = []
    noted: list[bytes] = []
    return Passage(reader or ChunkReader(1024), written.append, noted.append), written, noted


@pytest.mark.parametrize("content", [b"hello", b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"x" * 1023])
def test_one_chunk_goes_on_as_it_came(content: bytes) -> None:
    chunk = b"%x\r\n%b\r\n" % (len(content), content)
    short, written, noted = passage()
    assert short.take(chunk)
    assert written == [chunk]
    assert noted == [content]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"5",
        b"5\r\n",
        b"5\r\nhel",
        b"5\r\nhello",
        b"5\r\nhello\r",
        b"5\r\nhello\n\n",
        b"5\r\nhello\r\n5\r\nhello\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"3\r\nhello\r\n",
        b"9\r\nhello\r\n",
        b"0\r\n\r\n",
        b"05\r\nhello\r\n",
        b"5;a=b\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"\r\nhello\r\n",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    short, written, noted = passage()
    assert not short.take(data)
    assert (written, noted) == ([], [])


@pytest.mark.parametrize("begun", [b"5", b"c\r\n", b"0\r\n", b"c\r\n5\r\nhello\r\n"])
def test_what_looks_like_a_chunk_inside_of_another_is_none(begun: bytes) -> None:
    reader = ChunkReader(1024)
    reader.feed(begun)
    short, written, _ = passage(reader)
    assert not short.take(b"5\r\nhello\r\n")
    assert not written


_contents = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"x" * 1023, b"x" * 1024]),
)
_lines = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;a=b"])


@given(contents=st.lists(_contents, min_size=1, max_size=8), data=st.data())
def test_however_a_body_is_cut_both_ways_together_give_all_of_it(contents: list[bytes], data: st.DataObject) -> None:
    chunks = [b"%b\r\n%b\r\n" % (data.draw(_lines) % len(content), content) for content in contents]
    raw = b"".join([*chunks, b"0\r\n\r\n"])
    ends = list(itertools.accumulate(map(len, chunks)))
    cuts = sorted({0, len(raw), *data.draw(st.lists(st.sampled_from(ends) | st.integers(0, len(raw))))})
    parser = ResponseParser(limits=DEFAULT_LIMITS)
    parser.feed(HEAD)
    reader = parser.chunk_reader
    assert reader is not None
    short, written, noted = passage(reader)
    for start, end in itertools.pairwise(cuts):
        if not short.take(raw[start:end]) and (body := parser.feed(raw[start:end])):
            written.append(b"%x\r\n%b\r\n" % (len(body), body))
            noted.append(body)
    assert parser.complete
    assert not parser.surplus
    assert b"".join(noted) == b"".join(contents)
    assert ChunkReader(1024).feed(b"".join([*written, b"0\r\n\r\n"])) == b"".join(contents)
