from herdgate.state.breaker import FAILURES, PAUSE, Breaker


def failed(times: int, at: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker.failed(at)
    return breaker


def test_a_few_failures_change_nothing() -> None:
    assert failed(FAILURES - 1).allows(100.0)


def test_failures_in_a_row_bring_a_pause() -> None:
    breaker = failed(FAILURES)
    assert not breaker.allows(100.0)
    assert not breaker.allows(100.0 + PAUSE - 0.001)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = failed(FAILURES - 1)
    breaker.succeeded()
    breaker.failed(100.0)
    assert breaker.allows(100.0)


def test_after_the_pause_one_call_tries() -> None:
    breaker = failed(FAILURES)
    assert [breaker.allows(100.0 + PAUSE) for _ in range(3)] == [True, False, False]


def test_if_the_trial_succeeds_all_is_well() -> None:
    breaker = failed(FAILURES)
    breaker.allows(100.0 + PAUSE)
    breaker.succeeded()
    assert breaker.allows(100.0 + PAUSE)


def test_if_the_trial_fails_the_pause_begins_again() -> None:
    breaker = failed(FAILURES)
    breaker.allows(100.0 + PAUSE)
    breaker.failed(100.5 + PAUSE)
    assert not breaker.allows(100.4 + 2 * PAUSE)
    assert breaker.allows(100.5 + 2 * PAUSE)


def test_a_trial_that_never_reports_back_is_followed_by_another() -> None:
    breaker = failed(FAILURES)
    breaker.allows(100.0 + PAUSE)
    assert breaker.allows(100.0 + 2 * PAUSE)
