"""Every way of asking, and what a complete answer to it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MODEL = "llama3.2"
_TEXT = re.compile(r"Hello from simulated backend ([\w-]+)\. You said: (\S+)")


class Verdict(StrEnum):
    """What a caller can say of its request."""

    COMPLETE = "complete"
    LEFT = "left by its caller"
    BROKEN = "broken after commit, and said so"
    FAILED = "failed before commit"
    STOPPING = "503: stopping"
    LOST = "no answer at all"
    LIE = "looks like an answer and is none"


@dataclass(frozen=True)
class Answer:
    """What came back. `body` is what had come when the connection broke, if it did (`whole` is False)."""

    status: int
    body: bytes
    whole: bool
    backend: str | None = None


@dataclass(frozen=True)
class Way:
    """A path, how it is asked, and how its text is found. Embeddings and the like have none."""

    path: str
    stream: bool | None
    asks: Callable[[str], dict[str, object]]
    text: Callable[[bytes], str] | None
    ends: bytes = b""
    """What only a complete stream has in its last event."""

    def body(self, say: str) -> dict[str, object]:
        """The request that says this."""
        stream = {} if self.stream is None else {"stream": self.stream}
        return {"model": MODEL, **stream, **self.asks(say)}

    def judge(self, answer: Answer, say: str) -> Verdict:
        """What this answer to `say` is."""
        if answer.status != 200:
            return self._refused(answer)
        if not answer.whole or (self.stream and not self._ended(answer.body)):
            return Verdict.BROKEN if self._says_so(answer) else Verdict.LIE
        try:
            return Verdict.COMPLETE if self._is_right(answer.body, say) else Verdict.LIE
        except (ValueError, KeyError, IndexError, TypeError):
            return Verdict.LIE

    def _ended(self, body: bytes) -> bool:
        """Whether a stream has what ends a complete one, to its last byte."""
        if self.path.startswith("/api/"):
            return self.ends in body.rstrip(b"\n").rpartition(b"\n")[2]
        _, found, rest = (b"\n" + body).partition(b"\n" + self.ends)
        data, whole, behind = rest.partition(b"\n\n")
        closed_for_it = behind.startswith(b"\n")  # all but the last line end had come: the gateway had to add two
        return bool(found and whole and not closed_for_it) and (not data or _is_json(data.removeprefix(b"\ndata: ")))

    def _says_so(self, answer: Answer) -> bool:
        """Whether nobody can take a broken reply for a complete one. Ollama's own clients look for `done`."""
        return not answer.whole or self.path.startswith("/api/") or b'"error"' in answer.body

    def _refused(self, answer: Answer) -> Verdict:
        try:
            json.loads(answer.body)
        except ValueError:
            return Verdict.LIE if answer.whole else Verdict.FAILED
        return Verdict.STOPPING if b"the gateway is stopping" in answer.body else Verdict.FAILED

    def _is_right(self, body: bytes, say: str) -> bool:
        if self.stream and b'"message":"the model\'s reply' in body:
            return False  # an end and an error
        if self.text is None:
            return "error" not in json.loads(body)
        found = _TEXT.fullmatch(self.text(body))
        return found is not None and found[2] == say


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _lines(body: bytes) -> Iterator[Any]:
    return map(json.loads, body.splitlines())


def _events(body: bytes) -> Iterator[Any]:
    for line in body.splitlines():
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield json.loads(line[6:])


def _chat(say: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": say}]}


def _choices(part: Callable[[Any], str]) -> Callable[[bytes], str]:
    return lambda body: "".join(part(event["choices"][0]) for event in _events(body) if event["choices"])


WAYS = (
    Way("/api/chat", True, _chat, lambda b: "".join(e["message"]["content"] for e in _lines(b)), b'"done":true'),
    Way("/api/chat", False, _chat, lambda b: str(json.loads(b)["message"]["content"])),
    Way(
        "/api/generate",
        True,
        lambda say: {"prompt": say},
        lambda b: "".join(e["response"] for e in _lines(b)),
        b'"done":true',
    ),
    Way("/api/generate", False, lambda say: {"prompt": say}, lambda b: str(json.loads(b)["response"])),
    Way("/api/embed", None, lambda say: {"input": say}, None),
    Way("/api/show", None, lambda _: {}, None),
    Way("/v1/chat/completions", True, _chat, _choices(lambda c: c["delta"].get("content") or ""), b"data: [DONE]"),
    Way("/v1/chat/completions", False, _chat, lambda b: str(json.loads(b)["choices"][0]["message"]["content"])),
    Way("/v1/completions", True, lambda say: {"prompt": say}, _choices(lambda c: c["text"] or ""), b"data: [DONE]"),
    Way("/v1/completions", False, lambda say: {"prompt": say}, lambda b: str(json.loads(b)["choices"][0]["text"])),
    Way("/v1/embeddings", None, lambda say: {"input": say}, None),
    Way(
        "/v1/responses",
        True,
        lambda say: {"input": say},
        lambda b: "".join(e["delta"] for e in _events(b) if e["type"] == "response.output_text.delta"),
        b"event: response.completed",
    ),
    Way(
        "/v1/responses",
        False,
        lambda say: {"input": say},
        lambda b: str(json.loads(b)["output"][0]["content"][0]["text"]),
    ),
    Way(
        "/v1/messages",
        True,
        lambda say: {"max_tokens": 100, **_chat(say)},
        lambda b: "".join(e["delta"].get("text", "") for e in _events(b) if e["type"] == "content_block_delta"),
        b"event: message_stop",
    ),
    Way(
        "/v1/messages",
        False,
        lambda say: {"max_tokens": 100, **_chat(say)},
        lambda b: str(json.loads(b)["content"][0]["text"]),
    ),
)
