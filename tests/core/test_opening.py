import pytest

from herdgate import opening
from herdgate.exchange import Head
from herdgate.failure import Kind, Phase
from herdgate.opening import HOLD_LIMIT, Framing, Opening, framing_of

LINE = b'{"response":"a"}\n'
EVENT = b'data: {"a":1}\n\n'


@pytest.mark.parametrize(
    ("content_type", "may_stream", "framing"),
    [
        ("application/x-ndjson", True, Framing.NDJSON),
        ("application/x-ndjson; charset=utf-8", True, Framing.NDJSON),
        ("Text/Event-Stream", True, Framing.SSE),
        ("application/json; charset=utf-8", True, Framing.WHOLE),
        ("", True, Framing.WHOLE),
        # an endpoint that never streams may still label its JSON so (Ollama's transcriptions do)
        ("application/x-ndjson", False, Framing.WHOLE),
        ("text/event-stream", False, Framing.WHOLE),
    ],
)
def test_the_content_type_says_how_a_reply_is_divided(content_type: str, may_stream: bool, framing: Framing) -> None:
    head = Head(200, {"content-type": content_type} if content_type else {})
    assert framing_of(head, may_stream=may_stream) is framing


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("framing", "first", "rest"),
    [
        (Framing.NDJSON, LINE, LINE),
        (Framing.NDJSON, LINE, b""),
        (Framing.NDJSON, b"\n", LINE),
        (Framing.SSE, EVENT, EVENT),
        (Framing.SSE, EVENT, b""),
        (Framing.SSE, EVENT.replace(b"\n", b"\r\n"), EVENT),
        (Framing.SSE, b"event: message_start\n" + EVENT, EVENT),
        (Framing.SSE, b": waiting\n\n" + EVENT, EVENT),
        (Framing.SSE, b": waiting\r\n\r\n: still\r\n\r\nretry: 5\n\nevent: x\ndata:{}\r\n\r\n", EVENT),
        (Framing.SSE, b"data: one\ndata: two\n\n", b"data: three\n\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_first_event_is_found_however_it_is_cut_up(framing: Framing, first: bytes, rest: bytes, size: int) -> None:
    reading = Opening(framing)
    for piece in pieces(first + rest, size):
        end = reading.feed(piece)
        if end is not None:
            break
    assert end == len(first)
    assert bytes(reading.buffer[:end]) == first
    assert (first + rest).startswith(reading.buffer)


@pytest.mark.parametrize(
    ("framing", "data"),
    [
        (Framing.NDJSON, LINE.rstrip()),
        (Framing.SSE, EVENT.rstrip()),
        (Framing.SSE, b": only a comment\n\n"),
        (Framing.SSE, b"database: no field of this name\n\n"),
        (Framing.WHOLE, b'{"a":1}\n\n' * 10),
    ],
)
def test_what_is_not_complete_is_waited_for(framing: Framing, data: bytes) -> None:
    assert Opening(framing).feed(data) is None


def test_a_reply_that_does_not_stream_is_held_up_to_the_limit() -> None:
    assert HOLD_LIMIT == 8_388_608
    reading = Opening(Framing.WHOLE)
    assert reading.feed(bytes(HOLD_LIMIT)) is None
    assert reading.feed(b"x") == HOLD_LIMIT + 1
    assert reading.overlong() is None


@pytest.mark.parametrize("framing", [Framing.NDJSON, Framing.SSE])
def test_an_event_without_end_is_given_up(framing: Framing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "EVENT_LIMIT", 10)
    reading = Opening(framing)
    reading.feed(b"x" * 10)
    assert reading.overlong() is None
    reading.feed(b"x")
    failure = reading.overlong()
    assert failure is not None
    assert (failure.kind, failure.phase) == (Kind.MALFORMED, Phase.OPENING)


@pytest.mark.parametrize(
    ("framing", "data", "kind"),
    [
        (Framing.NDJSON, b"", Kind.EMPTY),
        (Framing.SSE, b"", Kind.EMPTY),
        (Framing.WHOLE, b"", Kind.EMPTY),
        (Framing.WHOLE, b" \r\n", Kind.EMPTY),
        (Framing.SSE, b": only a comment\n\n", Kind.BROKEN),
        (Framing.SSE, b'data: {"a":1}\n', Kind.BROKEN),
        (Framing.NDJSON, LINE.rstrip(), None),
        (Framing.WHOLE, b'{"a":1}', None),
    ],
)
def test_a_body_that_ends_early_is_a_reply_or_a_failure(framing: Framing, data: bytes, kind: Kind | None) -> None:
    reading = Opening(framing)
    reading.feed(data)
    failure = reading.ended()
    assert (failure.kind if failure else None) is kind


def test_a_long_first_event_in_small_pieces_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = 0

    class Counting:
        def finditer(self, buffer: bytearray, start: int) -> list[object]:
            nonlocal searched
            searched += len(buffer) - start
            return []

    monkeypatch.setattr(opening, "_BLANK_LINE", Counting())
    reading = Opening(Framing.SSE)
    for _ in range(1000):
        reading.feed(b"data: xxxx")
    assert searched < 2 * len(reading.buffer)
