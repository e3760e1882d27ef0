"""What several backends say while each of them pulls the same model, as one stream of progress lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Line = dict[str, object]


class Progress:
    """Adds up the progress of all backends. Whoever reads the lines may take them for those of one Ollama.

    A layer counts as often as there are backends at work, so that its bar is full when the last of them has it. What
    comes after the layers is told once all backends have come so far. `success` is told by `last` alone.
    """

    def __init__(self, backends: Sequence[str]) -> None:
        self._working = set(backends)
        self._several = len(backends) > 1
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._layers: dict[str, dict[str, tuple[int, int]]] = {}
        self._reached: dict[str, set[str]] = {}

    def step(self, backend: str, said: Mapping[str, object]) -> Line | None:
        """The line that one backend's line makes of it; None if there is nothing new to tell."""
        status, digest = str(said.get("status", "")), said.get("digest")
        if status == "success":
            return None
        if isinstance(digest, str):
            return self._layer(backend, status, digest, said)
        reached = self._reached.setdefault(status, set())
        first = not reached
        reached.add(backend)
        if not self._layers:
            return {"status": status} if first else None
        return {"status": status} if reached >= self._working else None

    def _layer(self, backend: str, status: str, digest: str, said: Mapping[str, object]) -> Line:
        layer = self._layers.setdefault(digest, {})
        layer[backend] = _bytes(said.get("total")), _bytes(said.get("completed"))
        shares = [share for name, share in layer.items() if name not in self._failed]
        backends = len(self._working) + len(self._done)
        total = max((total for total, _ in shares), default=0) * backends
        return {"status": status, "digest": digest, "total": total, "completed": sum(done for _, done in shares)}

    def done(self, backend: str) -> None:
        """One backend has all of it."""
        self._working.discard(backend)
        self._done.append(backend)

    def failed(self, backend: str, why: str) -> None:
        """One backend has given up."""
        self._working.discard(backend)
        self._failed[backend] = why

    def last(self) -> Line:
        """How it ended: `success` if every backend has the model, else an error that says which has not, and why."""
        if not self._failed:
            return {"status": "success"}
        if not self._several:
            return {"error": next(iter(self._failed.values()))}
        problems = "; ".join(f"{backend}: {why}" for backend, why in self._failed.items())
        return {"error": f"{problems} (done on: {', '.join(self._done) or 'none'})"}


def _bytes(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
