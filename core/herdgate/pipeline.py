"""A request from door to door. The order of the checks is a part of the contract with callers."""

from __future__ import annotations

import asyncio
import logging
import time

from herdgate import checks, local, pluginroutes, routed
from herdgate.access import Identity, Refusal
from herdgate.answer import Answer
from herdgate.errors import Halt, error_reply
from herdgate.exchange import Exchange, Outcome, Stage, record
from herdgate.exhausted import TIMED_OUT
from herdgate.faults import PluginFault
from herdgate.masking import Denied, masked
from herdgate.responder import Responder
from herdgate.runtime import Phase, Runtime
from herdgate.scope import Scope
from herdgate.surface import Treatment

log = logging.getLogger("herdgate.requests")

PLUGIN_FAILED = "the gateway cannot decide about this request at the moment"
INTERNAL = "internal error"
OUT_OF_TIME = "the time allowed for this request is over"
STOPPING = "the gateway is stopping, please try again"


async def serve(exchange: Exchange, responder: Responder, runtime: Runtime) -> None:
    """Answer one request, and tell the plugins once how it ended, whatever happened to it."""
    answer = Answer(exchange, responder)
    scope = Scope()
    limit = runtime.settings.server.total_deadline
    try:
        try:
            if limit is None:
                await _treat(answer, runtime, scope)
            else:
                async with asyncio.timeout(limit):
                    await _treat(answer, runtime, scope)
        except (Halt, Denied, PluginFault, TimeoutError) as end:
            await _end_early(answer, end, runtime)
        finally:
            if scope:
                await scope.close()
    except asyncio.CancelledError:
        answer.outcome = Outcome.CLIENT_LEFT
        raise
    except Exception:
        log.exception("request %s: a fault of the gateway itself", exchange.id)
        await _apologise(answer)
    finally:
        summary = answer.summary()
        exchange.advance(Stage.ENDED)
        runtime.points.exchange_ended(runtime.tasks.spawn, summary)


async def _end_early(answer: Answer, end: Halt | Denied | PluginFault | TimeoutError, runtime: Runtime) -> None:
    """Every way in which a request can end early becomes a reply here."""
    exchange = answer.exchange
    match end:
        case Halt(reply=reply):
            await answer.give(reply, Outcome.FAILED if reply.status >= 500 else Outcome.REFUSED)
        case Denied(reason=reason):
            await answer.give(masked(exchange, runtime.points, reason), Outcome.DENIED)
        case PluginFault():
            log.error("request %s: %s", exchange.id, end)
            headers = {"retry-after": "5"}
            reply = error_reply(exchange.family, 503, PLUGIN_FAILED, request_id=exchange.id, headers=headers)
            await answer.give(reply, Outcome.FAILED)
        case TimeoutError() if answer.begun:
            await answer.break_off(OUT_OF_TIME)
        case TimeoutError():
            await answer.give(error_reply(exchange.family, 504, TIMED_OUT, request_id=exchange.id), Outcome.FAILED)


async def _treat(answer: Answer, runtime: Runtime, scope: Scope) -> None:
    exchange, responder, points = answer.exchange, answer.responder, runtime.points
    if exchange.endpoint is None:
        record(exchange, "endpoint", runtime.routes.endpoint(exchange.path))
        if await pluginroutes.served_openly(answer, runtime):
            return
    if (reply := local.open_reply(exchange, responder, runtime)) is not None:
        await answer.give(reply)
        return
    if runtime.process.phase is Phase.REFUSING:
        raise Halt(routed.busy(exchange, STOPPING))
    said = await points.authenticate(exchange, responder.credentials)
    identity = checks.known(said, exchange, responder.headers, runtime.origins)
    record(exchange, "identity", identity)
    exchange.advance(Stage.AUTHENTICATED)
    if identity.total_deadline is None:
        await _serve_caller(answer, identity, runtime, scope)
    else:
        async with asyncio.timeout(identity.total_deadline - (time.monotonic() - exchange.started)):
            await _serve_caller(answer, identity, runtime, scope)


async def _serve_caller(answer: Answer, identity: Identity, runtime: Runtime, scope: Scope) -> None:
    exchange = answer.exchange
    endpoint = checks.routed_endpoint(exchange)
    refusal = await runtime.points.admit.enter(scope, exchange, identity)
    if isinstance(refusal, Refusal):
        raise checks.refused(exchange, refusal)
    exchange.advance(Stage.ADMITTED)
    match endpoint.treatment:
        case Treatment.ROUTED:
            await routed.serve(answer, endpoint, identity, runtime)
        case Treatment.REFUSED | Treatment.PLUGIN:
            await pluginroutes.serve(answer, endpoint, identity, runtime)
        case Treatment.COUNTED:
            await answer.give(await routed.counted(answer, endpoint, identity, runtime))
        case _:
            await answer.give(await local.reply(exchange, endpoint, identity, runtime))


async def _apologise(answer: Answer) -> None:
    exchange = answer.exchange
    if answer.begun:
        await answer.break_off(INTERNAL)
    else:
        await answer.give(error_reply(exchange.family, 500, INTERNAL, request_id=exchange.id))
    answer.outcome = Outcome.ERROR
