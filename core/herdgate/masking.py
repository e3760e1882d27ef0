"""The one way in which a request is denied, whatever the reason."""

from __future__ import annotations

import logging

from herdgate.errors import Reply, denial
from herdgate.exchange import Exchange
from herdgate.faults import PluginFault
from herdgate.points import HookPoints

audit = logging.getLogger("herdgate.audit")


class Denied(Exception):  # noqa: N818 - a decision
    """This request is denied. The reason is for operators; the caller never learns it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def masked(exchange: Exchange, points: HookPoints, reason: str) -> Reply:
    """The reply to a denied request. A fault of the masking plugin gives the built-in reply, which is the same for
    all reasons.
    """
    caller = exchange.identity.name if exchange.identity else "-"
    model = exchange.model.display if exchange.model else "-"
    audit.info("denied request=%s caller=%s path=%s model=%s: %s", exchange.id, caller, exchange.path, model, reason)
    try:
        reply: Reply | None = points.mask_denial(exchange, exchange.family, reason)
    except PluginFault:
        reply = None
    return reply or denial(exchange.family, request_id=exchange.id)
