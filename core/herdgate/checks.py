"""Who calls, whether now, and what they may do: the access hooks, asked in order and closed on any fault."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from herdgate.access import Action, Allow, Identity, Refusal, Rejected, Resource
from herdgate.backend import ModelEntry
from herdgate.catalogue import Held
from herdgate.errors import Halt, error_reply, unauthorized
from herdgate.exchange import Exchange
from herdgate.names import ModelName
from herdgate.origins import OriginRules
from herdgate.points import HookPoints
from herdgate.surface import Endpoint

audit = logging.getLogger("herdgate.audit")


def known(
    said: Identity | Rejected | Refusal | None, exchange: Exchange, headers: Mapping[str, str], origins: OriginRules
) -> Identity:
    """Who sends this request, from what `authenticate` said. Ends it with 401 if nobody knows, with 403 if a web page
    may have made a browser send it.
    """
    if said is None or isinstance(said, Rejected):
        reason = said.reason if said else "no plugin knows this caller"
        audit.info("rejected request=%s client=%s path=%s: %s", exchange.id, exchange.client, exchange.path, reason)
        raise Halt(unauthorized(exchange.family, request_id=exchange.id))
    if isinstance(said, Refusal):
        raise refused(exchange, said)
    if said.anonymous:
        problem = origins.problem(host=headers.get("host"), origin=headers.get("origin"))
        if problem:
            raise Halt(error_reply(exchange.family, 403, problem, request_id=exchange.id))
    return said


def routed_endpoint(exchange: Exchange) -> Endpoint:
    """The table's row for this request. Ends it with 404 or 405 if there is none."""
    endpoint = exchange.endpoint
    if endpoint is None:
        raise Halt(error_reply(exchange.family, 404, "not found", request_id=exchange.id))
    if exchange.method not in endpoint.methods:
        allow = {"allow": ", ".join(sorted({*endpoint.methods, "OPTIONS"}))}
        raise Halt(error_reply(exchange.family, 405, "method not allowed", request_id=exchange.id, headers=allow))
    return endpoint


def refused(exchange: Exchange, refusal: Refusal) -> Halt:
    """A plugin's Refusal as the end of a request."""
    headers = {} if refusal.retry_after is None else {"retry-after": seconds(refusal.retry_after)}
    return Halt(error_reply(exchange.family, refusal.status, refusal.reason, request_id=exchange.id, headers=headers))


def resource(name: ModelName, held: Held) -> Resource:
    """What is asked about when a request names a model of which the catalogue has this, if anything."""
    return Resource(name, cloud=held.cloud)


async def visible(points: HookPoints, identity: Identity, entries: Sequence[ModelEntry]) -> list[ModelEntry]:
    """Those of the models that this caller may see: the same question, to the same plugins, as for one model."""
    if not entries:
        return []
    asked = tuple([Resource(entry.name, entry.cloud) for entry in entries])
    verdicts = await points.authorise(identity, Action.SEE, asked)
    return [entry for entry, verdict in zip(entries, verdicts, strict=True) if isinstance(verdict, Allow)]


def seconds(value: float) -> str:
    """A `Retry-After` value: whole seconds, never too few, at least one."""
    return str(max(1, -int(-value // 1)))
