"""What runs where, and how much of it may."""

from __future__ import annotations

from dataclasses import dataclass, field

from herdgate import Backend, Candidate, ModelName


def limit_of(backend: Backend, model: ModelName) -> int | None:
    """How many requests of this model a backend runs at most; None: any number."""
    limits = [limit for limit in (backend.max_concurrency, _model_limit(backend, model)) if limit is not None]
    return min(limits, default=None)


def _model_limit(backend: Backend, model: ModelName) -> int | None:
    for pattern, limit in backend.model_concurrency:
        if pattern.matches(model):
            return limit
    return None


@dataclass(slots=True)
class _Load:
    """What runs on one backend, which is kept as the newest request knows it."""

    backend: Backend
    known_since: float = float("-inf")
    running: int = 0
    of_model: dict[str, int] = field(default_factory=dict)


class Slots:
    """What runs where. Limits are those that the newest request knows: one that waits since before a reload knows old
    ones.
    """

    def __init__(self) -> None:
        self._loads: dict[str, _Load] = {}

    def concern(self, backend: Backend) -> bool:
        """Whether what runs on this backend is counted: it has a limit, or had one for a request that still runs."""
        return backend.max_concurrency is not None or bool(backend.model_concurrency) or backend.name in self._loads

    def learn(self, backend: Backend, started: float) -> bool:
        """Have a request's view of a backend, by the time at which the request started. Returns whether it is news."""
        load = self._loads.get(backend.name)
        if load is None:
            self._loads[backend.name] = _Load(backend, started)
            return False
        if load.backend is backend or started < load.known_since or load.backend == backend:
            return False
        load.backend, load.known_since = backend, started
        return True

    def limit(self, candidate: Candidate) -> int | None:
        """How many requests of its model its backend runs at most; None: any number."""
        load = self._loads.get(candidate.backend.name)
        return limit_of(load.backend if load else candidate.backend, candidate.model.name)

    def free(self, candidate: Candidate) -> bool:
        """Whether its backend may run one more request of its model."""
        load = self._loads.get(candidate.backend.name)
        if load is None:
            return True
        backend = load.backend
        if backend.max_concurrency is not None and load.running >= backend.max_concurrency:
            return False
        if not backend.model_concurrency:
            return True
        limit = _model_limit(backend, candidate.model.name)
        return limit is None or load.of_model.get(candidate.model.name.key, 0) < limit

    def take(self, candidate: Candidate) -> None:
        """Count one more."""
        load = self._loads.get(candidate.backend.name)
        if load is None:
            load = self._loads[candidate.backend.name] = _Load(candidate.backend)
        load.running += 1
        key = candidate.model.name.key
        load.of_model[key] = load.of_model.get(key, 0) + 1

    def give_back(self, candidate: Candidate) -> None:
        """Count one less."""
        load = self._loads[candidate.backend.name]
        load.running -= 1
        load.of_model[candidate.model.name.key] -= 1
        if not load.of_model[candidate.model.name.key]:
            del load.of_model[candidate.model.name.key]  # models come and go
        if not load.running:
            del self._loads[candidate.backend.name]  # and so do backends
