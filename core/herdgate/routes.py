"""Paths that plugins answer: what a plugin says of one, and what its handler is given.

The core does everything that must not depend on the plugin: it authenticates, applies limits, asks `authorise` about
the route's action, and turns a denial into the generic 403. A handler runs only for callers that may.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl

from herdgate.access import Action, Identity, Resource
from herdgate.body import BadBody, Body, read_body
from herdgate.errors import Halt, Reply, error_reply
from herdgate.exchange import Exchange, record
from herdgate.names import InvalidModelName, ModelName
from herdgate.responder import BodyTooLarge, Responder

BODY_LIMIT = 1024 * 1024
"""Bytes of a body that a handler reads as a whole, unless it says otherwise."""
ANSWER_WITHIN = 30.0

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_SEGMENTS = re.compile(r"(?:/[A-Za-z0-9_:@$+,;=!*'()~-][A-Za-z0-9_:@$+,;=!*'()~.-]*)+/?")


@dataclass(frozen=True, slots=True)
class StreamedReply:
    """A reply whose end is not known when it begins. If `pieces` raises, the caller sees that it is not complete."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]

    def __post_init__(self) -> None:
        if not hasattr(self.pieces, "__anext__"):
            raise TypeError(f"the pieces of a reply are an async iterator, not {type(self.pieces).__name__}")
        checked = Reply(self.status, self.headers)
        object.__setattr__(self, "headers", checked.headers)


class Ask(Protocol):
    """How a `Call` has the plugins asked. Raises the exception that ends the request with the generic 403."""

    async def __call__(self, action: Action, *resources: Resource) -> None:
        """Return if the caller may do this with all of them."""


class Call:
    """One request to a route, by a caller that is allowed the route's action.

    `exchange` is what is known of the request, `identity` who sent it. `length` are the bytes of the body as the
    request's head gives them: None if it does not, 0 if there is no body.
    """

    __slots__ = ("_ask", "_responder", "exchange", "identity", "length")

    def __init__(self, exchange: Exchange, identity: Identity, responder: Responder, ask: Ask) -> None:
        self.exchange = exchange
        self.identity = identity
        self.length = responder.length
        self._responder = responder
        self._ask = ask

    @property
    def query(self) -> dict[str, str]:
        """The parameters after the path's `?`, decoded; of several with one name the last counts."""
        return dict(parse_qsl(self._responder.query, keep_blank_values=True))

    async def body(self, limit: int = BODY_LIMIT) -> Body:
        """The body, which must be one JSON object, read as strictly as any. Ends the request with 400, 413 or 415."""
        coding = self._responder.headers.get("content-encoding")
        if coding is not None and coding.strip().lower() not in {"", "identity"}:
            raise Halt(self.error(415, f"content-encoding {coding:.40} is not supported here"))
        try:
            body = read_body(await self._responder.body(limit))
        except BodyTooLarge:
            raise Halt(self.error(413, "request body too large")) from None
        except BadBody as error:
            raise Halt(self.error(400, str(error))) from None
        record(self.exchange, "body", body)
        return body

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, of any length and in whatever form. Nothing of it is kept."""
        return self._responder.pieces()

    async def require(self, action: Action, *models: ModelName) -> None:
        """Go on only if the caller may do this with each of these models; else the request ends with the generic 403.

        For what only the body tells. The first model is what logs will say that the request was about.
        """
        if models:
            record(self.exchange, "model", models[0])
        await self._ask(action, *(Resource(model) for model in models))

    def model(self, text: str) -> ModelName:
        """The model of this name. Ends the request with 400 if it is none."""
        try:
            return ModelName.parse(text)
        except InvalidModelName as error:
            raise Halt(self.error(400, str(error))) from None

    def error(self, status: int, message: str) -> Reply:
        """An error in the shape that clients of this path understand."""
        return error_reply(self.exchange.family, status, message, request_id=self.exchange.id)


Handler = Callable[[Call], Awaitable[Reply | StreamedReply]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path that a plugin answers, and the action that a caller must be allowed, about the gateway itself.

    A `path` that ends in `/` stands for every path below it. `deadline` is the number of seconds until the handler
    must have answered, and then between two pieces of a stream; None for a handler with deadlines of its own.
    Raises TypeError, ValueError.
    """

    path: str
    handler: Handler
    action: Action
    methods: frozenset[str] | set[str] | tuple[str, ...] = frozenset({"GET", "HEAD"})
    deadline: float | None = ANSWER_WITHIN

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not _SEGMENTS.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is not a path as it stands in a request line, without query and escapes")
        if not callable(self.handler):
            raise TypeError(
                f"the handler of {self.path} is a method that takes a Call, not {type(self.handler).__name__}"
            )
        if not isinstance(self.methods, frozenset | set | tuple | list):
            raise TypeError(f'the methods of a route are a set, such as {{"POST"}}, not {self.methods!r:.50}')
        object.__setattr__(self, "methods", frozenset(self.methods))
        if not self.methods or not _METHODS.issuperset(self.methods):
            raise ValueError(f"the methods of a route are some of {', '.join(sorted(_METHODS))}")
        if not isinstance(self.action, Action):
            raise ValueError(f"the route {self.path} must say which action a caller must be allowed")
        if self.deadline is not None and not (isinstance(self.deadline, int | float) and self.deadline > 0):
            raise ValueError("a deadline is a number of seconds above 0")
