"""The circuits of all backends and models, and the order of candidates that follows from them. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TypeAlias

from herdgate import Attempt, Backend, Candidate, Exchange
from herdgate_plugins.health.blame import Blame, blame, found_guilty, shows_life
from herdgate_plugins.health.circuit import Circuit, State

log = logging.getLogger("herdgate.health")

Way: TypeAlias = tuple[str, str]
"""The name of a backend and the key of a model; the key is empty for the backend as a whole."""


class Standing(IntEnum):
    """What is thought of a candidate, the best first."""

    SOUND = 0
    FAILING = 1
    """It answers, but not well, or its trial is still running."""
    DEAD = 2
    """Nothing gets through to its backend."""


class Circuits:
    """Only those of backends and models that have failed since they last did well; in good times there are none."""

    def __init__(self, limit: int, retry_after: float, clock: Callable[[], float]) -> None:
        """`limit` failures in a row open a circuit. A model's circuit takes a trial `retry_after` seconds later, a
        backend's as soon as the backend shows life (`alive`).
        """
        self._limit = limit
        self._retry_after = retry_after
        self._clock = clock
        self.troubled: dict[Way, Circuit] = {}
        """Empty in good times; whoever sees that need not ask for anything else."""

    def state(self, backend: str, model: str = "") -> State:
        """The state of one circuit; `model` is a model's key."""
        circuit = self.troubled.get((backend, model))
        return circuit.state if circuit else State.CLOSED

    # choosing

    def ordered(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        """The sound ones as they were, then the failing ones, the least bad first; None if all are sound.

        Dead ones come last and only when nothing else is left: trying one costs the time to connect, and a queue for a
        place on a backend that lives is the better way to wait.
        """
        if not self.troubled:
            return None
        ranked = [(*self._rank(candidate), candidate) for candidate in candidates]
        if all(standing is Standing.SOUND for standing, _, _ in ranked):
            return None
        ranked.sort(key=lambda each: each[:2])
        living = [candidate for standing, _, candidate in ranked if standing is not Standing.DEAD]
        return living or [candidate for _, _, candidate in ranked]

    def standing(self, candidate: Candidate) -> Standing:
        """What is thought of a candidate now."""
        return self._rank(candidate)[0]

    def _rank(self, candidate: Candidate) -> tuple[Standing, int]:
        whole = self.troubled.get((candidate.backend.name, ""))
        if whole is not None and not whole.takes_requests:
            return (Standing.DEAD if whole.state is State.OPEN else Standing.FAILING), whole.failures
        part = self.troubled.get(_way(candidate))
        if part is None:
            return Standing.SOUND, 0
        if self._clock() - part.opened_at >= self._retry_after:
            part.let_one_through()
        return (Standing.SOUND, 0) if part.takes_requests else (Standing.FAILING, part.failures)

    # learning

    def begins(self, attempt: Attempt) -> None:
        """Note that an attempt begins: where a trial is due, it is the trial."""
        for circuit in self._of(attempt):
            circuit.begins(attempt)

    def opened(self, exchange: Exchange, attempt: Attempt) -> None:
        """Note that an attempt has got its first event, and that it was good."""
        if self.troubled:
            self._forget((attempt.backend.name, ""))
            if (circuit := self.troubled.get(_way(attempt.candidate))) is not None:
                circuit.begun_well()
        if attempt.number > 1:
            for earlier in found_guilty(exchange.attempts, attempt):
                self._strike(_way(earlier.candidate), str(earlier.failure))

    def ends(self, attempt: Attempt) -> None:
        """Note how an attempt has ended; attempts that were left because their backend is dead were counted by then."""
        if self.troubled:
            self._frees(attempt)
        if attempt.failure is None:
            return
        match blame(attempt.failure):
            case Blame.BACKEND:
                self._strike((attempt.backend.name, ""), str(attempt.failure))
            case Blame.MODEL:
                self._strike(_way(attempt.candidate), str(attempt.failure))

    def alive(self, backend: Backend) -> None:
        """Note that a backend answers, in whatever way."""
        circuit = self.troubled.get((backend.name, ""))
        if circuit is None:
            return
        if circuit.state is State.CLOSED:
            del self.troubled[backend.name, ""]
        elif circuit.state is State.OPEN:
            circuit.let_one_through()
            log.info("backend %s answers again: the next request is its trial", backend.name)

    def dead(self, backend: Backend, why: str) -> None:
        """Note that a backend has not answered for long enough."""
        circuit = self._circuit((backend.name, ""))
        circuit.failures += 1
        if circuit.state is not State.OPEN:
            log.warning("backend %s is passed over until it answers: %s", backend.name, why)
        circuit.open(self._clock())

    # inside

    def _frees(self, attempt: Attempt) -> None:
        """What an attempt that has ended did not spoil is as good as new."""
        for circuit in self._of(attempt):
            circuit.ends(attempt)
        if shows_life(attempt):
            self._forget((attempt.backend.name, ""))
        if attempt.failure is None and attempt.first_event_after is not None:
            self._forget(_way(attempt.candidate))

    def _of(self, attempt: Attempt) -> list[Circuit]:
        if not self.troubled:
            return []
        ways = ((attempt.backend.name, ""), _way(attempt.candidate))
        return [circuit for way in ways if (circuit := self.troubled.get(way)) is not None]

    def _circuit(self, way: Way) -> Circuit:
        return self.troubled.setdefault(way, Circuit(self._limit))

    def _strike(self, way: Way, why: str) -> None:
        if self._circuit(way).strike(self._clock()):
            log.warning("%s is passed over after %d failures in a row: %s", _named(way), self._limit, why)

    def _forget(self, way: Way) -> None:
        circuit = self.troubled.pop(way, None)
        if circuit is not None and circuit.state is not State.CLOSED:
            log.info("%s is used as before", _named(way))


def _way(candidate: Candidate) -> Way:
    return candidate.backend.name, candidate.model.name.key


def _named(way: Way) -> str:
    backend, model = way
    return f"model {model} on backend {backend}" if model else f"backend {backend}"
