"""A request that goes to a backend: read it, decide about it, find a backend that answers, relay the reply."""

from __future__ import annotations

from collections.abc import Sequence

from herdgate import checks
from herdgate.access import Action, Deny, Identity, Resource
from herdgate.answer import Answer, with_backend
from herdgate.attempts import Attempts, Exhausted, Opened
from herdgate.backend import Candidate
from herdgate.body import BadBody, Body, read_body
from herdgate.errors import Halt, Reply, error_reply
from herdgate.exchange import AttemptOutcome, Exchange, Outcome, Stage, UpstreamRequest
from herdgate.exhausted import BUSY, RETRY_AFTER, conclude
from herdgate.failure import Failure
from herdgate.filters import Filters
from herdgate.masking import Denied
from herdgate.names import InvalidModelName, ModelName
from herdgate.relay import Relay, reply_headers
from herdgate.responder import BodyTooLarge, Responder
from herdgate.runtime import Runtime
from herdgate.surface import Endpoint
from herdgate.unload import unloads

NO_CATALOGUE = "the gateway does not know its models yet, please try again"
_FORWARDED = ("accept", "user-agent", "anthropic-version", "anthropic-beta", "openai-beta")
"""The client's headers that a backend may see. Ollama's cloud proxy copies what it gets to a third party, so nothing
else does.
"""


async def serve(answer: Answer, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> None:
    """Answer a request that names a model."""
    exchange, responder = answer.exchange, answer.responder
    await _read(exchange, endpoint, responder, runtime.settings.server.max_body)
    found = await _decided(exchange, endpoint, identity, runtime)
    exchange.advance(Stage.AUTHORISED)
    candidates = await runtime.points.select_candidates(exchange, found)
    if not candidates:
        raise Halt(busy(exchange, BUSY))
    exchange.advance(Stage.ATTEMPTING)
    attempts = Attempts(exchange, _upstream_request(exchange, endpoint, responder), runtime.points, runtime.discovery)
    try:
        opened = await attempts.open(candidates)
    except Exhausted as exhausted:
        raise _concluded(exchange, exhausted.failures) from exhausted
    await _relay(answer, endpoint, opened, runtime)


# deciding


async def _read(exchange: Exchange, endpoint: Endpoint, responder: Responder, limit: int) -> None:
    """Read the body and what it says of the model. Ends the request with 413, 415 or 400."""
    coding = responder.header("content-encoding")
    if coding is not None and coding.strip().lower() not in {"", "identity"}:
        raise _bad(exchange, 415, f"content-encoding {coding:.40} is not supported here")
    try:
        body = read_body(await responder.body(limit))
        exchange.body = body
        exchange.model = _model(body, endpoint)
        exchange.unloads = unloads(body, endpoint)
        exchange.streaming = endpoint.streams is not None and body.boolean("stream", default=endpoint.streams)
    except BodyTooLarge as error:
        raise _bad(exchange, 413, "request body too large") from error
    except (BadBody, InvalidModelName) as error:
        raise _bad(exchange, 400, str(error)) from error


def _model(body: Body, endpoint: Endpoint) -> ModelName:
    """The model that the backend will see: the first of the endpoint's fields that is not empty."""
    for name in endpoint.model_fields:
        if text := body.text(name):
            return ModelName.parse(text)
    raise BadBody("model is required")


async def _decided(exchange: Exchange, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> Sequence[Candidate]:
    """Look the model up and ask who may use it, always both, so that unknown and forbidden take one path.

    Returns the backends that can be tried. Raises Denied, or ends the request with 503 when they are known but long
    gone.
    """
    catalogue = runtime.discovery.catalogue
    if not catalogue.known:
        raise Halt(busy(exchange, NO_CATALOGUE))
    assert exchange.model is not None  # noqa: S101 - _read has set it
    action = Action.MANAGE if exchange.unloads else endpoint.action or Action.USE
    verdict = await checks.allowed(runtime.points, identity, action, Resource(exchange.model))
    holders = catalogue.holders(exchange.model)
    if isinstance(verdict, Deny):
        raise Denied(verdict.reason)
    if not holders:
        raise Denied("no backend has this model")
    candidates = [holder for holder in holders if not holder.gone]
    if not candidates:
        raise Halt(busy(exchange, BUSY))
    return candidates


# relaying


def _upstream_request(exchange: Exchange, endpoint: Endpoint, responder: Responder) -> UpstreamRequest:
    """The pristine request: every attempt starts from it."""
    assert exchange.body is not None  # noqa: S101 - _read has set it
    passed = [(name, value) for name in _FORWARDED if (value := responder.header(name))]
    headers = (*passed, ("content-type", "application/json"))
    return UpstreamRequest(exchange.method, endpoint.path, headers, exchange.body.raw)


async def _relay(answer: Answer, endpoint: Endpoint, opened: Opened, runtime: Runtime) -> None:
    """Send the reply, and settle the attempt before its leases are given back."""
    attempt = opened.attempt
    try:
        attempt.outcome = AttemptOutcome.ABANDONED  # unless it comes to an end below
        failure = await _send(answer, endpoint, opened, runtime)
        if failure is None:
            attempt.outcome = AttemptOutcome.SUCCEEDED
        else:
            answer.outcome = Outcome.BROKEN
            attempt.failed(failure)
    finally:
        await opened.scope.close()


async def _send(answer: Answer, endpoint: Endpoint, opened: Opened, runtime: Runtime) -> Failure | None:
    filters = runtime.points.filter_stream(answer.exchange, opened.head)
    chain = Filters(filters, runtime.points.ledger) if filters else None
    if opened.complete:
        await _send_whole(answer, opened, chain)
        return None
    return await _send_stream(answer, endpoint, opened, chain)


async def _send_whole(answer: Answer, opened: Opened, filters: Filters | None) -> None:
    body = filters.feed(opened.opening) + filters.finish() if filters else opened.opening
    headers = with_backend(reply_headers(opened.head, opened.framing), answer.exchange)
    answer.commit(opened.head.status)
    await answer.give(Reply(opened.head.status, headers, body))


async def _send_stream(answer: Answer, endpoint: Endpoint, opened: Opened, filters: Filters | None) -> Failure | None:
    relay = Relay(endpoint, opened.framing, answer.responder, filters)
    first = relay.take(opened.opening)
    answer.commit(opened.head.status, relay)
    await relay.begin(
        opened.head.status, with_backend(reply_headers(opened.head, opened.framing), answer.exchange), first
    )
    return await relay.run(opened.reply, opened.upstream.settings.idle_timeout)


# errors


def busy(exchange: Exchange, message: str) -> Reply:
    """No backend can be asked at the moment, but one may be soon."""
    headers = {"retry-after": checks.seconds(RETRY_AFTER)}
    return error_reply(exchange.family, 503, message, request_id=exchange.id, headers=headers)


def _bad(exchange: Exchange, status: int, message: str) -> Halt:
    return Halt(error_reply(exchange.family, status, message, request_id=exchange.id))


def _concluded(exchange: Exchange, failures: Sequence[Failure]) -> Halt | Denied:
    conclusion = conclude(failures)
    if conclusion.denied:
        return Denied("every backend said that it does not have this model")
    headers = {} if conclusion.retry_after is None else {"retry-after": checks.seconds(conclusion.retry_after)}
    return Halt(
        error_reply(exchange.family, conclusion.status, conclusion.message, request_id=exchange.id, headers=headers)
    )
