"""What the gateway answers by itself: that it is there, and what all backends together host."""

from __future__ import annotations

import re
from urllib.parse import unquote

from herdgate import checks
from herdgate.access import Action, Identity
from herdgate.catalogue import Catalogue
from herdgate.errors import JSON, Halt, Reply, dump, error_reply
from herdgate.exchange import Exchange, record
from herdgate.exhausted import BUSY
from herdgate.masking import Denied
from herdgate.names import InvalidModelName, ModelName
from herdgate.responder import Responder
from herdgate.routed import NO_CATALOGUE, busy
from herdgate.running import running_models
from herdgate.runtime import Runtime
from herdgate.surface import Endpoint, Treatment

_NUMBER = re.compile(r"[0-9]{1,9}")
NO_VERSION = "0.0.0"
"""What Ollama's development builds say of themselves; given while no backend has told its version."""


def open_reply(exchange: Exchange, responder: Responder, runtime: Runtime) -> Reply | None:
    """The reply to what needs no key; None if this is something else."""
    if exchange.method == "OPTIONS":
        origin, host = responder.headers.get("origin"), responder.headers.get("host")
        return Reply(204, runtime.origins.preflight(host=host, origin=origin))
    endpoint = exchange.endpoint
    if endpoint is None or endpoint.treatment is not Treatment.OPEN or exchange.method not in endpoint.methods:
        return None
    match endpoint.name:
        case "healthz":
            return _json({"status": "ok"})
        case "readyz":
            return _readiness(runtime)
        case _:
            return Reply(200, {"content-type": "text/plain; charset=utf-8"}, b"Ollama is running")


def _readiness(runtime: Runtime) -> Reply:
    if runtime.ready:
        return _json({"status": "degraded" if runtime.watch.away else "ready"})
    return _json({"status": "draining" if runtime.draining else "starting"}, 503)


async def reply(exchange: Exchange, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> Reply:
    """The reply to a request that is answered here or from the union."""
    match endpoint.name:
        case "version":
            return _json({"version": _lowest(runtime.discovery.versions)})
        case "status":
            cloud = identity.cloud and any(backend.cloud for backend in runtime.discovery.backends)
            return _json({"cloud": {"disabled": not cloud, "source": "none" if cloud else "config"}})
        case "model":
            return await _one_model(exchange, endpoint, identity, runtime)
        case "ps":
            rows = await running_models(runtime.discovery.upstreams, _catalogue(exchange, runtime))
            shown = {
                entry.name.key for entry in await checks.visible(runtime.points, identity, [row.entry for row in rows])
            }
            inside = identity.admin
            return _json({"models": [row.row(inside=inside) for row in rows if row.entry.name.key in shown]})
        case _:
            entries = await checks.visible(runtime.points, identity, _catalogue(exchange, runtime).union())
            if endpoint.name == "models":
                return _json({"object": "list", "data": [entry.as_openai() for entry in entries]})
            return _json({"models": [entry.as_tags() for entry in entries]})


def _catalogue(exchange: Exchange, runtime: Runtime) -> Catalogue:
    """All models. Before the first list is known that is an error, not an empty list: clients would think all models
    gone.
    """
    catalogue = runtime.discovery.catalogue
    if not catalogue.known:
        raise Halt(busy(exchange, NO_CATALOGUE))
    return catalogue


async def _one_model(exchange: Exchange, endpoint: Endpoint, identity: Identity, runtime: Runtime) -> Reply:
    asked = unquote(exchange.path[len(endpoint.path) :])
    try:
        name = ModelName.parse(asked)
    except InvalidModelName as error:
        raise Halt(error_reply(exchange.family, 400, str(error), request_id=exchange.id)) from error
    record(exchange, "model", name)
    catalogue = _catalogue(exchange, runtime)
    held = catalogue.look_up(name)  # not in the union: searching it would take longer for what is not in it
    denial = await runtime.points.authorise.denial(identity, Action.SEE, checks.resource(name, held))
    if denial is not None:
        raise Denied(denial.reason)
    holders = held.candidates()
    found = next((holder.model for holder in holders if not holder.gone), None)
    if found is None and holders:
        raise Halt(busy(exchange, BUSY))  # remembered, as routing remembers it: its backends have been away for long
    if found is None:
        raise Denied("no backend has this model")
    return _json({**found.as_openai(), "id": asked})


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status, {"content-type": JSON}, dump(value))


def _lowest(versions: list[str]) -> str:
    """The oldest version: clients use it to find out what they may ask for."""
    return min(versions, key=_numbers, default=NO_VERSION)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if _NUMBER.fullmatch(part) else 0 for part in version.partition("-")[0].split("."))
