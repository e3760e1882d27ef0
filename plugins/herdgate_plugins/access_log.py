"""One line per request in the log of the process."""

from __future__ import annotations

import logging

from herdgate import Summary, hookimpl, log_event

_PROBES = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds; that all is well is no news."""
_FINE = 200
_PRECISION = 10_000
"""Parts of a second. Twice as fast as `round`, which goes through text."""

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
            "caller": identity and identity.name,
            "model": model and model.display,
            "backend": summary.backend,
            "attempts": len([each for each in exchange.attempts if not each.skipped]),
            "seconds": int(summary.seconds * _PRECISION + 0.5) / _PRECISION,
            "first_byte": None if first is None else int(first * _PRECISION + 0.5) / _PRECISION,
            "bytes": summary.sent,
        }
        log_event(log, f"{exchange.method} {exchange.path} {summary.status or '-'} {summary.outcome}", fields)
