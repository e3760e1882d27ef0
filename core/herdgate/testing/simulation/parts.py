"""A reply taken apart: the steps by which it goes out, so that a fault can be a pure change of the list of steps."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Headers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers. ``length`` None: chunked, or ended by closing if the client speaks HTTP/1.0.

    Ollama sends the head together with the first event, so a head waits for the next step that puts bytes on the wire.
    """

    status: int
    headers: Headers
    length: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of the body, sent as a chunk of its own (if the body is chunked) and flushed.

    ``whole``: an event of the protocol ends with it (False: only a piece that a fault made).
    """

    data: bytes
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Torn:
    """The first half of an event as it stands on the wire: a chunk that announces more than it holds."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes put on the wire as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Endless:
    """A piece of body sent again and again, as fast as the client takes it, until the client leaves."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    """Send what is waiting (the head)."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait ``seconds``, or for ``until``, or (with neither) for ever; the client's leaving always ends it."""

    seconds: float | None = None
    until: asyncio.Event | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class End:
    """The regular end of the body; the connection may be kept."""


@dataclass(frozen=True, slots=True)
class Break:
    """End the connection: ``close`` sends what is waiting, then FIN; ``reset`` sends RST."""

    how: Literal["close", "reset"]


Part: TypeAlias = Head | Event | Torn | Raw | Endless | Flush | Pause | End | Break
Parts: TypeAlias = Sequence[Part]

After: TypeAlias = int | Literal["nothing", "headers"]
"""A place in a reply: before anything was sent, after the headers, or after so many events (0: headers, and a first
event may be torn)."""


def cut_at(parts: Parts, after: After) -> tuple[list[Part], list[Part]]:
    """What comes before and after a place. A place beyond the last event is just before the regular end."""
    if after == "nothing":
        return [], list(parts)
    wanted = 0 if after == "headers" else after
    at = next((i for i, part in enumerate(parts) if isinstance(part, Head)), -1) + 1
    seen = 0
    for i, part in enumerate(parts):
        if seen >= wanted or isinstance(part, End | Break):
            break
        if isinstance(part, Event):
            seen += part.whole
            at = i + 1
    return list(parts[:at]), list(parts[at:])


def fit_length(parts: Parts) -> list[Part]:
    """``parts`` with a Content-Length, where there is one, that fits the events that are left."""
    size = sum(len(part.data) for part in parts if isinstance(part, Event))
    return [
        replace(part, length=size) if isinstance(part, Head) and part.length is not None else part for part in parts
    ]
