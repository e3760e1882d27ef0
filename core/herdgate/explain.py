"""What would become of a request: which backends it would try, or why it would be refused, and who decided what.

The request is decided about by the same code as a real one. Nothing is sent to a backend; limits are not asked, because
asking them counts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from herdgate import routed
from herdgate.access import Action, Identity, Rejected
from herdgate.body import BadBody, read_body
from herdgate.errors import JSON, Halt, Reply, dump, message_of
from herdgate.exchange import Exchange, Stage
from herdgate.explanation import Hypothetical, Recorder, Step, backends
from herdgate.faults import PluginFault
from herdgate.masking import Denied
from herdgate.names import InvalidModelName
from herdgate.reading import note
from herdgate.routes import Call, Route
from herdgate.runtime import Runtime

audit = logging.getLogger("herdgate.audit")

PATH = "/api/chat"
"""The kind of request that is asked about: the one that nearly everybody sends."""
LIMIT = 64 * 1024

_COUNTING = ("admit", "around_attempt")
"""Hooks that lease or count something, and so are not asked."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the request would not be served. `plugin` is None where the gateway itself says no."""

    status: int
    hook: str
    plugin: str | None
    reason: str


class Unknown(Exception):  # noqa: N818 - an answer
    """No plugin knows a caller of this name."""


def route(runtime: Runtime) -> Route:
    """The path where admins ask about a key (`key`, its name or id) and a model (`model`)."""

    async def answer(call: Call) -> Reply:
        body = await call.body(LIMIT)
        key, model = body.text("key"), body.text("model")
        if not key or not model:
            raise BadBody('the fields "key" (its name or id) and "model" are required')
        try:
            told = await _Explanation(call.exchange, key, runtime).about(model)
        except Unknown as unknown:
            return call.error(404, str(unknown))
        audit.info(
            "explained request=%s caller=%s key=%.80r model=%.200r", call.exchange.id, call.identity.name, key, model
        )
        return Reply(200, {"content-type": JSON}, dump(told))

    return Route("/herdgate/explain", answer, Action.ADMINISTER, frozenset({"POST"}))


class _Explanation:
    """One request that is asked about, and what was found out about it."""

    def __init__(self, asked: Exchange, key: str, runtime: Runtime) -> None:
        self._recorder = Recorder()
        self._runtime = replace(runtime, points=self._recorder.watch(runtime.points))
        self._exchange = Hypothetical(asked.id, PATH, asked.client, self._recorder)
        self._key = key

    async def about(self, model: str) -> dict[str, object]:
        """The explanation as JSON. Raises Unknown."""
        refused: Refused | None = None
        chosen: tuple[str, ...] = ()
        try:
            chosen, refused = await self._decided(model)
        except Denied as denied:
            refused = self._denied(denied.reason)
        except Halt as halt:
            refused = Refused(halt.reply.status, "catalogue", None, message_of(halt.reply.body) or "")
        except InvalidModelName as error:
            refused = Refused(400, "request", None, str(error))
        except PluginFault as fault:
            self._recorder.settle(None)
            refused = Refused(503, fault.hook, fault.plugin, fault.why)
        return self._shown(model, chosen, refused)

    async def _decided(self, model: str) -> tuple[tuple[str, ...], Refused | None]:
        points, exchange = self._runtime.points, self._exchange
        said = await points.identify(self._key)
        if said is None:
            raise Unknown(f"no plugin knows a caller with the name or id {self._key:.80}")
        if isinstance(said, Rejected):
            return (), Refused(401, "identify", self._recorder.steps[-1].plugin, said.reason)
        exchange.identity = said
        exchange.advance(Stage.AUTHENTICATED)
        exchange.advance(Stage.ADMITTED)
        endpoint = exchange.endpoint
        assert endpoint is not None  # noqa: S101 - PATH is in the table
        note(exchange, endpoint, read_body(dump({"model": model, "messages": []})))
        candidates = await routed.candidates(exchange, endpoint, said, self._runtime)
        self._recorder.settle(candidates)
        return backends(candidates), None if candidates else self._emptied()

    def _denied(self, reason: str) -> Refused:
        verdicts = self._recorder.of("authorise")
        for step in verdicts:
            if step.said in {"denies", "fails"}:
                return Refused(403, "authorise", step.plugin, "; ".join(step.reasons) or reason)
        allowed = any(step.said == "allows" for step in verdicts)
        return Refused(403, "catalogue" if allowed else "authorise", None, reason)

    def _emptied(self) -> Refused:
        step = next(step for step in self._recorder.of("select_candidates") if not step.left)
        return Refused(503, step.hook, step.plugin, "; ".join(step.reasons) or "left no backend to try")

    def _shown(self, model: str, chosen: tuple[str, ...], refused: Refused | None) -> dict[str, object]:
        points, name = self._runtime.points, self._exchange.model
        refusal = refused and {
            "status": refused.status,
            "hook": refused.hook,
            "plugin": refused.plugin,
            "reason": refused.reason,
        }
        return {
            "key": self._key,
            "model": name.display if name else model,
            "path": PATH,
            "caller": _caller(self._exchange.identity),
            "steps": [step.as_json() for step in self._steps()],
            "candidates": list(chosen),
            "refused": refusal,
            "left_out": [left.plugin for left in points.ledger.quarantine.left_out if left.hook == "select_candidates"],
            "not_asked": {
                hook: [impl.plugin for impl in point.impls] for hook in _COUNTING if (point := getattr(points, hook))
            },
        }

    def _steps(self) -> list[Step]:
        """All steps, with the catalogue's between those who know the caller and those who choose."""
        recorded = self._recorder
        catalogue = self._catalogue()
        between = [catalogue] if catalogue else []
        return [
            *recorded.of("identify"),
            *recorded.of("authorise"),
            *between,
            *recorded.of("select_candidates"),
        ]

    def _catalogue(self) -> Step | None:
        """Which backends hold the model, and which of them have not been heard of for too long."""
        if self._exchange.model is None:
            return None
        holders = self._runtime.discovery.catalogue.holders(self._exchange.model)
        here = [holder for holder in holders if not holder.gone]
        step = Step("catalogue", None, "no backend has it" if not holders else f"{len(here)} of {len(holders)} usable")
        step.given, step.left = backends(holders), backends(here)
        for holder in holders:
            if holder.gone:
                step.because(f"{holder.backend.name} has not answered for too long")
        return step


def _caller(identity: Identity | None) -> dict[str, object] | None:
    if identity is None:
        return None
    return {
        "name": identity.name,
        "key_id": identity.key_id,
        "admin": identity.admin,
        "anonymous": identity.anonymous,
        "models": list(identity.models),
    }
