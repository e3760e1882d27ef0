"""When a backend is asked again, and when silence means death."""

from herdgate import Backend
from herdgate_plugins.health.pulse import Pulse


def pulse() -> Pulse:
    return Pulse(Backend("a", "http://a"))


def test_one_question_at_a_time_and_a_pause_between_two() -> None:
    asked = pulse()
    assert asked.due(0.0, 1.5)
    asked.begins(0.0)
    assert not asked.due(100.0, 1.5)
    asked.answered()
    assert not asked.due(1.4, 1.5)
    assert asked.due(1.5, 1.5)


def test_one_question_that_waited_for_the_whole_patience_is_enough() -> None:
    asked = pulse()
    asked.begins(0.0)
    assert asked.unanswered(3.0, 3.0)


def test_questions_that_are_refused_at_once_have_to_be_refused_for_as_long() -> None:
    asked = pulse()
    for now in (0.0, 1.5):
        asked.begins(now)
        assert not asked.unanswered(now, 3.0)
    asked.begins(3.0)
    assert asked.unanswered(3.0, 3.0)


def test_an_answer_in_between_begins_the_count_anew() -> None:
    asked = pulse()
    asked.begins(0.0)
    asked.unanswered(0.0, 3.0)
    asked.begins(1.5)
    asked.answered()
    asked.begins(3.0)
    assert not asked.unanswered(4.0, 3.0)
