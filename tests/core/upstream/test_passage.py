from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate.outbox import Outbox
from herdgate.upstream.chunks import ChunkReader
from herdgate.upstream.parser import DEFAULT_LIMITS, ResponseParser
from herdgate.upstream.passage import Passage

from .conftest import Caller

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Connection:
    """Takes what a passage leaves to it."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self.loop = SimpleNamespace(time=lambda: 7.0)
        self.silence = SimpleNamespace(since=0.0)
        self.heard: list[object] = []
        self._take = take

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)
        self._take(data)

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(exc)

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")


class Case:
    """A passage and all that is around it. `parse` is what the connection does with the bytes it gets."""

    def __init__(self, reader: ChunkReader | None = None, parse: Callable[[bytes], object] | None = None) -> None:
        reader = reader or ChunkReader(1024)
        self.connection = Connection(parse or (lambda _: None))
        self.outbox = Outbox()
        self.caller = Caller()
        self.noted: list[bytes] = []
        connection = cast(Any, self.connection)
        self.passage = Passage(connection, reader, (self.outbox, self.caller), self.noted.append)

    def take(self, data: bytes) -> None:
        self.passage.data_received(data)
        self.outbox.flush()


@pytest.mark.parametrize("content", [b"hello", b"\n", b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"x" * 1023])
async def test_one_chunk_goes_on_as_it_came(content: bytes) -> None:
    chunk = b"%x\r\n%b\r\n" % (len(content), content)
    case = Case()
    case.take(chunk)
    case.passage.flush()
    assert case.caller.got == [chunk]
    assert case.noted == [content]
    assert case.connection.heard == []
    assert case.connection.silence.since == 7.0


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
async def test_anything_else_is_left_to_the_connection(data: bytes) -> None:
    case = Case()
    case.take(data)
    case.passage.flush()
    assert case.connection.heard == [data]
    assert (case.caller.got, case.noted) == ([], [])


@pytest.mark.parametrize("begun", [b"5", b"c\r\n", b"0\r\n", b"c\r\n5\r\nhello\r\n"])
async def test_what_looks_like_a_chunk_inside_of_another_is_none(begun: bytes) -> None:
    reader = ChunkReader(1024)
    reader.feed(begun)
    before = Case(reader)
    before.take(b"5\r\nhello\r\n")
    assert not before.caller.got

    reader = ChunkReader(1024)
    meanwhile = Case(reader, reader.feed)
    meanwhile.take(begun)
    with contextlib.suppress(httpx.RemoteProtocolError):
        meanwhile.take(b"5\r\nhello\r\n")
    assert not meanwhile.caller.got


async def test_all_is_noted_in_its_order_and_before_the_connection_hears_of_more() -> None:
    case = Case()
    contents = [b"%d" % number for number in range(30)]
    for content in contents:
        case.take(b"%x\r\n%b\r\n" % (len(content), content))
    assert len(case.noted) < len(contents)
    seen: list[bytes] = []
    case.connection._take = lambda _: seen.extend(case.noted)
    case.take(b"0\r\n\r\n")
    assert b"".join(seen) == b"".join(contents)


async def test_all_is_noted_before_the_connection_is_lost_because_it_may_still_find_something_to_read() -> None:
    case = Case()
    case.take(b"5\r\nhello\r\n")
    seen: list[bytes] = []
    cast(Any, case.connection).connection_lost = lambda _: seen.extend(case.noted)
    case.passage.connection_lost(ConnectionResetError())
    assert seen == [b"hello"]


async def test_what_is_not_about_bytes_is_left_to_the_connection() -> None:
    case = Case()
    lost = ConnectionResetError()
    case.passage.pause_writing()
    case.passage.resume_writing()
    case.passage.eof_received()
    case.passage.connection_lost(lost)
    assert case.connection.heard == ["pause", "resume", "eof", lost]


_contents = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"x" * 1023, b"x" * 1024]),
)
_lines = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;a=b"])


@given(contents=st.lists(_contents, min_size=1, max_size=8), data=st.data())
async def test_however_a_body_is_cut_both_ways_together_give_all_of_it(
    contents: list[bytes], data: st.DataObject
) -> None:
    chunks = [b"%b\r\n%b\r\n" % (data.draw(_lines) % len(content), content) for content in contents]
    raw = b"".join([*chunks, b"0\r\n\r\n"])
    ends = list(itertools.accumulate(map(len, chunks)))
    cuts = sorted({0, len(raw), *data.draw(st.lists(st.sampled_from(ends) | st.integers(0, len(raw))))})
    parser = ResponseParser(limits=DEFAULT_LIMITS)
    parser.feed(HEAD)
    reader = parser.chunk_reader
    assert reader is not None

    def parse(part: bytes) -> None:
        if body := parser.feed(part):
            case.caller.write(b"%x\r\n%b\r\n" % (len(body), body))
            case.noted.append(body)

    case = Case(reader, parse)
    for start, end in itertools.pairwise(cuts):
        case.take(raw[start:end])
    case.passage.flush()
    assert parser.complete
    assert not parser.surplus
    assert b"".join(case.noted) == b"".join(contents)
    assert ChunkReader(1024).feed(b"".join([*case.caller.got, b"0\r\n\r\n"])) == b"".join(contents)
