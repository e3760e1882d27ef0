"""Messages between the supervisor and its workers."""

from hypothesis import given
from hypothesis import strategies as st

from herdgate.link import Inbox, Message, Word

MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(Word), st.integers(min_value=0, max_value=2**32 - 1), st.binary(max_size=300))
)


@given(MESSAGES, st.integers(min_value=1, max_value=50))
def test_they_arrive_whole_however_they_are_read(messages: list[Message], portion: int) -> None:
    sent = b"".join(bytes(each) for each in messages)
    inbox = Inbox()
    heard = [each for at in range(0, len(sent), portion) for each in inbox.feed(sent[at : at + portion])]
    assert heard == messages
