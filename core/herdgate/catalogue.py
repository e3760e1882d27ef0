"""Which backend holds which model: the lists of all backends, merged.

Pure: it is built anew from the last known lists and the time, and never changes. Rules:

* A model is known by its canonical key, so spellings that differ in case are one model. The first backend in configured
  order decides which entry is shown.
* A stub (`remote_host`: the prompt leaves for another server) exists only on a backend whose operator set `cloud`, and
  never beside a local model of the same name. That holds even while the local model's backend is away: a machine that
  is down must not turn into prompts sent to a third party.
* A backend that has not been polled successfully for `GONE_AFTER` seconds is gone: its models leave the listings, but
  routing remembers them, so that callers are told to come back rather than that the model is forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from herdgate.backend import Backend, Candidate, ModelEntry
from herdgate.names import ModelName

GONE_AFTER = 300.0
"""Seconds since the last good poll after which a backend's models are no longer listed."""


@dataclass(frozen=True, slots=True)
class ModelList:
    """What one backend listed when it was last polled successfully.

    `fetched_at` is the time of that poll on the clock of `time.monotonic()`, whose seconds nobody sets, minus infinity
    if there was none. `error` says why a later poll failed.
    """

    backend: str
    entries: tuple[ModelEntry, ...]
    fetched_at: float
    error: str | None = None
    index: _Index = field(init=False, repr=False, compare=False)
    """Made here, once for each poll, because a catalogue is built after every poll of every backend."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _Index.of(self.entries))


class Catalogue:
    """An immutable answer to: who holds this model, and what is there at all. Made with `build`."""

    __slots__ = ("_sources", "_union", "known")

    def __init__(self, sources: Sequence[_Source], *, known: bool) -> None:
        self._sources = tuple(sources)
        self.known = known
        """Whether any backend's list was ever had. Until then nothing can be said about any model."""
        self._union: tuple[ModelEntry, ...] | None = None

    @classmethod
    def build(cls, backends: Sequence[Backend], lists: Mapping[str, ModelList], now: float) -> Catalogue:
        """Merge the lists, which are keyed by backend name; `now` is on the clock of `time.monotonic()`.

        `backends` are in configured order. A backend without a list hosts nothing yet; a list whose backend is not
        configured (any more) is left out.
        """
        polled = [(backend, lists[backend.name]) for backend in backends if backend.name in lists]
        sources = []
        for backend, listed in polled:
            gone = now - listed.fetched_at >= GONE_AFTER
            sources.append(_Source(backend, gone, listed.index.local, listed.index.stubs if backend.cloud else {}))
        return cls(sources, known=any(listed.fetched_at > float("-inf") for _, listed in polled))

    def holders(self, name: ModelName) -> tuple[Candidate, ...]:
        """The backends that hold a model, in configured order, those that are gone included; empty if there is none.

        A cloud name finds only the stub listed under that very name, and a `:local` name finds no stub.
        """
        return self.look_up(name).candidates()

    def look_up(self, name: ModelName) -> Held:
        """Look for a model in the same steps, and the same time, whether it is held anywhere or not."""
        key = name.key
        return Held(name, [(source, source.local.get(key), source.stubs.get(key)) for source in self._sources])

    def union(self) -> tuple[ModelEntry, ...]:
        """Every model held by a backend that is not gone, once; the latest `modified_at` first, then by name.

        A time that is missing or unreadable counts as the oldest.
        """
        if self._union is None:  # most catalogues are replaced before anybody asks
            self._union = tuple([entry for _, _, entry in sorted(self._listed(), key=_place)])
        return self._union

    def _listed(self) -> Iterable[_Row]:
        local: dict[str, _Row] = {}
        stubs: dict[str, _Row] = {}
        for source in reversed(self._sources):  # so that the first one has the last word
            if not source.gone:
                local.update(source.local)
                stubs.update(source.stubs)
        alone = [row for key, row in stubs.items() if not any(key in source.local for source in self._sources)]
        return [*local.values(), *alone]


class Held:
    """What a catalogue has of one model. Making something of it takes time only for a model that is held."""

    __slots__ = ("_name", "_rows")

    def __init__(self, name: ModelName, rows: Sequence[tuple[_Source, _Row | None, _Row | None]]) -> None:
        self._name = name
        self._rows = rows

    @property
    def cloud(self) -> bool:
        """Whether only a stub is held, which sends prompts to a third party. The same steps in every case."""
        local = stub = None
        for _, here, there in self._rows:
            local, stub = local or here, stub or there
        return stub is not None and local is None and self._name.source != "local"

    def candidates(self) -> tuple[Candidate, ...]:
        """See `Catalogue.holders`."""
        found = tuple([Candidate(source.backend, local[2], source.gone) for source, local, _ in self._rows if local])
        if found or self._name.source == "local":
            return found
        return tuple([Candidate(source.backend, stub[2], source.gone) for source, _, stub in self._rows if stub])


_Row = tuple[float, str, ModelEntry]
"""A model of one backend behind its place in a listing, worked out once."""
_place = itemgetter(0, 1)


@dataclass(frozen=True, slots=True)
class _Index:
    """The models of one list by key, one row for each."""

    local: Mapping[str, _Row]
    stubs: Mapping[str, _Row]

    @classmethod
    def of(cls, entries: Iterable[ModelEntry]) -> _Index:
        # A name that ends in :local is an old Ollama's, and cannot be asked for: it now means the name without it.
        rows = [(-entry.modified, entry.name.display, entry) for entry in entries if entry.name.source != "local"]
        # Of names that differ only in case a backend runs either, so any may stand for them, but the same in every
        # poll: Ollama lists models of the same second in random order. Backwards, so that the newest has the last word.
        rows.sort(key=_place, reverse=True)
        local: dict[str, _Row] = {}
        stubs: dict[str, _Row] = {}
        for row in rows:
            entry = row[2]
            (stubs if entry.cloud else local)[entry.name.key] = row
        return cls(local, stubs)


@dataclass(frozen=True, slots=True)
class _Source:
    """One backend's part of a catalogue."""

    backend: Backend
    gone: bool
    local: Mapping[str, _Row]
    stubs: Mapping[str, _Row]
