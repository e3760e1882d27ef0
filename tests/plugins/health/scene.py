"""Attempts as the failover loop would make them, and a clock that is set by hand."""

from herdgate import Attempt, AttemptOutcome, Backend, Candidate, Exchange, Failure, ModelEntry


class Clock:
    """Time stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def candidate(backend: str, model: str = "llama3") -> Candidate:
    return Candidate(Backend(backend, f"http://{backend}"), ModelEntry.from_tags({"name": model}))


def attempt(backend: str, model: str = "llama3", *, number: int = 1, failure: Failure | None = None) -> Attempt:
    tried = Attempt(number, candidate(backend, model))
    if failure is not None:
        tried.failed(failure)
        tried.status = failure.status
    return tried


def succeeded(backend: str, model: str = "llama3", *, number: int = 1) -> Attempt:
    tried = attempt(backend, model, number=number)
    tried.outcome, tried.status, tried.first_event_after = AttemptOutcome.SUCCEEDED, 200, 0.1
    return tried


def exchange(*attempts: Attempt) -> Exchange:
    made = Exchange("r1", method="POST", path="/api/chat", client="127.0.0.1")
    made.attempts += tuple(attempts)
    return made
