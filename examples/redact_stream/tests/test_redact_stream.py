from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from herdgate import Head
from herdgate.testing import SimulatedOllama, assert_plugin_is_well_behaved, gateway_with
from herdgate.testing.faults import Events
from pydantic import ValidationError

from herdgate_redact_stream import RedactStream, redacted

WORDS = ("open sesame", "open", "Osprey")
NDJSON, SSE = "application/x-ndjson", "text/event-stream"


def plugin(*words: str) -> RedactStream:
    return RedactStream(RedactStream.Settings.model_validate({"words": words or WORDS, "replacement": "***"}))


def said(*pieces: str) -> bytes:
    """A chat as Ollama streams it."""
    events = [{"message": {"role": "assistant", "content": piece}, "done": False} for piece in pieces]
    return b"".join(json.dumps(event).encode() + b"\n" for event in [*events, {"done": True}])


def passed(body: bytes, content_type: str = NDJSON, cut: int = 0, words: Sequence[str] = ()) -> bytes:
    """What the filter makes of a body that comes in pieces of this many bytes."""
    filter_ = plugin(*words).filter_stream(Head(200, {"content-type": content_type}))
    size = cut or len(body)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(map(filter_.feed, chunks)) + filter_.finish()


def content(body: bytes) -> str:
    return "".join(json.loads(line).get("message", {}).get("content", "") for line in body.splitlines())


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    ("pieces", "left"),
    [
        (["say open sesame now"], "say *** now"),
        (["say op", "en se", "same now"], "say *** now"),
        (list("say open sesame now"), "say *** now"),
        (["open ses", "ams"], "*** sesams"),
        (["open"], "***"),
        (["ope", "ope", "open"], "opeope***"),
        (["OspreyOs", "prey", "Ospre"], "******Ospre"),
        (["nothing"], "nothing"),
    ],
)
def test_a_word_is_found_wherever_the_stream_was_cut(pieces: list[str], left: str, cut: int) -> None:
    body = passed(said(*pieces), cut=cut)
    assert content(body) == left
    assert json.loads(body.splitlines()[-1]) == {"done": True}


def test_an_event_is_held_only_while_it_may_begin_a_word() -> None:
    filter_ = plugin().filter_stream(Head(200, {"content-type": NDJSON}))
    events = [line + b"\n" for line in said("hello ", "op", "era").splitlines()]
    assert [filter_.feed(event) for event in events] == [events[0], b"", events[1] + events[2], events[3]]


def test_what_is_clean_passes_byte_for_byte() -> None:
    body = b'{"message": {"content":"caf\\u00e9"},  "done":false}\n\n{"done":true}'
    assert passed(body, cut=5) == body


def test_the_choices_of_one_answer_are_kept_apart() -> None:
    events = [{"choices": [{"index": index, "delta": {"content": text}}]} for index, text in enumerate(["op", "en"])]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    assert passed(body, SSE) == body


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"index": 0, "delta": {"content": "Osprey", "reasoning_content": "Osprey"}}]},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Osprey"}},
        {"type": "response.output_text.delta", "delta": "Osprey"},
        {"response": "Osprey", "thinking": "Osprey"},
    ],
)
def test_every_dialect(event: dict[str, object]) -> None:
    body = b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n"
    left = passed(body, SSE)
    assert b"Osprey" not in left
    assert b"***" in left
    assert left.startswith(b"event: x\ndata: {")
    assert left.endswith(b"}\n\n")


def test_a_complete_reply() -> None:
    parts = [{"type": "text", "text": "Osprey one"}, {"type": "text", "text": "two"}]
    body = json.dumps({"content": parts, "model": "Osprey"}, indent=1).encode()
    left = json.loads(passed(body, "application/json", cut=4))
    assert left == {"content": [{"type": "text", "text": "*** one"}, parts[1]], "model": "Osprey"}


def test_plain_text_such_as_subtitles() -> None:
    assert passed("für Osprey\n".encode(), "text/plain", cut=1) == "für ***\n".encode()


@pytest.mark.parametrize(
    ("body", "kind"), [(b"{broken\n", NDJSON), (b"data: broken\n\n", SSE), (b"\xff", "text/plain")]
)
def test_what_cannot_be_read_does_not_pass(body: bytes, kind: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|can't decode"):
        passed(body, kind)


def test_long_texts_are_no_problem() -> None:
    text = "ope" * 100_000
    assert redacted([text], ["open"], "***") == ([text], 0)


@pytest.mark.parametrize("settings", [{"words": []}, {"words": [""]}, {"words": ["a"], "replacement": "[a]"}])
def test_settings_that_make_no_sense(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RedactStream.Settings.model_validate(settings)


async def test_in_a_gateway() -> None:
    async with SimulatedOllama("first") as first:
        first.script("/api/chat", Events(tuple(said("it is op", "en").splitlines(keepends=True))))
        async with gateway_with(RedactStream, first, settings={"words": WORDS, "replacement": "***"}) as gateway:
            streamed = await gateway.chat(stream=True)
            whole = await gateway.chat()
    assert content(streamed.content) == "it is ***"
    assert whole.json()["message"]["content"]


def test_it_is_well_behaved() -> None:
    assert_plugin_is_well_behaved(RedactStream, {"words": ["backend"]})
