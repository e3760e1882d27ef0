import pytest

from herdgate.lastline import ended_well, says_done

LINE = b'{"response":"a","done":false}\n'
DONE = b'{"response":"","done":true}\n'
ERROR = b'{"error":"out of memory"}\n'


@pytest.mark.parametrize(
    ("tail", "delimited", "well"),
    [
        (LINE + DONE, True, True),
        (LINE + DONE, False, True),
        (LINE + DONE.rstrip(), False, True),
        (LINE + DONE + b"\r\n \n", False, True),
        (LINE + ERROR, False, True),
        (LINE, True, True),
        (LINE.rstrip(), True, True),
        (LINE, False, False),
        (LINE.rstrip(), False, False),
        (LINE + b"not JSON\n", True, True),
        (LINE + b"not JSON\n", False, False),
        (LINE + DONE[:-2], True, False),
        (LINE + DONE[:-2], False, False),
        (LINE + b"1", True, False),
        (LINE + b'{"done":"no"}\n', False, False),
        (LINE + b"[" * 100_000, True, False),
        (LINE + b"[" * 100_000 + b"\n", False, False),
        (LINE + b"true", True, False),
    ],
)
def test_a_stream_ends_behind_a_line_and_where_nothing_else_tells_its_end_with_the_last_one(
    tail: bytes, delimited: bool, well: bool
) -> None:
    assert ended_well(tail, whole=True, delimited=delimited) is well


def test_a_line_whose_beginning_was_not_kept_is_believed_if_its_end_is_there() -> None:
    """Ollama's last line has the whole context of a conversation in it."""
    for delimited in (True, False):
        assert ended_well(b'1,2,3],"eval_count":3}\n', whole=False, delimited=delimited)
        assert not ended_well(b"1,2,3", whole=False, delimited=delimited)
    assert not ended_well(b"1,2,3]}\n" + LINE, whole=False, delimited=False)


@pytest.mark.parametrize(
    ("tail", "done"),
    [
        (DONE, True),
        (ERROR, True),
        (LINE, False),
        (DONE.rstrip(), False),
        (b"", False),
        (b"[1]\n", False),
        (b'{"done":"no"}\n', False),
        (b'{"done":1}\n', False),
        (b'{"error":"","done":false}\n', False),
        (b"[" * 100_000 + b"\n", False),
        (b"9" * 5000 + b"\n", False),
    ],
)
def test_whether_everything_is_there(tail: bytes, done: bool) -> None:
    assert says_done(tail) is done
