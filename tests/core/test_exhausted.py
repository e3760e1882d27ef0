"""What a caller gets when every backend has failed."""

import pytest

from herdgate.access import Refusal
from herdgate.exhausted import BUSY, RATE_LIMITED, REFUSED, RETRY_AFTER, TIMED_OUT, UNAVAILABLE, Conclusion, conclude
from herdgate.failure import Failure, Kind, Phase


def status(code: int, message: str | None = None, retry_after: float | None = None) -> Failure:
    return Failure(Kind.STATUS, Phase.OPENING, f"status {code}", code, message, retry_after)


UNREACHABLE = Failure(Kind.UNREACHABLE, Phase.CONNECT, "refused")
BROKEN = Failure(Kind.BROKEN, Phase.SENT, "reset")
EMPTY = Failure(Kind.EMPTY, Phase.OPENING, "empty")
LATE = Failure(Kind.TIMEOUT, Phase.OPENING, "silent")
FULL = Failure(Kind.SKIPPED, Phase.CONNECT, "full")
BY_PLUGIN = Failure(Kind.PLUGIN, Phase.CONNECT, "a plugin failed")
ERROR = Failure(Kind.ERROR_EVENT, Phase.OPENING, "an error", message="out of memory")
SILENT_ERROR = Failure(Kind.ERROR_EVENT, Phase.OPENING, "an error")


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        # nothing was tried: every backend is full, or none is left
        ([], Conclusion(503, BUSY, RETRY_AFTER)),
        ([FULL, FULL], Conclusion(503, BUSY, RETRY_AFTER)),
        # all alike
        ([status(404), status(404)], Conclusion(403, "", denied=True)),
        ([status(404), FULL], Conclusion(403, "", denied=True)),
        ([status(429)], Conclusion(429, RATE_LIMITED, 1.0)),
        ([status(429, retry_after=7), status(429, retry_after=3)], Conclusion(429, RATE_LIMITED, 7)),
        ([LATE, LATE], Conclusion(504, TIMED_OUT)),
        ([status(401), status(403)], Conclusion(502, UNAVAILABLE)),
        ([status(401, "no such token gw-secret")], Conclusion(502, UNAVAILABLE)),
        ([UNREACHABLE], Conclusion(502, UNAVAILABLE)),
        ([BROKEN, EMPTY, BY_PLUGIN], Conclusion(502, UNAVAILABLE)),
        ([status(502, "bad gateway")], Conclusion(502, UNAVAILABLE)),
        # of several kinds
        ([status(404), UNREACHABLE], Conclusion(502, UNAVAILABLE)),
        ([status(404), status(401)], Conclusion(502, UNAVAILABLE)),
        ([status(404), status(429)], Conclusion(502, UNAVAILABLE)),
        ([LATE, UNREACHABLE], Conclusion(502, UNAVAILABLE)),
        ([status(302)], Conclusion(502, UNAVAILABLE)),
        # somebody said something that is meant for the caller
        ([status(400, "bad option")], Conclusion(400, "bad option")),
        ([status(422)], Conclusion(422, REFUSED)),
        ([status(500, "one"), status(500, "two")], Conclusion(500, "two")),
        ([status(500, "one"), UNREACHABLE], Conclusion(500, "one")),
        ([status(500, "one"), status(404, "not found")], Conclusion(500, "one")),
        ([status(500)], Conclusion(502, UNAVAILABLE)),
        ([status(503)], Conclusion(503, BUSY, RETRY_AFTER)),
        ([status(503, "loading", 9)], Conclusion(503, "loading", 9)),
        ([status(503, "loading"), status(429)], Conclusion(503, "loading", RETRY_AFTER)),
        ([ERROR, UNREACHABLE], Conclusion(500, "out of memory")),
        ([SILENT_ERROR], Conclusion(502, UNAVAILABLE)),
    ],
    ids=lambda value: "+".join(map(str, value)) if isinstance(value, list) else "",
)
def test_the_caller_gets_the_best_that_was_said(failures: list[Failure], expected: Conclusion) -> None:
    assert conclude(failures) == expected


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([FULL], Conclusion(503, "in a minute", 60.0)),
        ([UNREACHABLE, FULL], Conclusion(503, "in a minute", 60.0)),
        ([status(404), FULL], Conclusion(503, "in a minute", 60.0)),
        ([LATE, FULL], Conclusion(503, "in a minute", 60.0)),
        ([status(500, "one"), FULL], Conclusion(500, "one")),
    ],
)
def test_that_nobody_wanted_to_wait_is_worth_less_than_a_backends_words_and_more_than_silence(
    failures: list[Failure], expected: Conclusion
) -> None:
    assert conclude(failures, Refusal("in a minute", status=503, retry_after=60.0)) == expected


def test_only_a_denial_is_one() -> None:
    assert not conclude([]).denied
    assert conclude([status(404)]).denied
