"""Which backends are asked at a tick."""

from typing import Any

import pytest
from tests.plugins.health.scene import Clock, attempt

from herdgate import Backend
from herdgate_plugins.health.watch import Findings, Rhythm, Watch

BACKENDS = [Backend(name, f"http://{name}") for name in "abc"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Watch:
    def nobody(*_: Any) -> None:
        raise AssertionError("nothing was found yet")

    rhythm = Rhythm(watch_after=1.0, interval=2.0, idle_interval=10.0, patience=3.0)
    return Watch(rhythm, Findings(nobody, nobody), clock)


def asked(watch: Watch, clock: Clock, *waited_for: str, answered: bool = True) -> str:
    """Who is asked now; all questions are answered, or none, at once."""
    due = watch.due(BACKENDS, [attempt(name) for name in waited_for])
    for pulse in due:
        pulse.begins(clock.now)
        pulse.answered() if answered else pulse.unanswered(clock.now, 3.0)
    return "".join(pulse.backend.name for pulse in due)


def test_all_are_asked_now_and_then(watch: Watch, clock: Clock) -> None:
    assert asked(watch, clock) == "abc"
    clock.now += 9.9
    assert asked(watch, clock) == ""
    clock.now += 0.2
    assert asked(watch, clock) == "abc"


def test_one_that_is_waited_for_is_asked_more_often_once_for_all_who_wait(watch: Watch, clock: Clock) -> None:
    asked(watch, clock)
    clock.now += 1.9
    assert asked(watch, clock, "b", "b", "b") == ""
    clock.now += 0.2
    assert asked(watch, clock, "b", "b", "b") == "b"


def test_one_in_doubt_is_asked_once(watch: Watch, clock: Clock) -> None:
    asked(watch, clock)
    clock.now += 2.1
    watch.doubt(BACKENDS[2])
    assert asked(watch, clock) == "c"
    clock.now += 2.1
    assert asked(watch, clock) == ""


def test_one_that_does_not_answer_is_asked_until_it_does(watch: Watch, clock: Clock) -> None:
    asked(watch, clock, answered=False)
    for _ in range(5):
        clock.now += 2.1
        assert asked(watch, clock, answered=False) == "abc"
    clock.now += 2.1
    assert asked(watch, clock) == "abc"
    clock.now += 2.1
    assert asked(watch, clock) == ""


def test_a_doubt_raised_too_soon_after_a_question_is_not_lost(watch: Watch, clock: Clock) -> None:
    asked(watch, clock)
    watch.doubt(BACKENDS[0])
    assert asked(watch, clock) == ""
    clock.now += 2.1
    assert asked(watch, clock) == "a"


def test_a_backend_that_is_taken_out_is_forgotten(watch: Watch, clock: Clock) -> None:
    asked(watch, clock)
    watch.due(BACKENDS[:1], [])
    assert asked(watch, clock) == "bc"
