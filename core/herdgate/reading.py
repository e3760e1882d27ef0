"""What a request says: its body, read strictly, and the model that it names."""

from __future__ import annotations

from herdgate import inflate
from herdgate.body import BadBody, Body, read_body
from herdgate.errors import Halt, error_reply
from herdgate.exchange import Exchange, record
from herdgate.form import read_form
from herdgate.names import InvalidModelName, ModelName
from herdgate.responder import BodyTooLarge, Responder
from herdgate.surface import Endpoint
from herdgate.unload import unloads
from herdgate.websearch import without_web_search


async def read_request(exchange: Exchange, endpoint: Endpoint, responder: Responder, limit: int) -> None:
    """Read the body and note in the exchange what it says. Ends the request with 413, 415 or 400."""
    coding = responder.headers.get("content-encoding")
    compressed = coding is not None and _compressed(exchange, endpoint, coding)
    try:
        raw = responder.body_at_hand(limit)
        if raw is None:
            raw = await responder.body(limit)
        if compressed:
            raw = await inflate.inflated(raw, min(limit, inflate.LIMIT), responder.hold)
        body = read_form(raw, responder.headers.get("content-type")) if endpoint.form else read_body(raw)
        note(exchange, endpoint, without_web_search(body) if endpoint.web_search else body)
    except (BodyTooLarge, inflate.TooMuch) as error:
        raise bad(exchange, 413, "request body too large") from error
    except (BadBody, InvalidModelName) as error:
        raise bad(exchange, 400, str(error)) from error


def note(exchange: Exchange, endpoint: Endpoint, body: Body) -> None:
    """Note in the exchange what a body says. Raises BadBody or InvalidModelName."""
    streaming = endpoint.streams is not None and body.boolean("stream", default=endpoint.streams)
    record(exchange, "body", body)
    record(exchange, "model", _model(body, endpoint))
    if unloads(body, endpoint):
        record(exchange, "unloads", True)
    if streaming:
        record(exchange, "streaming", True)


def _compressed(exchange: Exchange, endpoint: Endpoint, coding: str) -> bool:
    """Whether the body is zstd. Ends the request with 415 if it is something that the endpoint does not take."""
    named = coding.strip().lower()
    if named in {"", "identity"}:
        return False
    if named == "zstd" and endpoint.zstd:
        return True
    raise bad(exchange, 415, f"content-encoding {coding:.40} is not supported here")


def _model(body: Body, endpoint: Endpoint) -> ModelName:
    """The model that the backend will see: the first of the endpoint's fields that is not empty."""
    for name in endpoint.model_fields:
        if text := body.text(name):
            return ModelName.parse(text)
    raise BadBody("model is required")


def bad(exchange: Exchange, status: int, message: str) -> Halt:
    """The end of a request that cannot be served as it is."""
    return Halt(error_reply(exchange.family, status, message, request_id=exchange.id))
