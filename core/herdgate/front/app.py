"""The Sanic application: one handler for every path, and JSON for whatever Sanic refuses by itself."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from sanic import Request, Sanic
from sanic.config import Config
from sanic.exceptions import BadRequest
from sanic.handlers import ErrorHandler
from sanic.http import Stage
from sanic.response import HTTPResponse
from sanic.server import HttpProtocol

from herdgate.bodybudget import BodyBudget
from herdgate.errors import Reply, error_reply
from herdgate.exchange import Exchange
from herdgate.front import framing, wire
from herdgate.front.address import client_address
from herdgate.front.responder import SanicResponder
from herdgate.pipeline import serve
from herdgate.runtime import Runtime
from herdgate.surface import family_of

BODIES_AT_ONCE = 8
"""How many request bodies of the largest size allowed are held at the same time; smaller ones accordingly more."""

HEAD_SILENCE = 60.0
"""Seconds that a caller may be silent in the middle of a request's head."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_REASONS = {
    400: "bad request",
    404: "not found",
    405: "method not allowed",
    408: "request was not sent in time",
    417: "expectation cannot be met",
    431: "request headers too large",
    503: "service unavailable",
}


def create_app(name: str, runtime: Runtime) -> Sanic[Any, Any]:
    """An application that serves this runtime. `name` must be unique in the process."""
    config = Config(env_prefix="")
    app: Sanic[Any, Any] = Sanic(name, config=config, error_handler=JsonErrors(), configure_logging=False)
    app.config.update(
        {
            "ACCESS_LOG": False,
            "KEEP_ALIVE_TIMEOUT": 75,
            "REQUEST_TIMEOUT": HEAD_SILENCE,
            # An inactivity timer over handlers and streams; the gateway has deadlines of its own for both.
            "RESPONSE_TIMEOUT": float("inf"),
            # Sanic rewrites its own methods at the start of an application, which works once in a process.
            "TOUCHUP": not getattr(HttpProtocol, "__touched__", False),
            "REQUEST_MAX_HEADER_SIZE": 16 * 1024,  # Sanic allows no more
        }
    )
    app.ctx.handle = _handler(runtime)
    app.add_route(_unused, "/")  # Sanic refuses to start without a route
    return app


async def _unused(request: Request) -> None:
    """Never called: `GatewayProtocol` hands every request to the gateway's own handler."""


def _handler(runtime: Runtime) -> Callable[[Request], Awaitable[None]]:
    bodies = BodyBudget(BODIES_AT_ONCE * runtime.settings.server.max_body)

    async def handle(request: Request) -> None:
        headers = request.headers
        has_body = request.stream is not None and bool(request.stream.request_body)
        if problem := framing.problem(request.head, hosts=len(headers.getall("host", ())), has_body=has_body):
            raise Malformed(problem)
        exchange = Exchange(
            request_id(headers.get("x-request-id")),
            method=request.method,
            path=request.raw_url.partition(b"?")[0].decode("ascii"),
            client=client_address(
                request.ip, headers.getall("x-forwarded-for", []), runtime.settings.server.trusted_proxies
            ),
            headers=headers.items(),
        )
        request.ctx.cors = runtime.origins.cors(host=headers.get("host"), origin=headers.get("origin"))
        responder = SanicResponder(request, exchange, bodies)
        try:
            await serve(exchange, responder, runtime)
        finally:
            responder.release()

    return handle


def request_id(given: str | None) -> str:
    """The caller's own id if it is harmless, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)


class Malformed(BadRequest):
    """The request's head is not what HTTP allows; the message says why, to the caller."""


class JsonErrors(ErrorHandler):
    """What Sanic refuses before, or beside, the pipeline: in the shape of the path's family, never HTML or empty."""

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        """The reply to a request that never reached the pipeline."""
        status = getattr(exception, "status_code", 500)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE.value  # bodies are read, and refused, in the pipeline
        identity = request_id(request.headers.get("x-request-id"))
        message = _REASONS.get(status, "internal error" if status >= 500 else "bad request")
        if isinstance(exception, Malformed):
            message = str(exception)
        stream: Any = request.stream
        family = family_of((stream and stream.url) or "/")  # a request that could not be read has no path of its own
        headers = {str(name).lower(): str(value) for name, value in (getattr(exception, "headers", None) or {}).items()}
        if stream is not None:
            # The rest of what was sent cannot be told from a further request, and Sanic would wait for it for ever.
            stream.keep_alive = False
            stream.request_body = None
        return Formatted(request, error_reply(family, status, message, request_id=identity, headers=headers), identity)


class Formatted(HTTPResponse):
    """A reply that is formatted here although Sanic sends it."""

    def __init__(self, request: Request, reply: Reply, identity: str) -> None:
        super().__init__()
        self._request = request
        self._stream: Any = request.stream
        self._reply = reply
        self._identity = identity
        self.status = reply.status

    async def send(self, data: Any = None, end_stream: bool | None = None) -> None:  # noqa: ARG002 - Sanic's signature
        """Write the whole reply."""
        connection: Any = self._stream.protocol  # the request's own way to it ends when the caller leaves
        reply = self._reply
        headers = {**reply.headers, "content-length": str(len(reply.body)), "x-request-id": self._identity}
        body = b"" if self._request.method == "HEAD" else reply.body
        self._stream.stage = Stage.IDLE
        await connection.send(wire.head(reply.status, headers, keep_alive=False) + body)
