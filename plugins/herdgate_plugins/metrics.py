"""Counts requests by family, outcome and model, and attempts and failures by backend, for `/metrics`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from herdgate import App, Attempt, AttemptOutcome, Metric, Outcome, Summary, hookimpl

_DENIED = "(denied)"
"""Stands for every model that somebody was denied: the numbers must not tell which of them exist."""


@dataclass(slots=True)
class _Ended:
    """What the requests of one family, outcome and model add up to."""

    requests: int = 0
    seconds: float = 0.0


class Metrics:
    """Dictionaries that each request adds to once it has ended. Counts in each process of the gateway by itself."""

    herdgate_api = 1

    def __init__(self) -> None:
        self._ended: defaultdict[tuple[str, str, str], _Ended] = defaultdict(_Ended)
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()

    @hookimpl
    @contextmanager
    def lifespan(self, app: App) -> Iterator[None]:
        """A reload counts on: what is in flight meanwhile would be counted where nobody looks any more."""
        mine = (self._ended, self._attempts, self._failures)
        self._ended, self._attempts, self._failures = app.memory.setdefault("metrics", mine)
        yield

    @hookimpl
    def exchange_ended(self, summary: Summary) -> None:
        """Count one request and its attempts."""
        exchange, outcome = summary.exchange, summary.outcome
        # Every backend said 404: that it was asked at all would tell a denied model from one never heard of.
        model = _DENIED if outcome is Outcome.DENIED else self._attempted(exchange.attempts)
        ended = self._ended[exchange.family, outcome, model]
        ended.requests += 1
        ended.seconds += summary.seconds

    def _attempted(self, attempts: Sequence[Attempt]) -> str:
        """Count the attempts of a request. Returns the model as the last backend lists it; none without attempts.

        Callers may spell one model in many ways, and ask for any word at all.
        """
        model = ""
        for attempt in attempts:
            candidate = attempt.candidate
            backend, model = candidate.backend.name, candidate.model.name.display
            if not attempt.skipped:
                self._attempts[backend, attempt.outcome] += 1
            if attempt.failure is not None and attempt.outcome is AttemptOutcome.FAILED:
                self._failures[backend, attempt.failure.kind] += 1
        return model

    @hookimpl
    def collect_metrics(self) -> list[Metric]:
        """What was counted since the start of this process."""
        seconds: defaultdict[tuple[str], float] = defaultdict(float)
        for (family, _, _), ended in self._ended.items():
            seconds[(family,)] += ended.seconds
        return [
            Metric(
                "herdgate_requests_total",
                "Requests that have ended.",
                "counter",
                {key: ended.requests for key, ended in self._ended.items()},
                ("family", "outcome", "model"),
            ),
            Metric(
                "herdgate_request_seconds_total",
                "Time that requests have taken, from their arrival to their end.",
                "counter",
                seconds,
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
                "Requests to backends that failed, by what happened; skipped: none was made.",
                "counter",
                dict(self._failures),
                ("backend", "kind"),
            ),
        ]
