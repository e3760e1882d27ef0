"""What can go wrong between a gateway and a backend, as small values. See `SimulatedOllama.script`.

Each fault is a pure change of the steps by which a reply goes out. Several for one request are applied from left to
right: write first what replaces content (`Events`), then breaks and pauses, last what only repackages (`Slice`). A
refused connection needs no fault: stop the backend. What is random comes from a seed and is the same in every run.
"""

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from herdgate.testing.simulation.fault import Fault as Fault
from herdgate.testing.simulation.fault import Moment, Plan
from herdgate.testing.simulation.parts import (
    After,
    Break,
    End,
    Endless,
    Event,
    Flush,
    Head,
    Headers,
    Part,
    Pause,
    Raw,
    Torn,
    cut_at,
    fit_length,
)
from herdgate.testing.simulation.reply import JSON, whole


@dataclass(frozen=True)
class Normal(Fault):
    """No fault: a place in a script for a request that is answered as always."""

    benign: ClassVar[bool] = True


@dataclass(frozen=True)
class ResetOnAccept(Fault):
    """RST as soon as the connection is open. Happens before any request, so a script's path and model play no part."""

    moment: ClassVar[Moment] = "accept"


@dataclass(frozen=True)
class Hang(Fault):
    """Silence at a place in the reply: for ever, or until ``until`` is set, after which the reply goes on."""

    after: After = "nothing"
    until: asyncio.Event | None = field(default=None, compare=False)
    benign: ClassVar[bool] = True

    def _apply(self, plan: Plan) -> list[Part]:
        before, rest = cut_at(plan.parts, self.after)
        sent: list[Part] = [] if self.after == "nothing" else [Flush()]
        return [*before, *sent, Pause(until=self.until), *rest]


@dataclass(frozen=True)
class Delay(Fault):
    """Seconds before the headers and the first event, which Ollama sends together: a model that is being loaded."""

    seconds: float
    benign: ClassVar[bool] = True

    def _apply(self, plan: Plan) -> list[Part]:
        return [Pause(self.seconds), *plan.parts]


@dataclass(frozen=True)
class Slow(Fault):
    """Seconds before every event."""

    seconds: float
    benign: ClassVar[bool] = True

    def _apply(self, plan: Plan) -> list[Part]:
        wait = Pause(self.seconds)
        return [step for part in plan.parts for step in ((wait, part) if isinstance(part, Event) else (part,))]


@dataclass(frozen=True)
class Status(Fault):
    """Another status. ``body`` as text is the message of an error in the dialect's shape; as bytes it is sent as is."""

    code: int
    body: str | bytes = "simulated failure"
    content_type: str = JSON
    headers: Headers = ()

    def _apply(self, plan: Plan) -> list[Part]:
        body = plan.reply.dialect.error(self.code, self.body) if isinstance(self.body, str) else self.body
        return replace(whole(self.code, body, self.content_type, plan.reply.dialect), headers=self.headers).parts()


@dataclass(frozen=True)
class EarlyReply(Status):
    """A status after the request's head, then the end with the body unread; it strikes whatever the model is."""

    moment: ClassVar[Moment] = "head"

    def _apply(self, plan: Plan) -> list[Part]:
        return [part if not isinstance(part, End) else Break("close") for part in super()._apply(plan)]


@dataclass(frozen=True)
class EmptyOk(Fault):
    """The headers of a success, streamed or not, and not one byte of body."""

    def _apply(self, plan: Plan) -> list[Part]:
        return replace(plan.reply, events=()).parts()


@dataclass(frozen=True)
class Events(Fault):
    """The headers of the normal reply, but these events, exactly these bytes: a tool call, a line without end, …"""

    events: tuple[bytes, ...]

    def _apply(self, plan: Plan) -> list[Part]:
        return replace(plan.reply, events=self.events).parts(plan.pace)


@dataclass(frozen=True)
class FirstEvent(Fault):
    """These bytes instead of the first event: a broken line, an error object, a blank line, …"""

    raw: bytes

    def _apply(self, plan: Plan) -> list[Part]:
        return replace(plan.reply, events=(self.raw, *plan.reply.events[1:])).parts(plan.pace)


@dataclass(frozen=True)
class ErrorEvent(Fault):
    """A failure after so many events, told as Ollama tells it: on native paths a last line ``{"error": …}``; on SSE
    paths almost nothing, and no terminator. A reply that is no stream becomes a 500.

    ``after=0`` is what Ollama < 0.12.6 does for every failure of a stream: 200 with the error on the first line.
    """

    after: int = 1
    message: str = "an error was encountered while running the model: simulated"

    def _apply(self, plan: Plan) -> list[Part]:
        if not plan.reply.streaming:
            return Status(500, self.message)._apply(plan)
        before, _ = cut_at(plan.parts, self.after)
        return [*before, *(Event(data) for data in plan.reply.dialect.late(self.message)), End()]


@dataclass(frozen=True)
class Cut(Fault):
    """The connection breaks after so many events, without the body's terminator.

    ``within`` says where exactly: between two events, in the middle of the next event though at the end of a chunk
    (``event``), or in the middle of the next event's chunk (``chunk``). ``how``: FIN or RST.
    """

    after: After = 1
    how: Literal["close", "reset"] = "close"
    within: Literal["boundary", "event", "chunk"] = "boundary"

    def _apply(self, plan: Plan) -> list[Part]:
        before, rest = cut_at(plan.parts, self.after)
        following = next((part.data for part in rest if isinstance(part, Event)), b"")
        half = Event(following[: len(following) // 2], whole=False)
        pieces: dict[str, list[Part]] = {"boundary": [], "event": [half], "chunk": [Torn(following)]}
        return [*before, *(pieces[self.within] if following else []), Flush(), Break(self.how)]


@dataclass(frozen=True)
class ResetBeforeHeaders(Cut):
    """The request was read, then RST without a byte of reply."""

    after: After = "nothing"
    how: Literal["close", "reset"] = "reset"


@dataclass(frozen=True)
class CloseBeforeHeaders(Cut):
    """The request was read, then FIN without a byte of reply; what a stale kept connection looks like, too."""

    after: After = "nothing"


@dataclass(frozen=True)
class EndWithoutDone(Fault):
    """A regular end of the body after so many events, but without the protocol's own end (``done``, ``[DONE]``, …).

    Ollama itself does so when a model repeats one token too often. ``mid_event``: half of the next event comes first.
    """

    after: int = 1
    mid_event: bool = False

    def _apply(self, plan: Plan) -> list[Part]:
        before, rest = cut_at(plan.parts, self.after)
        following = next((part.data for part in rest if isinstance(part, Event)), b"")
        half = [Event(following[: len(following) // 2], whole=False)] if self.mid_event and following else []
        return fit_length([*before, *half, End()])


@dataclass(frozen=True)
class Slice(Fault):
    """The body in small pieces, each a chunk and a packet of its own, whose borders never are an event's borders.

    Pieces of ``size`` bytes, with a ``seed`` of random sizes from 2 up to it. The last byte of an event travels with
    the next event, so a client that takes a chunk for an event fails.
    """

    size: int = 7
    seed: int | None = None
    benign: ClassVar[bool] = True

    def _apply(self, plan: Plan) -> list[Part]:
        sizes = random.Random(self.seed)  # noqa: S311 - reproducible on purpose
        carried = b""
        result: list[Part] = []
        for part in plan.parts:
            if isinstance(part, Event):
                data = carried + part.data[:-1]
                carried = part.data[-1:]
                while data:
                    count = self.size if self.seed is None else sizes.randint(min(2, self.size), self.size)
                    piece, data = data[:count], data[count:]
                    result += [Event(piece, whole=part.whole and not data), Pause(0)]
                continue
            if carried and not isinstance(part, Pause):
                result.append(Event(carried, whole=False))
                carried = b""
            result.append(part)
        return result


@dataclass(frozen=True)
class HugeHeaders(Fault):
    """The normal reply behind ``size`` bytes of additional headers."""

    size: int = 1 << 17

    def _apply(self, plan: Plan) -> list[Part]:
        lines = tuple((f"X-Simulated-{i}", "x" * 1000) for i in range(self.size // 1020 + 1))
        return [
            replace(part, headers=(*part.headers, *lines)) if isinstance(part, Head) else part for part in plan.parts
        ]


@dataclass(frozen=True)
class EndlessLine(Fault):
    """After so many events a line that never ends, as fast as the client takes it."""

    after: int = 0
    piece: bytes = b"x" * 65536

    def _apply(self, plan: Plan) -> list[Part]:
        before, _ = cut_at(plan.parts, self.after)
        unbounded = (replace(part, length=None) if isinstance(part, Head) else part for part in before)
        return [*unbounded, Endless(self.piece)]


@dataclass(frozen=True)
class WrongLength(Fault):
    """The whole body at once under a Content-Length that is off by ``by`` bytes.

    Positive: more is announced than comes, then FIN. Negative: bytes are left over on a connection that stays open.
    """

    by: int

    def _apply(self, plan: Plan) -> list[Part]:
        body = b"".join(part.data for part in plan.parts if isinstance(part, Event))
        head = next((part for part in plan.parts if isinstance(part, Head)), Head(plan.reply.status, (), None))
        end: Part = Break("close") if self.by > 0 else End()
        return [replace(head, length=max(0, len(body) + self.by)), Event(body), end]


@dataclass(frozen=True)
class RawReply(Fault):
    """Exactly these bytes instead of an HTTP reply. ``then``: FIN, RST, or keep the connection (``keep``)."""

    data: bytes
    then: Literal["close", "reset", "keep"] = "close"

    def _apply(self, plan: Plan) -> list[Part]:  # noqa: ARG002 - replaces everything
        return [Raw(self.data), End() if self.then == "keep" else Break(self.then)]


@dataclass(frozen=True)
class Garbage(Fault):
    """Random bytes instead of an HTTP reply, then FIN."""

    size: int = 512
    seed: int = 0

    def _apply(self, plan: Plan) -> list[Part]:  # noqa: ARG002 - replaces everything
        return [Raw(random.Random(self.seed).randbytes(self.size)), Break("close")]  # noqa: S311
