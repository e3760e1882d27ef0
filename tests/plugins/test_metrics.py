"""What a request adds to the numbers once it has ended."""

from __future__ import annotations

from collections.abc import Mapping

from herdgate import (
    Attempt,
    AttemptOutcome,
    Backend,
    Candidate,
    Exchange,
    Failure,
    Kind,
    ModelEntry,
    Outcome,
    Phase,
    Summary,
)
from herdgate_plugins.metrics import Metrics


def attempt(backend: str, model: str, failure: Failure | None = None) -> Attempt:
    """One that has ended."""
    made = Attempt(1, Candidate(Backend(backend, f"http://{backend}"), ModelEntry.from_tags({"name": model})))
    made.outcome = AttemptOutcome.SUCCEEDED
    if failure is not None:
        made.failed(failure)
    return made


def ended(path: str, outcome: Outcome, seconds: float, *attempts: Attempt) -> Summary:
    exchange = Exchange("r1", method="POST", path=path, client="192.0.2.7")
    exchange.attempts += tuple(attempts)
    return Summary(exchange, outcome, 200, seconds)


def values(metrics: Metrics) -> dict[str, Mapping[tuple[str, ...], float]]:
    return {metric.name: metric.values for metric in metrics.collect_metrics()}


def test_requests_add_up_by_family_outcome_and_model_their_time_by_family_alone() -> None:
    metrics = Metrics()
    for summary in (
        ended("/api/chat", Outcome.ANSWERED, 0.5, attempt("a", "one")),
        ended("/api/chat", Outcome.ANSWERED, 0.25, attempt("a", "one")),
        ended("/api/chat", Outcome.BROKEN, 2.0, attempt("a", "two")),
        ended("/api/chat", Outcome.REFUSED, 0.25),
        ended("/v1/chat/completions", Outcome.ANSWERED, 8.0, attempt("b", "one")),
    ):
        metrics.exchange_ended(summary)
    seen = values(metrics)
    assert seen["herdgate_requests_total"] == {
        ("ollama", "answered", "one:latest"): 2,
        ("ollama", "broken", "two:latest"): 1,
        ("ollama", "refused", ""): 1,
        ("openai", "answered", "one:latest"): 1,
    }
    assert seen["herdgate_request_seconds_total"] == {("ollama",): 3.0, ("openai",): 8.0}


def test_every_attempt_counts_and_the_model_is_named_as_the_last_backend_names_it() -> None:
    metrics = Metrics()
    dead = attempt("a", "one", Failure(Kind.UNREACHABLE, Phase.CONNECT, "nobody is there"))
    metrics.exchange_ended(ended("/api/chat", Outcome.ANSWERED, 1.0, dead, attempt("b", "ONE")))
    seen = values(metrics)
    assert seen["herdgate_requests_total"] == {("ollama", "answered", "ONE:latest"): 1}
    assert seen["herdgate_attempts_total"] == {("a", "failed"): 1, ("b", "succeeded"): 1}
    assert seen["herdgate_attempt_failures_total"] == {("a", "unreachable"): 1}


def test_a_backend_that_was_passed_over_has_not_been_attempted() -> None:
    metrics = Metrics()
    full = Failure(Kind.SKIPPED, Phase.CONNECT, "full")
    metrics.exchange_ended(ended("/api/chat", Outcome.ANSWERED, 1.0, attempt("a", "one", full), attempt("b", "one")))
    metrics.exchange_ended(ended("/api/chat", Outcome.FAILED, 1.0, attempt("a", "one", full)))
    seen = values(metrics)
    assert seen["herdgate_attempts_total"] == {("b", "succeeded"): 1}
    assert seen["herdgate_attempt_failures_total"] == {("a", "skipped"): 2}
    assert seen["herdgate_requests_total"] == {
        ("ollama", "answered", "one:latest"): 1,
        ("ollama", "failed", "one:latest"): 1,
    }


def test_of_a_denied_request_nothing_but_its_time_is_told() -> None:
    metrics = Metrics()
    metrics.exchange_ended(ended("/api/chat", Outcome.DENIED, 1.0, attempt("a", "one")))
    seen = values(metrics)
    assert seen["herdgate_requests_total"] == {("ollama", "denied", "(denied)"): 1}
    assert seen["herdgate_request_seconds_total"] == {("ollama",): 1.0}
    assert seen["herdgate_attempts_total"] == {}
