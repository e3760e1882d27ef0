"""One request on its way through the gateway: what is known of it so far, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import IntEnum, StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from herdgate.access import Identity
from herdgate.backend import Backend, Candidate, ModelEntry
from herdgate.body import Body
from herdgate.failure import Failure, Kind
from herdgate.names import ModelName
from herdgate.sendable import check_body, check_header, check_headers, check_line
from herdgate.surface import Endpoint, Family, family_of, find

CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "x-api-key", "cookie"})


class Stage(IntEnum):
    """How far a request has come. It only ever moves forward."""

    RECEIVED = 0
    AUTHENTICATED = 1
    ADMITTED = 2
    AUTHORISED = 3
    ATTEMPTING = 4
    COMMITTED = 5
    """The first byte of a backend's reply has gone to the client: nothing can be tried again."""
    ENDED = 6


class Outcome(StrEnum):
    """How a request ended, seen from the client."""

    ANSWERED = "answered"
    """A complete reply, the gateway's own or a backend's."""
    REFUSED = "refused"
    """The gateway said no: 4xx of its own making."""
    DENIED = "denied"
    """The generic 403. Nothing here tells a model that does not exist from one that is not allowed."""
    FAILED = "failed"
    """No backend could answer; nothing of a reply had been sent."""
    BROKEN = "broken"
    """A stream broke after its first byte and ended with an in-band error or a cut connection."""
    CLIENT_LEFT = "client_left"
    ERROR = "error"
    """A fault of the gateway itself."""


class AttemptOutcome(StrEnum):
    """How an attempt stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """The reply went to the client, whole."""
    FAILED = "failed"
    ABANDONED = "abandoned"
    """The client left, or the gateway's own deadline passed: this says nothing about the backend."""


class Attempt(msgspec.Struct, eq=False):
    """One try at one backend. `around_attempt` sees it before and after.

    `failure` is set when `outcome` is FAILED; `status` is the status of the backend's reply. `sent_at` is the time, on
    the clock of `time.monotonic()`, at which the backend began to be asked; None before. `first_event_after` is the
    time in seconds from then to the first complete event. `left_because` and `stop_waiting` belong to `leave`.
    """

    number: int
    candidate: Candidate
    outcome: AttemptOutcome = AttemptOutcome.RUNNING
    failure: Failure | None = None
    status: int | None = None
    sent_at: float | None = None
    first_event_after: float | None = None
    left_because: str | None = None
    stop_waiting: Callable[[], None] | None = None

    def leave(self, reason: str) -> None:
        """Do not wait for this backend any longer: the attempt fails as DEAD, and the next candidate is tried.

        Without effect unless the attempt waits for its first event.
        """
        if self.stop_waiting is not None and self.left_because is None:
            self.left_because = reason
            self.stop_waiting()

    @property
    def backend(self) -> Backend:
        """The backend that is tried."""
        return self.candidate.backend

    @property
    def model(self) -> ModelEntry:
        """The model as this backend lists it."""
        return self.candidate.model

    @property
    def skipped(self) -> bool:
        """Whether the backend was passed over, because it is full, say: nothing was sent to it."""
        return self.failure is not None and self.failure.kind is Kind.SKIPPED

    def failed(self, failure: Failure) -> None:
        """Note why the attempt failed."""
        self.outcome, self.failure = AttemptOutcome.FAILED, failure


class UpstreamRequest(msgspec.Struct, frozen=True):
    """What will be sent to a backend, before the backend's own address and credentials are added.

    `path` comes from the table of endpoints, never from the client. `headers` have lower-case names and hold no
    credentials of the client.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method} {self.path}, {len(self.body)} bytes)"  # neither credentials nor prompts

    def with_path(self, path: str) -> UpstreamRequest:
        """The same request to another path, such as `/api/chat`. Raises TypeError, ValueError."""
        check_line(self.method, path)
        return msgspec.structs.replace(self, path=path)

    def with_body(self, body: bytes) -> UpstreamRequest:
        """The same request with another body, the bytes as they are sent. Raises TypeError."""
        check_body(body)
        return msgspec.structs.replace(self, body=body)

    def with_header(self, name: str, value: str) -> UpstreamRequest:
        """The same request with this header set, replacing earlier ones of that name.

        Raises TypeError or ValueError for what HTTP does not allow in a name or a value.
        """
        lowered = name.lower() if isinstance(name, str) else name
        check_header(lowered, value)
        kept = tuple(pair for pair in self.headers if pair[0] != lowered)
        return msgspec.structs.replace(self, headers=(*kept, (lowered, value)))


def sendable(given: UpstreamRequest, returned: UpstreamRequest) -> UpstreamRequest:
    """What a plugin made of a request, once it is sure that it can be sent: a plugin may have built it without the
    methods above. Raises TypeError, ValueError.
    """
    if returned.path is not given.path or returned.method is not given.method:
        check_line(returned.method, returned.path)
    if returned.headers is not given.headers:
        check_headers(returned.headers, given.headers)
    check_body(returned.body)
    return returned


class Head(msgspec.Struct, frozen=True):
    """Status and headers of a backend's reply. Header names are lower-case.

    `content_type` is the media type without parameters, in lower case; empty if there is none.
    """

    status: int
    headers: Mapping[str, str]
    content_type: str = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "content_type", _media_type(self.headers.get("content-type", "")))
        msgspec.structs.force_setattr(self, "headers", MappingProxyType(self.headers))


@lru_cache(maxsize=64)
def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


class Exchange:
    """One request and what is known of it. The core fills it in; plugins read it, and may leave each other `notes`.

    It holds no credentials: they are seen by `authenticate` alone. `started` is `time.monotonic()`.
    """

    __slots__ = (
        "_headers",
        "attempts",
        "body",
        "client",
        "endpoint",
        "family",
        "id",
        "identity",
        "method",
        "model",
        "notes",
        "path",
        "stage",
        "started",
        "streaming",
        "unloads",
    )

    def __init__(
        self, identifier: str, *, method: str, path: str, client: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.id = identifier
        self.method = method
        self.path = path
        self.client = client
        self.endpoint: Endpoint | None = find(path)
        self.family: Family = self.endpoint.family if self.endpoint else family_of(path)
        self.started = time.monotonic()
        self.stage = Stage.RECEIVED
        self.identity: Identity | None = None
        self.body: Body | None = None
        self.model: ModelName | None = None
        self.streaming = False
        self.unloads = False
        self.attempts: tuple[Attempt, ...] = ()
        self.notes: dict[str, Any] = {}
        self._headers: Mapping[str, str] = headers or {}

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers by lower-case name, without those that carry credentials."""
        return MappingProxyType(
            {
                lowered: value
                for name, value in self._headers.items()
                if (lowered := name.lower()) not in CREDENTIAL_HEADERS
            }
        )

    @property
    def explaining(self) -> bool:
        """Whether nobody sent this request: an admin asks what would become of it, and why. Count nothing for it."""
        return False

    def explain(self, reason: str, *values: object) -> None:
        """Say why you decide as you do, to admins who run `proxyctl explain`.

        Like a log line, `reason % values` is put together only when somebody listens; for an ordinary request this
        does nothing. Never put a secret into it.
        """

    def advance(self, stage: Stage) -> None:
        """Note that the request has come further."""
        if stage <= self.stage:
            raise RuntimeError(f"request {self.id} cannot go from {self.stage.name} to {stage.name}")
        record(self, "stage", stage)

    @property
    def committed(self) -> bool:
        """Whether a backend's reply has begun to go to the client."""
        return self.stage >= Stage.COMMITTED

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.method} {self.path} {self.stage.name.lower()}>"


record = object.__setattr__
"""`record(exchange, "model", model)`: how the core, and nobody else, writes into an exchange that plugins see."""


class SealedExchange(Exchange):
    """An exchange of a request that is served: plugins read it, and write into its `notes` alone."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"plugins cannot change the {name} of an exchange: what they have to say goes into its notes"
        )


def sealed(exchange: Exchange) -> Exchange:
    """The same object, in which nothing can be set any more but by `record`."""
    exchange.__class__ = SealedExchange
    return exchange


class Summary(msgspec.Struct, frozen=True):
    """What `exchange_ended` is told. Times are seconds since the request arrived.

    `backend` is the name of the backend whose reply was sent, if any. `tail` holds the last bytes of that reply, enough
    for its final event, so that tokens can be counted without a filter in the stream; a reply that does not stream is
    in it whole, unless that is too long to be held. `sent` counts bytes of the body.
    """

    # As immutable as a frozen dataclass, and made in a tenth of the time.
    exchange: Exchange
    outcome: Outcome
    status: int
    seconds: float
    sent: int = 0
    first_byte_after: float | None = None
    tail: bytes = b""
    backend: str | None = None

    def __repr__(self) -> str:
        told = ((name, getattr(self, name)) for name in self.__struct_fields__ if name != "tail")  # what users write
        return f"Summary({', '.join(f'{name}={value!r}' for name, value in told)})"
