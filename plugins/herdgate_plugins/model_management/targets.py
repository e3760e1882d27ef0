"""Which backends a management request is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from herdgate import Backend, Candidate

HEADER = "x-herdgate-backend"
"""Names the backends, parted by commas, or says `all`. A client of Ollama can be given headers; it needs no more."""


class NoTarget(Exception):  # noqa: N818 - an answer to the caller
    """No backend can be meant; the message tells the caller why. `status` is that of the reply."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def named(headers: Mapping[str, str], backends: Sequence[Backend]) -> list[Backend] | None:
    """The backends that the request names, in configured order; None if it names none. Raises NoTarget."""
    text = headers.get(HEADER)
    if text is None:
        return None
    wanted = {word.strip().lower() for word in text.split(",")} - {""}
    if wanted == {"all"}:
        return list(backends)
    found = [backend for backend in backends if backend.name.lower() in wanted]
    missing = wanted - {backend.name.lower() for backend in found}
    if missing or not found:
        names = ", ".join(backend.name for backend in backends)
        raise NoTarget(f"{HEADER}: no backend {', '.join(sorted(missing))}; there are {names}")
    return found


def belongs(holders: Sequence[Candidate], backends: Sequence[Backend]) -> list[Backend]:
    """Where a model belongs: on the backends that have it; one that nobody has yet, on the first. Raises NoTarget."""
    found = present(holders)
    if not found and not backends:
        raise NoTarget("there is no backend", 503)
    return found or [backends[0]]


def present(holders: Sequence[Candidate]) -> list[Backend]:
    """The backends that have a model and can be asked to do something about it."""
    return [holder.backend for holder in holders if not holder.gone]


def only(backends: Sequence[Backend]) -> Backend:
    """The one backend of a request that makes sense on one alone. Raises NoTarget."""
    if len(backends) != 1:
        raise NoTarget(f"{HEADER}: name one backend, this cannot be done on several at once")
    return backends[0]
