"""What may be tried again elsewhere: the table of docs/operating.md, row by row."""

import itertools

import pytest

from herdgate.failure import Failure, GiveUp, Kind, Phase, TryNext, default_verdict


def status(code: int) -> Failure:
    return Failure(Kind.STATUS, Phase.OPENING, f"status {code}", code)


REFUSED = Failure(Kind.UNREACHABLE, Phase.CONNECT, "connection refused")
SKIPPED = Failure(Kind.SKIPPED, Phase.CONNECT, "full")


@pytest.mark.parametrize(
    "failure",
    [
        REFUSED,
        Failure(Kind.UNREACHABLE, Phase.CONNECT, "certificate not trusted"),
        Failure(Kind.TIMEOUT, Phase.CONNECT, "no connection in time"),
        Failure(Kind.BROKEN, Phase.SENT, "reset"),
        Failure(Kind.TIMEOUT, Phase.SENT, "silent"),
        Failure(Kind.TIMEOUT, Phase.OPENING, "silent"),
        Failure(Kind.BROKEN, Phase.OPENING, "closed"),
        Failure(Kind.EMPTY, Phase.OPENING, "empty"),
        Failure(Kind.MALFORMED, Phase.OPENING, "no JSON"),
        Failure(Kind.ERROR_EVENT, Phase.OPENING, "an error"),
        Failure(Kind.PLUGIN, Phase.OPENING, "a plugin failed"),
        Failure(Kind.PLUGIN, Phase.CONNECT, "a plugin failed"),
        SKIPPED,
        *map(status, (401, 403, 404, 408, 429, 500, 502, 503, 504)),
        *map(status, (301, 501, 507, 529)),
    ],
    ids=str,
)
def test_before_the_first_byte_the_next_backend_is_tried(failure: Failure) -> None:
    assert isinstance(default_verdict(failure, []), TryNext)


@pytest.mark.parametrize("code", [400, 413, 415, 422, 499, 402, 405, 409, 410])
def test_what_describes_the_request_is_not_tried_again(code: int) -> None:
    verdict = default_verdict(status(code), [])
    assert isinstance(verdict, GiveUp)
    assert str(code) in verdict.reason


@pytest.mark.parametrize("kind", list(Kind))
def test_after_the_first_byte_nothing_is_tried_again(kind: Kind) -> None:
    assert isinstance(default_verdict(Failure(kind, Phase.STREAM, "broke"), []), GiveUp)


@pytest.mark.parametrize(
    "second", [status(500), status(503), status(404), Failure(Kind.BROKEN, Phase.SENT, "reset")], ids=str
)
@pytest.mark.parametrize("between", [[], [REFUSED], [SKIPPED, REFUSED]], ids=len)
def test_after_a_500_one_further_backend_is_tried_and_no_more(second: Failure, between: list[Failure]) -> None:
    assert isinstance(default_verdict(second, [status(500), *between]), GiveUp)


@pytest.mark.parametrize("unsent", [REFUSED, SKIPPED], ids=str)
def test_an_attempt_that_sent_nothing_is_not_that_further_backend(unsent: Failure) -> None:
    assert isinstance(default_verdict(unsent, [status(500)]), TryNext)


def test_other_failures_before_a_500_do_not_use_up_the_further_backend() -> None:
    earlier = [REFUSED, *map(status, (401, 403, 404, 408, 429, 502, 503, 504))]
    assert isinstance(default_verdict(status(500), earlier), TryNext)


def test_a_bad_request_stays_one_whatever_came_before() -> None:
    for code, earlier in itertools.product((400, 413, 415, 422, 499), ([], [status(503)], [status(500)])):
        assert default_verdict(status(code), earlier) == GiveUp(f"{code} describes the request")


def test_a_failure_is_told_by_its_detail_and_never_shows_the_backends_text() -> None:
    failure = Failure(Kind.STATUS, Phase.OPENING, "status 500", 500, message="the prompt was: secret")
    assert str(failure) == "status 500"
    assert "secret" not in repr(failure)
