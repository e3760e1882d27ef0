"""One line per request in the log of the process."""

from __future__ import annotations

import logging

from herdgate import Summary, hookimpl, log_event

_PROBES = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds; that all is well is no news."""
_FINE = 200

log = logging.getLogger("herdgate.access")


class AccessLog:
    """Says who asked for what, which backend answered, how it ended. Never a body, never a credential."""

    herdgate_api = 1

    @hookimpl
    def exchange_ended(self, summary: Summary) -> None:
        """Write the line."""
        exchange = summary.exchange
        if exchange.path in _PROBES and summary.status == _FINE:
            return
        first, identity, model = summary.first_byte_after, exchange.identity, exchange.model
        fields = {
            "request": exchange.id,
            "client": exchange.client,
            "caller": identity.name if identity else None,
            "model": model.display if model else None,
            "backend": summary.backend,
            "attempts": len(exchange.attempts),
            "seconds": round(summary.seconds, 4),
            "first_byte": None if first is None else round(first, 4),
            "bytes": summary.sent,
        }
        log_event(log, f"{exchange.method} {exchange.path} {summary.status or '-'} {summary.outcome.value}", fields)
