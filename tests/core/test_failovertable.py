"""The table of the failover contract has a row for everything there is."""

from herdgate.failovertable import AFTER_THE_FIRST_BYTE, BEFORE_THE_FIRST_EVENT, Replies
from herdgate.failure import Kind, Phase


def test_every_kind_and_phase_has_a_row() -> None:
    assert {row.failure.kind for row in BEFORE_THE_FIRST_EVENT} == set(Kind)
    assert {row.failure.phase for row in BEFORE_THE_FIRST_EVENT} == set(Phase) - {Phase.STREAM}


def test_every_kind_of_reply_has_an_end_when_its_connection_breaks() -> None:
    ends = next(row.ends for row in AFTER_THE_FIRST_BYTE if row.key == "stream-reset")
    assert set(ends) == {Replies.NDJSON, Replies.SSE, Replies.WHOLE}
