from __future__ import annotations

import asyncio

import pytest

from herdgate.outbox import AT_ONCE, FEW, Outbox


class Wire:
    """Notes what is written, in one list for all."""

    def __init__(self, written: list[tuple[str, bytes]], name: str) -> None:
        self._written = written
        self._name = name
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self._written.append((self._name, data))


async def test_what_one_turn_brings_goes_out_together_and_in_order() -> None:
    written: list[tuple[str, bytes]] = []
    outbox, wires = Outbox(), [Wire(written, str(number)) for number in range(FEW)]
    pieces = [(wire, b"%d" % number) for number in range(2) for wire in wires]
    for wire, data in pieces:
        outbox.write(wire, data)
    assert written == []
    await asyncio.sleep(0)
    assert written == [(str(number), data) for data in (b"0", b"1") for number in range(FEW)]


async def test_it_goes_out_before_a_task_that_the_same_turn_has_woken_goes_on() -> None:
    """Else the end of a stream could overtake its last piece."""
    written: list[tuple[str, bytes]] = []
    outbox, wire = Outbox(), Wire(written, "a")
    ended = asyncio.get_running_loop().create_future()

    async def end() -> None:
        await ended
        wire.write(b"end")

    task = asyncio.create_task(end())
    await asyncio.sleep(0)
    outbox.write(wire, b"last piece")
    ended.set_result(None)
    await task
    assert written == [("a", b"last piece"), ("a", b"end")]


async def test_a_fault_of_one_connection_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Wire):
        def write(self, data: bytes) -> None:
            raise RuntimeError("the handler is closed")

    written: list[tuple[str, bytes]] = []
    outbox = Outbox()
    outbox.write(Broken(written, "broken"), b"1")
    outbox.write(Wire(written, "there"), b"2")
    await asyncio.sleep(0)
    assert written == [("there", b"2")]
    assert "the handler is closed" in caplog.text


async def test_what_is_for_a_wire_that_was_closed_in_the_meantime_is_dropped() -> None:
    written: list[tuple[str, bytes]] = []
    outbox, wires = Outbox(), [Wire(written, name) for name in ("there", "gone")]
    for wire in wires:
        outbox.write(wire, b"piece")
    wires[1].closed = True
    await asyncio.sleep(0)
    outbox.write(wires[1], b"another, which would go out at once")
    assert written == [("there", b"piece")]


async def test_few_pieces_do_not_wait_until_it_is_tried_again() -> None:
    written: list[tuple[str, bytes]] = []
    outbox, wire = Outbox(), Wire(written, "a")
    for _ in range(FEW - 1):
        outbox.write(wire, b"first")
    assert written == []
    await asyncio.sleep(0)
    written.clear()
    for number in range(AT_ONCE):
        outbox.write(wire, b"%d" % number)
        assert len(written) == number + 1
    outbox.write(wire, b"tried again")
    assert len(written) == AT_ONCE
    await asyncio.sleep(0)
    assert written[-1] == ("a", b"tried again")
