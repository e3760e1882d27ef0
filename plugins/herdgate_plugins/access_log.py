"""One line per request in the log of the process."""

from __future__ import annotations

import logging

from herdgate import Summary, hookimpl

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
        if not log.isEnabledFor(logging.INFO) or (exchange.path in _PROBES and summary.status == _FINE):
            return
        first = summary.first_byte_after
        fields = {
            "request": exchange.id,
            "client": exchange.client,
            "caller": exchange.identity.name if exchange.identity else None,
            "model": exchange.model.display if exchange.model else None,
            "backend": summary.backend,
            "attempts": len(exchange.attempts),
            "seconds": round(summary.seconds, 4),
            "first_byte": None if first is None else round(first, 4),
            "bytes": summary.sent,
        }
        said = (exchange.method, exchange.path, summary.status or "-", summary.outcome.value)
        # What `log.info` does, less its search of the stack for the line of code that logs, which is always this one.
        log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, "%s %s %s %s", said, None, extra=fields))
