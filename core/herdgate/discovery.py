"""Keep the catalogue true: ask every backend, again and again, what it hosts.

Each backend has a poller of its own, so that a slow or dead one delays nobody. No request ever waits for a poll.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from herdgate.backend import Backend, BackendSettings
from herdgate.catalogue import Catalogue, ModelList
from herdgate.faults import PluginFault
from herdgate.hooks import BackendSource
from herdgate.points import HookPoints
from herdgate.poll import ask, version_of
from herdgate.snapshot import Remembered, Snapshot
from herdgate.sources import list_backends
from herdgate.tasks import Tasks
from herdgate.upstream.client import Upstream

log = logging.getLogger("herdgate.discovery")

JITTER = 0.1
"""Polls are spread by this share of the interval, so that many gateways do not ask in step."""
NEWS = 0.5
"""A backend that another process has polled within this share of the interval is not polled again."""
REFRESH_PAUSE = 1.0
"""Seconds between two polls that requests caused: a backend that answers 404 to everything is not flooded."""


@dataclass(slots=True)
class _Watched:
    upstream: Upstream
    poke: asyncio.Event = field(default_factory=asyncio.Event)
    polled: asyncio.Event = field(default_factory=asyncio.Event)
    polled_at: float = float("-inf")
    task: asyncio.Task[None] | None = None
    known: Remembered | None = None
    """The last list, as it was before plugins shaped it."""


Known = Mapping[tuple[str, str], Remembered]
"""What is known of backends by name and base URL."""


class Discovery:
    """Owns the pollers and the catalogue that they keep.

    `connect` makes the upstream of a backend. `upstream(name)` and `catalogue` are what requests read; both are plain
    look-ups.
    """

    def __init__(
        self,
        points: HookPoints,
        snapshot: Snapshot,
        connect: Callable[[BackendSettings], Upstream],
        interval: float,
    ) -> None:
        self._points = points
        self._snapshot = snapshot
        self._connect = connect
        self._interval = interval
        self._sources: list[tuple[str, BackendSource]] = []
        self._watched: dict[str, _Watched] = {}
        self._retired: list[_Watched] = []
        self._unusable: dict[str, str] = {}
        self._order: tuple[Backend, ...] = ()
        self._lists: dict[str, ModelList] = {}
        self._inherited: Known = {}
        self._tasks = Tasks()
        self.catalogue = Catalogue.build((), {}, time.monotonic())
        self.first_round_over = asyncio.Event()

    async def start(self, sources: Sequence[tuple[str, BackendSource]], known: Known | None = None) -> None:
        """Read the sources and the snapshot of the last run, and begin to poll. `known` is what the discovery that this
        one replaces has learned. Raises what a source or `connect` raises.
        """
        self._sources = list(sources)
        self._inherited = known or {}
        await self._adopt(await self._listed(strict=True), strict=True)
        self._inherited = {}
        self._tasks.spawn(self._follow_sources(), "backend sources")
        self._tasks.spawn(self._end_first_round(), "first discovery round")

    async def close(self) -> None:
        """Stop polling and close all upstreams. From now on there are no backends."""
        self._order = ()
        await self._tasks.close()
        for watched in (*self._watched.values(), *self._retired):
            await watched.upstream.aclose()

    def upstream(self, backend: Backend) -> Upstream | None:
        """The upstream of a backend; None if it has just been taken out of the configuration."""
        watched = self._watched.get(backend.name)
        return watched.upstream if watched else None

    @property
    def upstreams(self) -> list[Upstream]:
        """All upstreams in configured order."""
        watched = (self._watched.get(backend.name) for backend in self._order)
        return [each.upstream for each in watched if each is not None]  # one may be on its way out

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All backends in configured order."""
        return self._order

    @property
    def known(self) -> Known:
        """What the backends listed, for a discovery that takes over from this one."""
        return {
            (watched.upstream.settings.name, watched.upstream.settings.base_url): watched.known
            for watched in self._watched.values()
            if watched.known is not None
        }

    @property
    def versions(self) -> list[str]:
        """The versions of the backends that answered their last poll; if none did, those that were last heard of."""
        of_all = {
            name: known.version for name, each in self._watched.items() if (known := each.known) and known.version
        }
        answering = {name for name, listed in self._lists.items() if listed.error is None}
        return [version for name, version in of_all.items() if name in answering] or list(of_all.values())

    def refresh(self, backend: Backend) -> None:
        """Have a backend polled soon, because it did not have a model that the catalogue says it has. Returns at
        once.
        """
        watched = self._watched.get(backend.name)
        if watched is not None:
            watched.poke.set()

    # backends

    async def _listed(self, *, strict: bool = False) -> list[BackendSettings] | None:
        """All sources' backends; None if a source failed now that the gateway runs, so that the last list is kept."""
        try:
            return await list_backends(self._sources)
        except PluginFault as fault:
            self._points.ledger.record(fault)
            if strict:
                raise
            return None

    async def _follow_sources(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._adopt(await self._listed())
            except Exception:  # a backend that cannot be closed, say: the next list is looked at all the same
                log.exception("the list of backends cannot be taken over")
            self._rebuild()  # a backend may have been silent for long enough to leave the listings

    async def _adopt(self, listed: Sequence[BackendSettings] | None, *, strict: bool = False) -> None:
        """Start, replace and stop pollers so that they are those of this list. A backend that cannot be used is left
        out until a later list; if `strict`, it raises.
        """
        if listed is None:
            return
        wanted = {settings.name: settings for settings in listed}
        kept = {name for name, watched in self._watched.items() if wanted.get(name) == watched.upstream.settings}
        added = [settings for settings in listed if settings.name not in kept]
        remembered = await self._snapshot.load(added) if added else {}
        for name in self._watched.keys() - kept:
            self._retire(name)
        for settings in added:
            try:
                upstream = self._connect(settings)
            except Exception as error:  # a certificate file that is gone, say: the other backends go on
                if strict:
                    raise
                self._leave_out(settings.name, str(error))
                continue
            known = self._inherited.get((settings.name, settings.base_url)) or remembered.get(settings.name)
            self._watch(upstream, known)
        self._order = tuple(self._watched[name].upstream.backend for name in wanted if name in self._watched)
        self._rebuild()
        await self._part()

    def _watch(self, upstream: Upstream, known: Remembered | None) -> None:
        name = upstream.settings.name
        self._unusable.pop(name, None)
        watched = self._watched[name] = _Watched(upstream)
        if known is not None:
            self._take(upstream.backend, known)
        watched.task = self._tasks.spawn(self._poll_for_ever(watched), f"poll {name}")

    def _leave_out(self, name: str, why: str) -> None:
        if self._unusable.get(name) != why:  # once, not with every list
            log.error("backend %s is left out, it cannot be used: %s", name, why)
        self._unusable[name] = why

    def _retire(self, name: str) -> None:
        watched = self._watched.pop(name)
        self._lists.pop(name, None)
        self._retired.append(watched)
        watched.polled.set()
        if watched.task is not None:
            watched.task.cancel()

    async def _part(self) -> None:
        """Close what was retired. This may take its time, but by now the others are at work."""
        while self._retired:
            watched = self._retired.pop()
            try:
                if watched.task is not None:
                    await asyncio.wait([watched.task])
            finally:
                await watched.upstream.aclose()

    # polls

    async def _end_first_round(self) -> None:
        for watched in list(self._watched.values()):
            await watched.polled.wait()  # every poll has a deadline
        self.first_round_over.set()

    async def _poll_for_ever(self, watched: _Watched) -> None:
        while True:
            try:
                await self._poll(watched)
            except Exception:  # a list that cannot be stored, say: this backend must be asked again all the same
                log.exception("the poll of backend %s failed", watched.upstream.backend.name)
            watched.polled_at = time.monotonic()
            watched.polled.set()
            pause = self._interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret depends on it
            try:
                async with asyncio.timeout(pause):
                    await watched.poke.wait()
                    await asyncio.sleep(min(REFRESH_PAUSE, self._interval) - (time.monotonic() - watched.polled_at))
            except TimeoutError:
                pass  # nobody asked for a refresh: the next regular poll

    async def _poll(self, watched: _Watched) -> None:
        backend, settings = watched.upstream.backend, watched.upstream.settings
        polled_before = backend.name in self._lists
        asked_for = watched.poke.is_set()
        watched.poke.clear()
        if not asked_for and polled_before and (shared := await self._shared(watched)) is not None:
            self._take(backend, shared)
            return
        found = await ask(self._points, watched.upstream)
        if isinstance(found, str):
            self._take(backend, found)
            return
        known = Remembered(found, time.time(), watched.known.version if watched.known else None)
        self._take(backend, known)
        watched.known = replace(known, version=await version_of(watched.upstream))
        await self._snapshot.save(settings, watched.known)

    async def _shared(self, watched: _Watched) -> Remembered | None:
        """What another process of this gateway, or a replica, has learned since, if that is news enough to save a
        poll.
        """
        settings = watched.upstream.settings
        found = (await self._snapshot.load([settings])).get(settings.name)
        since = time.time() - self._interval * NEWS
        if watched.known is not None:
            since = max(since, watched.known.at)
        return found if found is not None and found.at > since else None

    def _take(self, backend: Backend, found: Remembered | str) -> None:
        """Let the catalogue have what plugins leave of a list. A backend that could not be asked keeps its last one.

        What is shared and remembered is the list as it was before: a process that hides models must not learn of them
        from one that does not.
        """
        watched = self._watched.get(backend.name)
        if watched is None or watched.upstream.backend is not backend:
            return  # its poll ended after it was replaced
        last = self._lists.get(backend.name) or ModelList(backend.name, (), float("-inf"))
        listed = last
        if isinstance(found, Remembered):
            watched.known, new = found, found.listed
            try:
                listed = replace(new, entries=tuple(self._points.shape_catalogue.sync(backend, new.entries)))
            except PluginFault as fault:
                found = fault.why
        error = found if isinstance(found, str) else None
        if error and last.error != error:
            log.warning("backend %s cannot be polled: %s", backend.name, error)
        elif last.error and not error:
            log.info("backend %s answers again", backend.name)
        self._lists[backend.name] = replace(listed, error=error)
        self._rebuild()

    def _rebuild(self) -> None:
        self.catalogue = Catalogue.build(self._order, self._lists, time.monotonic())
