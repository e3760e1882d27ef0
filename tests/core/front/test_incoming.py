from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from herdgate.front.chunks import BadChunks
from herdgate.front.incoming import Incoming


def anything(size: int) -> None:
    """No limit."""


async def test_a_counted_body_ends_where_it_said() -> None:
    body = Incoming(5)
    assert body.feed(b"he") == b""
    assert (body.size, body.expected, body.complete, body.counted) == (2, 5, False, True)
    assert body.feed(b"lloGET") == b"GET"
    assert body.complete
    assert await body.whole(anything) == b"hello"


async def test_a_body_may_come_while_it_is_waited_for() -> None:
    body = Incoming(None)
    waiting = asyncio.create_task(body.whole(anything))
    await asyncio.sleep(0)
    assert body.awaited
    body.feed(b"3\r\nab")
    body.feed(b"c\r\n0\r\n\r\n")
    assert await waiting == b"abc"
    assert not body.awaited


async def test_who_takes_it_hears_how_large_it_will_be_and_may_refuse() -> None:
    heard: list[int] = []

    def at_most_ten(size: int) -> None:
        heard.append(size)
        if size > 10:
            raise ValueError("too large")

    body = Incoming(None)
    body.feed(b"3\r\nabc\r\n")
    waiting = asyncio.create_task(body.whole(at_most_ten))
    await asyncio.sleep(0)
    body.feed(b"5\r\nd")
    body.feed(b"efgh\r\nff\r\n")
    with pytest.raises(ValueError, match="too large"):
        await waiting
    assert heard == [3, 8, 8 + 255]
    assert body.feed(b"anything else") == b""
    with pytest.raises(ValueError, match="too large"):
        await Incoming(11).whole(at_most_ten)


async def test_what_breaks_it_is_heard_whenever_somebody_asks() -> None:
    body = Incoming(None)
    assert body.feed(b"zz\r\nGET / HTTP/1.1\r\n") == b""
    with pytest.raises(BadChunks):
        await body.whole(anything)
    silent = Incoming(5)
    waiting = asyncio.create_task(silent.whole(anything))
    await asyncio.sleep(0)
    silent.fail(TimeoutError())
    with pytest.raises(TimeoutError):
        await waiting
    assert not silent.complete


async def test_what_nobody_wants_is_not_kept_but_its_end_is_found() -> None:
    body = Incoming(5)
    body.discard()
    assert body.feed(b"helloGET") == b"GET"
    assert body.complete
    assert await body.whole(anything) == b""


@pytest.mark.parametrize(("length", "read", "size"), [(200_000, b"ab", 199_000), (None, b"2\r\nab\r\n", 16_000)])
async def test_a_body_takes_about_the_memory_that_is_counted_however_it_comes(
    length: int | None, read: bytes, size: int
) -> None:
    body = Incoming(length)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        while body.size < size:
            body.feed(bytes(bytearray(read)))  # a new object, as every read of a socket is
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4 * body.kept
