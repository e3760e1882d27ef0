"""A reply as a value: status, headers, and the events of its body, in the dialect of the path that was asked."""

from collections.abc import Callable
from dataclasses import dataclass

from herdgate.testing.simulation.models import SimModel
from herdgate.testing.simulation.parts import End, Event, Head, Headers, Part, Pause

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
_UNCHUNKED = 2048  # Go sends a reply that fits its buffer with a Content-Length, a larger one in chunks


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a family of paths says that something went wrong."""

    error: Callable[[int, str], bytes]
    """Body of an error reply, from status and text."""
    late: Callable[[str], tuple[bytes, ...]]
    """The last events of a stream that fails after its first event; Ollama's SSE paths send next to nothing."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the simulated backend is going to answer."""

    status: int
    content_type: str
    events: tuple[bytes, ...]
    dialect: Dialect
    streaming: bool = False
    headers: Headers = ()
    loads: SimModel | None = None
    """The model that must be in memory before the first event."""
    keep: float = 300.0
    """How many seconds that model stays in memory; 0: it is thrown out."""

    def parts(self, pace: float = 0.0) -> list[Part]:
        """The reply as steps, with ``pace`` seconds before every event but the first."""
        typed = (("Content-Type", self.content_type),) if self.content_type else ()
        size = sum(map(len, self.events))
        length = None if self.streaming or size > _UNCHUNKED else size
        parts: list[Part] = [Head(self.status, (*typed, *self.headers), length)]
        for i, data in enumerate(self.events):
            if i and pace:
                parts.append(Pause(pace))
            parts.append(Event(data))
        return [*parts, End()]


def whole(status: int, body: bytes, content_type: str, dialect: Dialect) -> Reply:
    """A reply that is no stream."""
    return Reply(status, content_type, (body,) if body else (), dialect)


def refusal(status: int, text: str, dialect: Dialect) -> Reply:
    """An error in the dialect's shape."""
    return whole(status, dialect.error(status, text), JSON, dialect)
