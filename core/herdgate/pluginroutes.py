"""A request to a route: decide, have the handler answer, and send what it gives, whole or piece by piece.

A path that is refused goes the same way, whether a plugin could answer it or not, so that nobody can tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from herdgate.access import Action, Deny, Identity, Resource
from herdgate.answer import Answer
from herdgate.body import BadBody
from herdgate.errors import Halt, Reply, in_band
from herdgate.exchange import Outcome, Stage
from herdgate.faults import PluginFault
from herdgate.masking import Denied
from herdgate.routes import Call, StreamedReply
from herdgate.routetable import Mounted
from herdgate.runtime import Runtime
from herdgate.surface import Endpoint, Treatment

NDJSON = "application/x-ndjson"
NOBODY = Identity("nobody", anonymous=True)
BROKE = "the reply was interrupted"
_TAIL = 4096
_END: Any = object()

_T = TypeVar("_T")


async def serve(answer: Answer, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> None:
    """Answer a request whose path is a plugin's, or is refused. Raises Denied, Halt or PluginFault."""
    exchange = answer.exchange
    mounted = runtime.routes.find(exchange.path)
    if mounted is not None and exchange.method not in mounted.route.methods:
        mounted = None
    action = mounted.route.action if mounted else endpoint.action or Action.MANAGE
    await _Asking(runtime, identity)(action, Resource())
    if mounted is None:
        raise Denied(f"{endpoint.name} is not offered")
    exchange.advance(Stage.AUTHORISED)
    await _answer(answer, mounted, identity, runtime)


async def served_openly(answer: Answer, runtime: Runtime) -> bool:
    """Whether this was a page of the gateway itself that needs no key; it is then answered."""
    exchange = answer.exchange
    mounted = runtime.routes.find(exchange.path)
    if mounted is None or mounted.endpoint.treatment is not Treatment.OPEN:
        return False
    if exchange.method not in mounted.route.methods:
        return False
    await _answer(answer, mounted, NOBODY, runtime)
    return True


async def _answer(answer: Answer, mounted: Mounted, identity: Identity, runtime: Runtime) -> None:
    call = Call(answer.exchange, identity, answer.responder, _Asking(runtime, identity))
    try:
        reply = await _guarded(mounted, runtime, lambda: mounted.route.handler(call))
    except BadBody as error:  # what the handler found in a field of it
        raise Halt(call.error(400, str(error))) from error
    match reply:
        case Reply():
            await answer.give(reply)
        case StreamedReply():
            await _stream(answer, mounted, runtime, reply)
        case _:
            raise _fault(mounted, runtime, f"returned {type(reply).__name__}, no Reply or StreamedReply")


class _Asking:
    """The caller's rights, asked for anew each time."""

    def __init__(self, runtime: Runtime, identity: Identity) -> None:
        self._runtime = runtime
        self._identity = identity

    async def __call__(self, action: Action, *resources: Resource) -> None:
        """Raise Denied unless every one of them is allowed."""
        for verdict in await self._runtime.points.authorise(self._identity, action, resources):
            if isinstance(verdict, Deny):
                raise Denied(verdict.reason)


async def _guarded(mounted: Mounted, runtime: Runtime, ask: Callable[[], Awaitable[_T]]) -> _T:
    """What a handler gives, within its deadline. Its exceptions are faults, but for those that end a request."""
    limit = mounted.route.deadline
    try:
        async with asyncio.timeout(limit) as deadline:
            return await ask()
    except (Halt, Denied, BadBody):
        raise
    except Exception as error:
        late = f"no answer within {limit:g} s" if limit is not None and deadline.expired() else ""
        raise _fault(mounted, runtime, late or f"{type(error).__name__}: {error}", error) from error


async def _stream(answer: Answer, mounted: Mounted, runtime: Runtime, reply: StreamedReply) -> None:
    """Begin with the first piece, so that a handler that fails before it can still be answered for properly."""
    async with aclosing(_pieces(mounted, runtime, reply.pieces)) as pieces:
        first = await anext(pieces, b"")
        answer.started(reply.status)
        answer.count(len(first))
        answer.responder.begin(reply.status, _unbuffered(reply), first)
        tail = first[-_TAIL:]
        try:
            async for piece in pieces:
                await answer.responder.write(piece)
                answer.count(len(piece))
                tail = piece[-_TAIL:]
        except (PluginFault, Halt, Denied, BadBody):
            answer.outcome = Outcome.BROKEN
            await _break_off(answer, mounted, reply, tail)
            return
        await answer.responder.end()


async def _pieces(mounted: Mounted, runtime: Runtime, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The pieces that hold something, each within the deadline. What the plugin's generator holds is given back."""
    try:
        while True:
            piece = await _guarded(mounted, runtime, lambda: anext(pieces, _END))
            if piece is _END:
                return
            if not isinstance(piece, bytes):
                raise _fault(mounted, runtime, f"gave {type(piece).__name__} for a piece of a reply, which is bytes")
            if piece:
                yield piece
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


async def _break_off(answer: Answer, mounted: Mounted, reply: StreamedReply, tail: bytes) -> None:
    """Nobody may take what has come for everything: lines end with an error, the rest with its connection."""
    if reply.headers.get("content-type", "").startswith(NDJSON):
        await answer.responder.write(in_band(mounted.endpoint, BROKE, tail=tail))
        await answer.responder.end()
    else:
        answer.responder.cut()


def _unbuffered(reply: StreamedReply) -> dict[str, str]:
    return {**reply.headers, "cache-control": "no-cache", "x-accel-buffering": "no"}


def _fault(mounted: Mounted, runtime: Runtime, why: str, cause: Exception | None = None) -> PluginFault:
    fault = PluginFault(mounted.plugin, "routes", why)
    fault.__cause__ = cause
    runtime.points.ledger.record(fault)
    return fault
