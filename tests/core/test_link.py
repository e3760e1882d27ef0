"""Messages between the supervisor and its workers."""

from hypothesis import given
from hypothesis import strategies as st

from herdgate.link import Inbox, Word, message

MESSAGES = st.lists(st.tuples(st.sampled_from(Word), st.binary(max_size=300)))


@given(MESSAGES, st.integers(min_value=1, max_value=50))
def test_they_arrive_whole_however_they_are_read(messages: list[tuple[Word, bytes]], portion: int) -> None:
    sent = b"".join(message(word, body) for word, body in messages)
    inbox = Inbox()
    heard = [each for at in range(0, len(sent), portion) for each in inbox.feed(sent[at : at + portion])]
    assert heard == messages
