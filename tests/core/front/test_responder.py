from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from herdgate.bodybudget import BodyBudget
from herdgate.errors import Halt
from herdgate.exchange import Exchange
from herdgate.front.head import read_head
from herdgate.front.responder import ConnectionResponder
from herdgate.outbox import Outbox
from herdgate.responder import BodyTooLarge


def responder(body: bytes, budget: int = 100) -> tuple[ConnectionResponder, BodyBudget, list[bytes]]:
    """One for a request whose body came with its head; the budget, and what is sent to the caller."""
    sent: list[bytes] = []
    bodies = BodyBudget(budget)

    async def room() -> None:
        """There always is some."""

    connection = SimpleNamespace(
        door=SimpleNamespace(bodies=bodies, outbox=Outbox()),
        transport=SimpleNamespace(write=sent.append, is_closing=lambda: False),
        keep_alive=True,
        room=room,
    )
    head = read_head(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n")
    exchange = Exchange("id", method="POST", path="/", client="")
    return ConnectionResponder(cast(Any, connection), head, body, exchange, {}), bodies, sent


async def test_a_body_that_came_with_its_head_is_held_until_the_request_ends_and_not_asked_for() -> None:
    taker, bodies, sent = responder(b"hello")
    assert await taker.body(5) == b"hello"
    assert (bodies.held, sent) == (5, [])
    assert await taker.body(5) == b""
    taker.release()
    taker.release()
    assert bodies.held == 0


async def test_a_body_that_came_with_its_head_has_the_same_limits_as_any() -> None:
    taker, bodies, _ = responder(b"hello")
    with pytest.raises(BodyTooLarge):
        await taker.body(4)
    crowded, bodies, _ = responder(b"hello", budget=4)
    with pytest.raises(Halt) as ended:
        await crowded.body(5)
    assert (ended.value.reply.status, bodies.held) == (503, 0)


@pytest.mark.parametrize("body", [b"hello", b""])
async def test_a_body_that_came_with_its_head_is_one_piece(body: bytes) -> None:
    taker, bodies, _ = responder(body)
    assert [piece async for piece in taker.pieces()] == [body] * bool(body)
    assert [piece async for piece in taker.pieces()] == []
    assert bodies.held == 0


@pytest.mark.parametrize("origin", ["http://a", None])
async def test_a_reply_has_the_headers_that_it_was_given_and_the_gateways_own_once(origin: str | None) -> None:
    taker, _, sent = responder(b"")
    given = {"content-type": "text/plain", "vary": "*"}
    if origin is not None:
        taker._cors = {"access-control-allow-origin": origin, "vary": "Origin"}
    taker.send(200, given, b"hello")
    lines = b"".join(sent).decode().split("\r\n")
    names = [line.partition(":")[0] for line in lines[1:-2]]
    assert len(set(names)) == len(names)
    assert {"content-type: text/plain", "content-length: 5", "x-request-id: id"} <= set(lines)
    assert ("vary: Origin" if origin else "vary: *") in lines
    assert lines[-1] == "hello"
    assert given == {"content-type": "text/plain", "vary": "*"}


async def test_the_end_does_not_overtake_a_piece_that_was_pushed_in_the_same_turn() -> None:
    taker, _, sent = responder(b"")
    taker.push(b"piece")
    await taker.end()
    assert sent == [b"5\r\npiece\r\n", b"0\r\n\r\n"]
    await asyncio.sleep(0)
    assert len(sent) == 2


async def test_a_piece_that_is_written_does_not_overtake_one_that_was_pushed() -> None:
    taker, _, sent = responder(b"")
    taker.push(b"first")
    await taker.write(b"then")
    assert sent == [b"5\r\nfirst\r\n", b"4\r\nthen\r\n"]


async def test_the_last_piece_goes_out_together_with_the_end() -> None:
    taker, _, sent = responder(b"")
    await taker.end(b"piece")
    assert sent == [b"5\r\npiece\r\n0\r\n\r\n"]
    old, _, sent = responder(b"")
    old._chunked = False
    await old.end()
    assert sent == []
    await old.end(b"piece")
    assert sent == [b"piece"]
