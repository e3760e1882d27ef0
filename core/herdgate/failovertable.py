"""The failover contract as a table: what can happen in each phase of an attempt, and what it is taken for.

Whether another backend is tried, and what the caller gets when none is left, follow from the failure
(`default_verdict`, `conclude`). `docs/failover.md` is made from this table, and each cell of it is tried over real
sockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType

from herdgate.failure import Failure, Kind, Phase
from herdgate.surface import Family


class Replies(StrEnum):
    """To which requests a row applies."""

    ALL = "all"
    STREAMED = "streamed"
    NDJSON = "streamed, Ollama's API"
    SSE = "streamed, OpenAI's or Anthropic's API"
    WHOLE = "not streamed"

    def concern(self, family: Family, *, streamed: bool) -> bool:
        """Whether a request of this kind is meant."""
        if not streamed:
            return self in {Replies.ALL, Replies.WHOLE}
        line_by_line = family is Family.OLLAMA
        return self in {Replies.ALL, Replies.STREAMED, Replies.NDJSON if line_by_line else Replies.SSE}


@dataclass(frozen=True, slots=True)
class Happening:
    """One row, up to the first event: what a backend does, in words, and what that is taken for."""

    key: str
    what: str
    failure: Failure
    replies: Replies = Replies.ALL


class End(Enum):
    """How a reply ends that had begun to go to the client."""

    ERROR = "an error in the stream"
    PASSES = "as the backend ended it"
    CUT = "the connection is cut"


@dataclass(frozen=True, slots=True)
class Break:
    """One row after the first byte: nothing is tried again, so all that is left to say is how the reply ends."""

    key: str
    what: str
    ends: Mapping[Replies, End] = field(hash=False)


def _before(phase: Phase, *rows: tuple[str, Kind, str] | tuple[str, Kind, str, Replies]) -> Iterable[Happening]:
    for key, kind, what, *replies in rows:
        message = ERROR_TEXT if kind is Kind.ERROR_EVENT and key != "swallowed_error" else None
        yield Happening(f"{phase}-{key}", what, Failure(kind, phase, what, message=message), *replies)


def _status(codes: Iterable[int], what: str = "") -> Iterable[Happening]:
    for code in codes:
        failure = Failure(Kind.STATUS, Phase.OPENING, f"status {code}", code, ERROR_TEXT)
        yield Happening(f"status-{code}", f"the status {code}{what}", failure)


ERROR_TEXT = "the backend's own words"
"""Stands for what a backend says about its error."""

BEFORE_THE_FIRST_EVENT: tuple[Happening, ...] = (
    *_before(
        Phase.CONNECT,
        ("refused", Kind.UNREACHABLE, "the connection is refused"),
        ("no_answer", Kind.TIMEOUT, "the machine does not answer within `connect_timeout`"),
        ("no_host", Kind.UNREACHABLE, "its host name cannot be resolved"),
        ("tls", Kind.UNREACHABLE, "TLS fails"),
        ("skipped", Kind.SKIPPED, "a plugin skips it: it is full, say"),
        ("plugin", Kind.PLUGIN, "a plugin fails while the attempt is prepared"),
    ),
    *_before(
        Phase.SENT,
        ("reset", Kind.BROKEN, "the connection is reset"),
        ("closed", Kind.BROKEN, "the connection is closed"),
        ("not_http", Kind.BROKEN, "the reply is not HTTP"),
        ("huge_headers", Kind.BROKEN, "the headers of the reply do not end within 64 KiB"),
        ("interim", Kind.BROKEN, "more than 8 interim replies (1xx)"),
        ("silent", Kind.TIMEOUT, "silence for `first_event_timeout`"),
        ("dead", Kind.DEAD, "the backend dies: it answers nothing any more, nor a question on another connection"),
    ),
    *_status((301,), ", a redirect"),
    *_status((400, 413, 415, 422, 499)),
    *_status((401, 403)),
    *_status((404,), " for a model that it had"),
    *_status((408, 429)),
    *_status((418,), ", or any other 4xx"),
    *_status((500, 502, 503, 504)),
    *_status((507,), ", or any other 5xx"),
    *_before(
        Phase.OPENING,
        ("reset", Kind.BROKEN, "the connection is reset after the headers"),
        ("closed", Kind.BROKEN, "the connection is closed after the headers"),
        (
            "closed_inside",
            Kind.BROKEN,
            "the connection is closed inside the first event, or inside a reply in one piece",
        ),
        ("ended_inside_line", Kind.MALFORMED, "the reply ends inside its first line", Replies.NDJSON),
        ("ended_inside_event", Kind.BROKEN, "the reply ends inside its first event", Replies.SSE),
        ("short", Kind.BROKEN, "fewer bytes come than were announced", Replies.WHOLE),
        ("silent", Kind.TIMEOUT, "silence after the headers for `first_event_timeout`"),
        ("dead", Kind.DEAD, "the backend dies after the headers"),
        ("other_success", Kind.MALFORMED, "a success other than 200 and 201: a part of a reply (206), say"),
        ("empty", Kind.EMPTY, "a success without a body"),
        ("not_json", Kind.MALFORMED, "the first event, or the reply, is something else than this path sends"),
        ("html", Kind.MALFORMED, "a success of another content type: an HTML page, say"),
        ("endless", Kind.MALFORMED, "no end of the first event within 8 MB", Replies.STREAMED),
        ("error_event", Kind.ERROR_EVENT, "a success whose first event, or whole body, is an error"),
        ("swallowed_error", Kind.ERROR_EVENT, "a success whose first event is Ollama's sign of an error", Replies.SSE),
    ),
)
"""The rows of the phases before anything has gone to the client."""


def _break(key: str, what: str, ndjson: End | None, sse: End | None, whole: End | None = None) -> Break:
    ends = {Replies.NDJSON: ndjson, Replies.SSE: sse, Replies.WHOLE: whole}
    return Break(f"{Phase.STREAM}-{key}", what, MappingProxyType({of: end for of, end in ends.items() if end}))


AFTER_THE_FIRST_BYTE: tuple[Break, ...] = (
    _break("reset", "the connection is reset", End.ERROR, End.ERROR, End.CUT),
    _break("closed", "the connection is closed", End.ERROR, End.ERROR, End.CUT),
    _break("closed_inside", "the connection is closed inside an event", End.ERROR, End.ERROR),
    _break("torn", "the framing of HTTP breaks off", End.ERROR, End.ERROR),
    _break("silent", "silence for `idle_timeout`", End.ERROR, End.ERROR, End.CUT),
    _break("ended_inside", "the stream ends inside an event", End.ERROR, End.ERROR),
    _break("ended", "the stream ends without its terminal event (`done`, `[DONE]`)", End.PASSES, End.ERROR),
    _break(
        "unframed",
        "the same where HTTP does not tell the end of the stream, so that a closed connection looks like it",
        End.ERROR,
        End.ERROR,
    ),
    _break(
        "error_event",
        "Ollama reports an error, or swallows it where its API has no words for it",
        End.PASSES,
        End.ERROR,
    ),
)
"""The rows of the last phase. Replies that are not streamed get there only if they are longer than what is held."""
