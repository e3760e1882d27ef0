"""Which candidates come first, and what attempts and answers change about that."""

import pytest
from tests.plugins.health.scene import Clock, attempt, candidate, exchange, succeeded

from herdgate import Attempt, Backend, Failure, Kind, Phase
from herdgate_plugins.health.circuit import State
from herdgate_plugins.health.circuits import Circuits

REFUSED = Failure(Kind.UNREACHABLE, Phase.CONNECT, "refused")
ERROR = Failure(Kind.STATUS, Phase.OPENING, "status 500", 500)
TORN = Failure(Kind.BROKEN, Phase.STREAM, "reset")
BUSY = Failure(Kind.STATUS, Phase.OPENING, "status 503", 503)
KEY = "registry.ollama.ai/library/llama3:latest"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuits(clock: Clock) -> Circuits:
    return Circuits(limit=3, retry_after=5.0, clock=clock)


def order(circuits: Circuits, *backends: str, model: str = "llama3") -> str:
    given = [candidate(backend, model) for backend in backends]
    chosen = circuits.ordered(given)
    return "".join(each.backend.name for each in (given if chosen is None else chosen))


def fails(circuits: Circuits, backend: str, failure: Failure, times: int = 1) -> None:
    for _ in range(times):
        tried = attempt(backend, failure=failure)
        circuits.begins(tried)
        circuits.ends(tried)


def fails_where_another_does_well(circuits: Circuits, backend: str, times: int = 1) -> None:
    for _ in range(times):
        failing, answering = attempt(backend, failure=ERROR), succeeded("other", number=2)
        circuits.ends(failing)
        circuits.opened(exchange(failing, answering), answering)


def does_well(circuits: Circuits, backend: str, model: str = "llama3") -> Attempt:
    tried = succeeded(backend, model)
    circuits.begins(tried)
    circuits.opened(exchange(tried), tried)
    circuits.ends(tried)
    return tried


def test_in_good_times_nothing_is_touched(circuits: Circuits) -> None:
    does_well(circuits, "a")
    assert circuits.ordered([candidate("a"), candidate("b")]) is None
    assert not circuits.troubled


def test_a_backend_that_takes_no_connections_is_left_out_after_three_in_a_row(circuits: Circuits) -> None:
    fails(circuits, "a", REFUSED, times=2)
    assert order(circuits, "a", "b") == "ab"
    fails(circuits, "a", REFUSED)
    assert order(circuits, "a", "b") == "b"
    assert order(circuits, "a", "b", model="other") == "b"


@pytest.mark.parametrize("answer", [ERROR, Failure(Kind.STATUS, Phase.OPENING, "", 400)])
def test_any_answer_of_its_own_ends_the_row(circuits: Circuits, answer: Failure) -> None:
    fails(circuits, "a", REFUSED, times=2)
    fails(circuits, "a", answer)
    fails(circuits, "a", REFUSED, times=2)
    assert order(circuits, "a", "b") == "ab"


def test_a_model_that_fails_where_another_does_well_comes_last_and_the_other_models_stay(circuits: Circuits) -> None:
    fails_where_another_does_well(circuits, "a", times=3)
    assert order(circuits, "a", "b") == "ba"
    assert order(circuits, "a", "b", model="other") == "ab"


def test_a_success_ends_the_row(circuits: Circuits) -> None:
    fails_where_another_does_well(circuits, "a", times=2)
    does_well(circuits, "a")
    fails_where_another_does_well(circuits, "a", times=2)
    assert order(circuits, "a", "b") == "ab"


def test_what_fails_everywhere_counts_nowhere(circuits: Circuits) -> None:
    fails(circuits, "a", ERROR, times=5)
    fails(circuits, "b", ERROR, times=5)
    assert not circuits.troubled


def test_streams_that_break_count_although_they_began_well(circuits: Circuits) -> None:
    for _ in range(3):
        tried = succeeded("a")
        circuits.begins(tried)
        circuits.opened(exchange(tried), tried)
        tried.failed(TORN)
        circuits.ends(tried)
    assert order(circuits, "a", "b") == "ba"


def test_a_model_gets_one_trial_after_a_while(circuits: Circuits, clock: Clock) -> None:
    fails_where_another_does_well(circuits, "a", times=3)
    clock.now += 4.9
    assert order(circuits, "a", "b") == "ba"
    clock.now += 0.2
    assert order(circuits, "a", "b") == "ab"
    trial = attempt("a")
    circuits.begins(trial)
    assert order(circuits, "a", "b") == "ba"
    trial.status, trial.first_event_after = 200, 0.1
    circuits.opened(exchange(trial), trial)
    assert order(circuits, "a", "b") == "ab"
    circuits.ends(trial)
    assert not circuits.troubled


def test_a_trial_that_fails_begins_the_wait_anew(circuits: Circuits, clock: Clock) -> None:
    fails_where_another_does_well(circuits, "a", times=3)
    clock.now += 5
    fails_where_another_does_well(circuits, "a")
    clock.now += 4.9
    assert order(circuits, "a", "b") == "ba"


def test_a_busy_trial_leaves_the_matter_open(circuits: Circuits, clock: Clock) -> None:
    fails_where_another_does_well(circuits, "a", times=3)
    clock.now += 5
    assert order(circuits, "a", "b") == "ab"
    fails(circuits, "a", BUSY)
    assert circuits.state("a", KEY) is State.HALF_OPEN
    assert order(circuits, "a", "b") == "ab"


def test_a_dead_backend_is_left_out_at_once_and_gets_a_trial_when_it_shows_life(circuits: Circuits) -> None:
    backend = Backend("a", "http://a")
    circuits.dead(backend, "silence")
    assert order(circuits, "a", "b") == "b"
    circuits.alive(backend)
    assert order(circuits, "a", "b") == "ab"
    trial = attempt("a")
    circuits.begins(trial)
    assert order(circuits, "a", "b") == "ba"
    does_well(circuits, "a")
    assert order(circuits, "a", "b") == "ab"


def test_life_makes_good_what_had_not_yet_opened_the_circuit(circuits: Circuits) -> None:
    fails(circuits, "a", REFUSED, times=2)
    circuits.alive(Backend("a", "http://a"))
    assert not circuits.troubled


def test_if_none_is_sound_the_least_bad_comes_first(circuits: Circuits) -> None:
    fails_where_another_does_well(circuits, "a", times=5)
    fails_where_another_does_well(circuits, "b", times=3)
    circuits.dead(Backend("c", "http://c"), "silence")
    assert order(circuits, "a", "b", "c") == "ba"
    for _ in range(2):
        circuits.dead(Backend("b", "http://b"), "silence")
    assert order(circuits, "c", "b") == "cb"
    assert order(circuits, "b") == "b"


def test_a_request_that_reaches_a_backend_thought_dead_shows_that_it_lives(circuits: Circuits) -> None:
    circuits.dead(Backend("a", "http://a"), "silence")
    does_well(circuits, "a")
    assert not circuits.troubled


def test_what_is_logged_is_the_change(circuits: Circuits, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "herdgate.health")
    fails(circuits, "a", REFUSED, times=5)
    circuits.alive(Backend("a", "http://a"))
    circuits.alive(Backend("a", "http://a"))
    does_well(circuits, "a")
    does_well(circuits, "a")
    assert [record.getMessage() for record in caplog.records] == [
        "backend a is passed over after 3 failures in a row: refused",
        "backend a answers again: the next request is its trial",
        "backend a is used as before",
    ]
