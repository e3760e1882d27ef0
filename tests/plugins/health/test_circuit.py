"""A circuit goes from state to state as its table says."""

from collections.abc import Callable

import pytest

from herdgate_plugins.health.circuit import Circuit, State


def closed() -> Circuit:
    return Circuit(3)


def opened() -> Circuit:
    circuit = closed()
    circuit.open(10.0)
    return circuit


def half_open() -> Circuit:
    circuit = opened()
    circuit.let_one_through()
    return circuit


def on_trial() -> Circuit:
    circuit = half_open()
    circuit.begins("trial")
    return circuit


TABLE: dict[str, tuple[Callable[[], Circuit], Callable[[Circuit], object], State, bool]] = {
    "one strike is not enough": (closed, lambda c: c.strike(1.0), State.CLOSED, True),
    "two are not": (closed, lambda c: [c.strike(1.0) for _ in range(2)], State.CLOSED, True),
    "three in a row are": (closed, lambda c: [c.strike(1.0) for _ in range(3)], State.OPEN, False),
    "one that opens for another reason needs no strikes": (closed, lambda c: c.open(1.0), State.OPEN, False),
    "what is closed needs no trial": (closed, lambda c: c.let_one_through(), State.CLOSED, True),
    "an open one stays so however often it is struck": (opened, lambda c: c.strike(1.0), State.OPEN, False),
    "a request that comes all the same is no trial": (opened, lambda c: c.begins("x"), State.OPEN, False),
    "an open one lets one through": (opened, lambda c: c.let_one_through(), State.HALF_OPEN, True),
    "while the trial runs, no more": (half_open, lambda c: c.begins("x"), State.HALF_OPEN, False),
    "one strike opens it again": (on_trial, lambda c: c.strike(1.0), State.OPEN, False),
    "a trial that ends without a verdict makes room": (on_trial, lambda c: c.ends("trial"), State.HALF_OPEN, True),
    "another request's end does not": (on_trial, lambda c: c.ends("x"), State.HALF_OPEN, False),
    "nor does another request's beginning": (on_trial, lambda c: c.begins("x"), State.HALF_OPEN, False),
    "a trial that has begun well closes it": (on_trial, lambda c: c.begun_well(), State.CLOSED, True),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_happens_leads_to_the_next_state(case: str) -> None:
    given, happens, state, takes_requests = TABLE[case]
    circuit = given()
    happens(circuit)
    assert (circuit.state, circuit.takes_requests) == (state, takes_requests)


def test_what_has_begun_well_and_breaks_opens_at_once() -> None:
    circuit = on_trial()
    circuit.begun_well()
    assert circuit.strike(11.0)
    assert circuit.state is State.OPEN


def test_a_new_trial_follows_one_that_was_struck() -> None:
    circuit = on_trial()
    circuit.strike(11.0)
    circuit.let_one_through()
    assert (circuit.takes_requests, circuit.opened_at) == (True, 11.0)


def test_only_what_opens_a_closed_circuit_is_news() -> None:
    circuit = closed()
    assert [circuit.strike(1.0) for _ in range(5)] == [False, False, True, False, False]
    assert not half_open().strike(1.0)
