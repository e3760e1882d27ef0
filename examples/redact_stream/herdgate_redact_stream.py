"""Take words out of models' replies. A Herdgate plugin.

A model speaks in pieces of a few letters, each an event of its own, so a word to be taken out may begin in one event
and end in another. Events are therefore held back for as long as their text may be the beginning of such a word, and no
longer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from herdgate import Head, hookimpl
from pydantic import BaseModel, Field, SecretStr, model_validator

TEXTS = frozenset({"response", "content", "thinking", "text", "delta", "reasoning", "reasoning_content", "refusal"})
"""The keys under which the dialects of Ollama, OpenAI and Anthropic carry what a model says."""

STREAMS = frozenset({"application/x-ndjson", "text/event-stream"})

Word = Annotated[SecretStr, Field(min_length=1)]
Path = tuple[str, ...]


class RedactStream:
    """Replaces words in everything that models say, streamed or not. Letters count as they are written."""

    herdgate_api = 1

    class Settings(BaseModel):
        """What the entry in plugins.toml may say."""

        words: tuple[Word, ...] = Field(min_length=1, description="What must not appear in a reply.")
        replacement: str = Field(default="[removed]", description="What appears in its place.")

        @model_validator(mode="after")
        def _ends(self) -> Self:
            if any(word.get_secret_value() in self.replacement for word in self.words):
                raise ValueError("the replacement holds one of the words")
            return self

    def __init__(self, settings: Settings) -> None:
        words = {word.get_secret_value() for word in settings.words}
        self._words = tuple(sorted(words, key=len, reverse=True))
        self._replacement = settings.replacement

    @hookimpl
    def filter_stream(self, head: Head) -> Redaction | Whole:
        """A new filter for each reply."""
        if head.content_type in STREAMS:
            return Redaction(self._words, self._replacement)
        return Whole(self._words, self._replacement, is_json=head.content_type == "application/json")


@dataclass
class Event:
    """One line of a reply. `texts` are the places in it where a model speaks."""

    line: bytes
    prefix: bytes = b""
    value: Any = None
    texts: dict[Path, str] = field(default_factory=dict)
    changed: bool = False

    def __bytes__(self) -> bytes:
        if not self.changed:
            return self.line
        end = b"\n" if self.line.endswith(b"\n") else b""
        value = _with_texts(self.value, self.texts)
        return self.prefix + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + end


class Redaction:
    """The filter of one stream of lines: each is a JSON document, or has one after `data:`.

    Raises ValueError for a line that it cannot read: what was not looked at must not pass.
    """

    def __init__(self, words: Sequence[str], replacement: str) -> None:
        self._words = words
        self._replacement = replacement
        self._rest = b""
        self._held: list[Event] = []

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete and say nothing that might go on to be one of the words."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._held.extend(_read(line + b"\n") for line in lines)
        return self._released(self._redacted())

    def finish(self) -> bytes:
        """Everything that is left."""
        self._held.append(_read(self._rest))
        self._redacted(ended=True)
        return self._released(len(self._held))

    def _released(self, count: int) -> bytes:
        released = b"".join(map(bytes, self._held[:count]))
        del self._held[:count]
        return released

    def _redacted(self, *, ended: bool = False) -> int:
        """Take the words out of what is held. Returns how many events may go: those before the first doubtful one."""
        free = len(self._held)
        for path in {path for event in self._held for path in event.texts}:
            spoken = [(number, event) for number, event in enumerate(self._held) if path in event.texts]
            pieces = [event.texts[path] for _, event in spoken]
            new, doubtful = redacted(pieces, self._words, self._replacement, ended=ended)
            for (_, event), piece, text in zip(spoken, pieces, new, strict=True):
                event.texts[path] = text
                event.changed = event.changed or text != piece
            if doubtful < len(spoken):
                free = min(free, spoken[doubtful][0])
        return free


class Whole:
    """The filter of a reply that is one JSON document, or plain text: it is looked at when it is complete."""

    def __init__(self, words: Sequence[str], replacement: str, *, is_json: bool) -> None:
        self._words = words
        self._replacement = replacement
        self._is_json = is_json
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Nothing yet."""
        self._pieces.append(data)
        return b""

    def finish(self) -> bytes:
        """The whole reply."""
        body = b"".join(self._pieces)
        if not self._is_json:
            return self._clean(body.decode()).encode()
        event = Event(body, b"", value := json.loads(body), dict(_texts(value)))
        clean = {path: self._clean(text) for path, text in event.texts.items()}
        event.changed, event.texts = clean != event.texts, clean
        return bytes(event)

    def _clean(self, text: str) -> str:
        (clean,), _ = redacted([text], self._words, self._replacement, ended=True)
        return clean


def redacted(
    pieces: Sequence[str], words: Sequence[str], replacement: str, *, ended: bool = False
) -> tuple[list[str], int]:
    """The pieces of one text without the words, and the first piece that may belong to a word that is yet to end.

    A word that lies in several pieces is replaced in the one in which it begins. `words` come longest first. Once the
    text has `ended`, nothing is in doubt.
    """
    text = "".join(pieces)
    owner = [number for number, piece in enumerate(pieces) for _ in piece]
    new: list[list[str]] = [[] for _ in pieces]
    at = 0
    while at < len(text):
        if not ended and _begins(text, at, words):
            break
        word = next((word for word in words if text.startswith(word, at)), None)
        new[owner[at]].append(text[at] if word is None else replacement)
        at += 1 if word is None else len(word)
    for place in range(at, len(text)):
        new[owner[place]].append(text[place])
    return ["".join(each) for each in new], owner[at] if at < len(text) else len(pieces)


def _begins(text: str, at: int, words: Sequence[str]) -> bool:
    """Whether the text from here on is the beginning of a longer word."""
    left = len(text) - at
    return any(len(word) > left and word.startswith(text[at:]) for word in words)


def _read(line: bytes) -> Event:
    """A line with the texts in it; one without any if it is empty, a field of SSE, or the end of a stream."""
    prefix, value = b"", line.strip()
    if value.startswith(b"data:"):
        prefix, value = b"data: ", value.removeprefix(b"data:").strip()
    elif value.startswith((b"event:", b"id:", b"retry:", b":")):
        return Event(line)
    if value in {b"", b"[DONE]"}:
        return Event(line)
    document = json.loads(value)
    return Event(line, prefix, document, dict(_texts(document)))


def _texts(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Everything that a model says in a document, with the place where it says it."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in TEXTS and isinstance(each, str):
                yield (*path, key), each
            else:
                yield from _texts(each, (*path, key))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _texts(each, (*path, _place(each, place)))


def _place(value: object, place: int) -> str:
    """What tells the items of a list apart: the choices of an answer come one at a time, each with its `index`."""
    index = value.get("index", place) if isinstance(value, dict) else place
    return f"#{index}"


def _with_texts(value: Any, texts: dict[Path, str], path: Path = ()) -> Any:
    """The document with other texts in the same places."""
    if isinstance(value, dict):
        return {key: _with_texts(each, texts, (*path, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_texts(each, texts, (*path, _place(each, place))) for place, each in enumerate(value)]
    return texts.get(path, value) if isinstance(value, str) else value
