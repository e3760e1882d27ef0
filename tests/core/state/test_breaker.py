from herdgate.state.breaker import FAILURES, PAUSE, Breaker

LAST = 100.0
"""When the last failure was."""


def failed(times: int) -> Breaker:
    """A breaker that saw failures one after another, each call taking a second."""
    breaker = Breaker()
    for n in reversed(range(times)):
        breaker.failed(LAST - n - 1, LAST - n)
    return breaker


def test_a_few_failures_change_nothing() -> None:
    assert failed(FAILURES - 1).allows(LAST)


def test_failures_one_after_another_bring_a_pause() -> None:
    breaker = failed(FAILURES)
    assert not breaker.allows(LAST)
    assert not breaker.allows(LAST + PAUSE - 0.001)


def test_calls_that_fail_together_count_once() -> None:
    breaker = Breaker()
    for n in range(10 * FAILURES):
        breaker.failed(LAST - 1 + n / 1000, LAST + n / 1000)
    assert breaker.allows(LAST + 1)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = failed(FAILURES - 1)
    breaker.succeeded()
    breaker.failed(LAST, LAST + 1)
    assert breaker.allows(LAST + 1)


def test_after_the_pause_one_call_tries() -> None:
    breaker = failed(FAILURES)
    assert [breaker.allows(LAST + PAUSE) for _ in range(3)] == [True, False, False]


def test_if_the_trial_succeeds_all_is_well() -> None:
    breaker = failed(FAILURES)
    breaker.allows(LAST + PAUSE)
    breaker.succeeded()
    assert breaker.allows(LAST + PAUSE)


def test_if_the_trial_fails_the_pause_begins_again() -> None:
    breaker = failed(FAILURES)
    breaker.allows(LAST + PAUSE)
    breaker.failed(LAST + PAUSE, LAST + PAUSE + 0.5)
    assert not breaker.allows(LAST + 2 * PAUSE + 0.4)
    assert breaker.allows(LAST + 2 * PAUSE + 0.5)


def test_a_trial_that_never_reports_back_is_followed_by_another() -> None:
    breaker = failed(FAILURES)
    breaker.allows(LAST + PAUSE)
    assert breaker.allows(LAST + 2 * PAUSE)
