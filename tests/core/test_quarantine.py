"""Who keeps failing where requests go on without it is left out for a while, and comes back."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from herdgate.failure import TryNext
from herdgate.faults import Ledger, PluginFault
from herdgate.hookpoints import Chain, First, Notify
from herdgate.point import Impl, Point
from herdgate.quarantine import FAULTS, LONGEST, PAUSE, TRIAL, LeftOut, Quarantine
from herdgate.quarantineboard import SPACE, Board, posted
from herdgate.state import open_state
from herdgate.tasks import Tasks


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Plugin:
    """Fails while it is told to."""

    def __init__(self, name: str = "bad") -> None:
        self.name = name
        self.fails = True
        self.asked = 0

    def __call__(self, *args: Any) -> Any:
        self.asked += 1
        if self.fails:
            raise RuntimeError("boom")
        return None

    def impl(self, **options: bool) -> Impl:
        return Impl(self.name, self, **options)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    ledger = Ledger()
    ledger.quarantine = Quarantine(clock)
    return ledger


def names(point: Point) -> list[str]:
    return [impl.plugin for impl in point.impls]


def chain(ledger: Ledger, *impls: Impl) -> Chain[Any]:
    return Chain("select_candidates", impls, ledger)


class Timers:
    """Catches what the quarantine has the loop do later."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[tuple[float, Callable[[], object]]] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, delay: float, call: Callable[..., object], *args: object) -> None:
        self.waiting.append((delay, lambda: call(*args)))

    def ring(self) -> float:
        delay, call = self.waiting.pop()
        call()
        return delay


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(monkeypatch)


async def test_an_advisory_plugin_that_keeps_failing_is_left_out_and_comes_back_in_its_place(
    ledger: Ledger, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    first, bad, last = Plugin("first"), Plugin(), Plugin("last")
    first.fails = last.fails = False
    point = chain(ledger, first.impl(), bad.impl(advisory=True), last.impl())
    for _ in range(FAULTS):
        assert names(point) == ["first", "bad", "last"]
        await point(None, ())
    assert names(point) == ["first", "last"]
    assert [(left.plugin, left.hook, left.faults) for left in ledger.quarantine.left_out] == [
        ("bad", "select_candidates", FAULTS)
    ]
    assert ledger.quarantine.times == {("bad", "select_candidates"): 1}
    assert "plugin bad is left out of select_candidates for 10 s" in caplog.text
    await point(None, ())
    assert bad.asked == FAULTS

    caplog.set_level("INFO")
    assert timers.ring() == PAUSE
    assert names(point) == ["first", "bad", "last"]
    assert ledger.quarantine.left_out == []
    assert "plugin bad is asked in select_candidates again" in caplog.text
    await point(None, ())
    assert bad.asked == FAULTS + 1


async def test_each_failure_right_after_the_return_doubles_the_pause(
    ledger: Ledger, clock: Clock, timers: Timers
) -> None:
    bad = Plugin()
    point = chain(ledger, bad.impl(advisory=True))
    for _ in range(FAULTS):
        await point(None, ())
    pauses = []
    for _ in range(9):
        clock.now += timers.waiting[0][0]
        pauses.append(timers.ring())
        await point(None, ())
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert max(pauses) == LONGEST


async def test_who_behaves_for_long_enough_starts_afresh(ledger: Ledger, clock: Clock, timers: Timers) -> None:
    bad = Plugin()
    point = chain(ledger, bad.impl(advisory=True))
    for _ in range(FAULTS):
        await point(None, ())
    timers.ring()
    clock.now += TRIAL + 1
    for _ in range(FAULTS - 1):
        await point(None, ())
    assert names(point) == ["bad"]
    await point(None, ())
    assert timers.ring() == PAUSE


async def test_rare_faults_leave_nobody_out(ledger: Ledger, timers: Timers) -> None:
    """However many there are: half of all calls is the limit."""
    bad = Plugin()
    point = chain(ledger, bad.impl(advisory=True))
    for number in range(200):
        bad.fails = number % 3 == 0
        await point(None, ())
    assert names(point) == ["bad"]
    assert ledger.quarantine.times == {}


async def test_faults_of_long_ago_do_not_count(ledger: Ledger, clock: Clock, timers: Timers) -> None:
    point = chain(ledger, Plugin().impl(advisory=True))
    for _ in range(3 * FAULTS):
        clock.now += TRIAL + 1
        await point(None, ())
    assert names(point) == ["bad"]


async def test_nobody_is_left_out_of_a_closed_hook(ledger: Ledger, timers: Timers) -> None:
    point = chain(ledger, Plugin().impl())
    for _ in range(5 * FAULTS):
        with pytest.raises(PluginFault):
            await point(None, ())
    assert names(point) == ["bad"]
    assert timers.waiting == []


async def test_the_hooks_that_only_observe_are_tolerant_without_a_declaration(ledger: Ledger, timers: Timers) -> None:
    judge = First[[None, None, None], TryNext]("judge_failure", [Plugin().impl()], ledger)
    told = Notify("exchange_ended", [Plugin().impl()], ledger)
    tasks = Tasks()
    for _ in range(FAULTS):
        told(tasks.spawn, None)
        with pytest.raises(PluginFault):
            judge(None, None, None)
    assert (names(judge), names(told)) == ([], [])
    assert not judge


async def test_a_call_that_began_before_says_nothing_new(ledger: Ledger, timers: Timers) -> None:
    point = chain(ledger, Plugin().impl(advisory=True))
    late = point.impls[0]
    for _ in range(FAULTS):
        await point(None, ())
    point.fault(late, RuntimeError("late"))
    assert ledger.quarantine.times == {("bad", "select_candidates"): 1}
    assert len(timers.waiting) == 1


def test_without_a_loop_nobody_is_left_out(ledger: Ledger) -> None:
    """Nobody could bring it back."""
    judge = First[[None, None, None], TryNext]("judge_failure", [Plugin().impl()], ledger)
    for _ in range(FAULTS):
        with pytest.raises(PluginFault):
            judge(None, None, None)
    assert names(judge) == ["bad"]


async def test_the_board_shows_who_is_out_and_forgets_what_no_longer_holds(tmp_path: Path) -> None:
    state = await open_state(f"sqlite://{tmp_path}/state.db")
    try:
        board = Board(state)
        now, long_ago = LeftOut("bad", "admit", 9e9, 5), LeftOut("old", "admit", 1.0, 5)
        await board.post(long_ago, True)
        await state.put(SPACE, "garbage", b"[1]")
        assert await posted(state) == []
        await board.post(now, True)
        assert [left for _, left in await posted(state)] == [now]
        assert await state.count(SPACE) == 1
        await board.post(now, False)
        assert await state.count(SPACE) == 0
    finally:
        await state.close()
    await board.post(now, True)  # a state that is gone is no trouble
