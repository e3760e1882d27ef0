"""What a failure says about a backend, and what only about the request."""

import pytest
from tests.plugins.health.scene import attempt, candidate

from herdgate import Failure, Kind, Phase
from herdgate_plugins.health.blame import Blame, blame, found_guilty, raises_doubt, shows_life


def status(code: int) -> Failure:
    return Failure(Kind.STATUS, Phase.OPENING, "", code)


NOBODY, BACKEND, MODEL, OPEN = Blame.NOBODY, Blame.BACKEND, Blame.MODEL, Blame.OPEN
EVERY_PHASE = list(Phase)
BLAMED = {
    Kind.UNREACHABLE: [BACKEND, NOBODY, NOBODY, NOBODY],
    Kind.TIMEOUT: [BACKEND, OPEN, OPEN, MODEL],
    Kind.DEAD: [NOBODY, NOBODY, NOBODY, NOBODY],  # the watch that found out has told the circuit
    Kind.BROKEN: [NOBODY, OPEN, OPEN, MODEL],
    Kind.EMPTY: [NOBODY, OPEN, OPEN, NOBODY],
    Kind.MALFORMED: [NOBODY, OPEN, OPEN, NOBODY],
    Kind.ERROR_EVENT: [NOBODY, OPEN, OPEN, NOBODY],
    Kind.SKIPPED: [NOBODY, NOBODY, NOBODY, NOBODY],
    Kind.PLUGIN: [NOBODY, NOBODY, NOBODY, NOBODY],
}


@pytest.mark.parametrize("kind", BLAMED)
def test_a_failure_without_a_status(kind: Kind) -> None:
    assert [blame(Failure(kind, phase, "")) for phase in EVERY_PHASE] == BLAMED[kind]


def test_every_kind_is_judged() -> None:
    assert {*BLAMED, Kind.STATUS} == set(Kind)


@pytest.mark.parametrize("code", [301, *range(400, 600)])
def test_a_status_speaks_against_nobody_or_perhaps_against_the_request(code: int) -> None:
    assert blame(status(code)) is (OPEN if code >= 500 and code != 503 else NOBODY)


def test_only_another_backends_answer_finds_the_earlier_ones_guilty() -> None:
    first = attempt("a", failure=status(500))
    second = attempt("b", failure=status(503))
    third = attempt("c", failure=Failure(Kind.UNREACHABLE, Phase.CONNECT, ""))
    answering, later = attempt("d"), attempt("e", failure=status(500))
    assert list(found_guilty([first, second, third, answering, later], answering)) == [first]


@pytest.mark.parametrize(("code", "life"), [(None, False), (200, True), (400, True), (500, True), (502, False)])
def test_only_a_status_that_no_proxy_makes_up_shows_life(code: int | None, life: bool) -> None:
    tried = attempt(candidate("a").backend.name)
    tried.status = code
    assert shows_life(tried) is life


def test_doubt_arises_where_a_connection_failed_or_a_proxy_may_have_spoken() -> None:
    assert raises_doubt(Failure(Kind.BROKEN, Phase.STREAM, ""))
    assert raises_doubt(status(502))
    assert not raises_doubt(status(500))
    assert not raises_doubt(Failure(Kind.EMPTY, Phase.OPENING, ""))
