"""A request that goes to a backend: read it, decide about it, find a backend that answers, relay the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from herdgate import checks
from herdgate.access import Action, Identity
from herdgate.answer import Answer
from herdgate.attempts import Attempts, Exhausted, Opened
from herdgate.backend import Backend, Candidate
from herdgate.body import BadBody
from herdgate.counting import estimated_tokens
from herdgate.errors import JSON, Halt, Reply, dump, error_reply
from herdgate.exchange import AttemptOutcome, Exchange, Outcome, Stage, UpstreamRequest
from herdgate.exhausted import BUSY, RETRY_AFTER, conclude
from herdgate.failure import Failure
from herdgate.filters import Filters
from herdgate.inside import redacted
from herdgate.masking import Denied
from herdgate.reading import bad, read_request
from herdgate.relay import Relay, reply_headers
from herdgate.responder import Responder
from herdgate.runtime import Runtime
from herdgate.showing import ShowRedaction
from herdgate.surface import Endpoint
from herdgate.turns import open_in_turn

NO_CATALOGUE = "the gateway does not know its models yet, please try again"
_FORWARDED = ("accept", "user-agent", "anthropic-version", "anthropic-beta", "openai-beta")
"""The client's headers that a backend may see. Ollama's cloud proxy copies what it gets to a third party, so nothing
else does.
"""


async def serve(answer: Answer, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> None:
    """Answer a request that names a model."""
    exchange, responder, points = answer.exchange, answer.responder, runtime.points
    await read_request(exchange, endpoint, responder, runtime.settings.server.max_body)
    chosen = await candidates(exchange, endpoint, identity, runtime)
    if not chosen:
        raise Halt(busy(exchange, BUSY))
    exchange.advance(Stage.ATTEMPTING)
    attempts = Attempts(exchange, _upstream_request(exchange, endpoint, responder), runtime)
    try:
        try:
            opened = await attempts.open(chosen)
        except Exhausted as exhausted:
            opened = await open_in_turn(attempts, exhausted, exchange, points)
    except Exhausted as exhausted:
        raise _concluded(exchange, exhausted, runtime.discovery.backends) from exhausted
    await _relay(answer, endpoint, opened, runtime)


async def counted(answer: Answer, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> Reply:
    """The estimate of a request's tokens, for a model that could be used for it."""
    exchange = answer.exchange
    await read_request(exchange, endpoint, answer.responder, runtime.settings.server.max_body)
    await _decided(exchange, endpoint, identity, runtime)
    assert exchange.body is not None  # noqa: S101 - read_request has set it
    try:
        # Of a long conversation every part is looked at, which may take seconds.
        tokens = await asyncio.to_thread(estimated_tokens, exchange.body)
    except BadBody as error:
        raise bad(exchange, 400, str(error)) from error
    return Reply(200, {"content-type": JSON}, dump({"input_tokens": tokens}))


# deciding


async def candidates(
    exchange: Exchange, endpoint: Endpoint, identity: Identity, runtime: Runtime
) -> Sequence[Candidate]:
    """The backends to try, in order, perhaps none. `explain` decides with this, too, about requests that nobody sent.

    Raises Denied; ends the request when its backends are long gone.
    """
    found = await _decided(exchange, endpoint, identity, runtime)
    exchange.advance(Stage.AUTHORISED)
    return await runtime.points.select_candidates(exchange, tuple(found))


async def _decided(exchange: Exchange, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> Sequence[Candidate]:
    """Look the model up and ask who may use it, always both, so that unknown and forbidden take one path.

    Returns the backends that can be tried. Raises Denied, or ends the request with 503 when they are known but long
    gone.
    """
    catalogue = runtime.discovery.catalogue
    if not catalogue.known:
        raise Halt(busy(exchange, NO_CATALOGUE))
    assert exchange.model is not None  # noqa: S101 - read_request has set it
    action = Action.MANAGE if exchange.unloads else endpoint.action or Action.USE
    held = catalogue.look_up(exchange.model)
    denial = await runtime.points.authorise.denial(identity, action, checks.resource(exchange.model, held))
    if denial is not None:
        raise Denied(denial.reason)
    holders = held.candidates()
    if not holders:
        raise Denied("no backend has this model")
    usable = [holder for holder in holders if not holder.gone]
    if not usable:
        raise Halt(busy(exchange, BUSY))
    return usable


# relaying


def _upstream_request(exchange: Exchange, endpoint: Endpoint, responder: Responder) -> UpstreamRequest:
    """The pristine request: every attempt starts from it."""
    body, given = exchange.body, responder.headers
    assert body is not None  # noqa: S101 - read_request has set it
    passed = [(name, given[name]) for name in _FORWARDED if given.get(name)]
    passed.append(("content-type", body.content_type))
    return UpstreamRequest(exchange.method, endpoint.path, tuple(passed), body.raw)


async def _relay(answer: Answer, endpoint: Endpoint, opened: Opened, runtime: Runtime) -> None:
    """Send the reply, and settle the attempt before its leases are given back."""
    attempt = opened.attempt
    try:
        attempt.outcome = AttemptOutcome.ABANDONED  # unless it comes to an end below
        filters = _filters(answer.exchange, endpoint, opened, runtime)
        if opened.complete:
            _send_whole(answer, opened, filters)
            failure = None
        else:
            failure = await _send_stream(answer, endpoint, opened, filters, runtime.settings.server.max_stream)
        if failure is None:
            attempt.outcome = AttemptOutcome.SUCCEEDED
        else:
            answer.outcome = Outcome.BROKEN
            attempt.failed(failure)
    finally:
        await opened.scope.close()


def _filters(exchange: Exchange, endpoint: Endpoint, opened: Opened, runtime: Runtime) -> Filters | None:
    points = runtime.points
    filters = points.filter_stream(exchange, opened.head) if points.filter_stream.impls else []
    if endpoint.action is Action.SEE and not (exchange.identity and exchange.identity.admin):
        filters = [("herdgate", ShowRedaction()), *filters]
    return Filters(filters, points.ledger) if filters else None


def _headers(opened: Opened, exchange: Exchange) -> dict[str, str]:
    """The headers of a relayed reply; only admins learn which backend it came from."""
    headers = reply_headers(opened.head, opened.framing)
    if exchange.identity is not None and exchange.identity.admin:
        headers["x-herdgate-backend"] = opened.attempt.backend.name
    return headers


def _send_whole(answer: Answer, opened: Opened, filters: Filters | None) -> None:
    body = filters.feed(opened.opening) + filters.finish() if filters else opened.opening
    head, asked = opened.head, answer.exchange.body
    headers = _headers(opened, answer.exchange)
    if asked is not None and asked.reply_type is not None:
        headers["content-type"] = asked.reply_type
    answer.commit(head.status)
    answer.relay_whole(head.status, headers, body)


async def _send_stream(
    answer: Answer, endpoint: Endpoint, opened: Opened, filters: Filters | None, limit: int | None
) -> Failure | None:
    relay, head = Relay(endpoint, opened.framing, answer.responder, filters, limit), opened.head
    first = relay.take(opened.opening)
    answer.commit(head.status, relay)
    relay.begin(head.status, _headers(opened, answer.exchange), first)
    return await relay.run(opened.reply, opened.upstream.settings.idle_timeout)


# errors


def busy(exchange: Exchange, message: str) -> Reply:
    """No backend can be asked at the moment, but one may be soon."""
    headers = {"retry-after": checks.seconds(RETRY_AFTER)}
    return error_reply(exchange.family, 503, message, request_id=exchange.id, headers=headers)


def _concluded(exchange: Exchange, exhausted: Exhausted, backends: Sequence[Backend]) -> Halt | Denied:
    conclusion = conclude(exhausted.failures, exhausted.refusal)
    if conclusion.denied:
        return Denied("every backend said that it does not have this model")
    headers = {} if conclusion.retry_after is None else {"retry-after": checks.seconds(conclusion.retry_after)}
    message = redacted(conclusion.message, [backend.base_url for backend in backends])
    return Halt(error_reply(exchange.family, conclusion.status, message, request_id=exchange.id, headers=headers))
