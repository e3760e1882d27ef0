"""Counts requests by family, outcome and model, and attempts and failures by backend, for `/metrics`."""

from __future__ import annotations

from collections import Counter, defaultdict

from herdgate import AttemptOutcome, Metric, Outcome, Summary, hookimpl

_DENIED = "(denied)"
"""Stands for every model that somebody was denied: the numbers must not tell which of them exist."""


class Metrics:
    """Two dictionaries that each request adds to once it has ended. Counts in each process of the gateway by itself."""

    herdgate_api = 1

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._seconds: defaultdict[tuple[str], float] = defaultdict(float)
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()

    @hookimpl
    def exchange_ended(self, summary: Summary) -> None:
        """Count one request and its attempts."""
        exchange, attempts = summary.exchange, summary.exchange.attempts
        denied = summary.outcome is Outcome.DENIED
        # The name as a backend lists it: callers may spell one model in many ways, and ask for any word at all.
        model = attempts[-1].model.name.display if attempts else ""
        self._requests[exchange.family, summary.outcome, _DENIED if denied else model] += 1
        self._seconds[(exchange.family,)] += summary.seconds
        if denied:
            return  # every backend said 404: that it was asked at all would tell this model from one never heard of
        for attempt in attempts:
            backend = attempt.backend.name
            self._attempts[backend, attempt.outcome] += 1
            if attempt.outcome is AttemptOutcome.FAILED and attempt.failure is not None:
                self._failures[backend, attempt.failure.kind] += 1

    @hookimpl
    def collect_metrics(self) -> list[Metric]:
        """What was counted since the start of this process."""
        return [
            Metric(
                "herdgate_requests_total",
                "Requests that have ended.",
                "counter",
                dict(self._requests),
                ("family", "outcome", "model"),
            ),
            Metric(
                "herdgate_request_seconds_total",
                "Time that requests have taken, from their arrival to their end.",
                "counter",
                dict(self._seconds),
                ("family",),
            ),
            Metric(
                "herdgate_attempts_total",
                "Requests to backends.",
                "counter",
                dict(self._attempts),
                ("backend", "outcome"),
            ),
            Metric(
                "herdgate_attempt_failures_total",
                "Requests to backends that failed, by what happened.",
                "counter",
                dict(self._failures),
                ("backend", "kind"),
            ),
        ]
