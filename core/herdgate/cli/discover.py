"""Ask the backends now: through the plugins and with the credentials that a gateway would use, but without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import httpx

from herdgate.assembly import app_for, connect
from herdgate.backend import BackendSettings, ModelEntry
from herdgate.cli.diagnosis import Diagnosis, diagnose
from herdgate.cli.nostate import state_or_stand_in
from herdgate.cli.output import waiting_for
from herdgate.config import Settings
from herdgate.discovery import Discovery
from herdgate.exchange import UpstreamRequest
from herdgate.fleet import LiveFleet
from herdgate.logs import faults_untold
from herdgate.plugins import load_plugins
from herdgate.points import HookPoints
from herdgate.running import PS_DEADLINE
from herdgate.scope import Scope
from herdgate.snapshot import Snapshot
from herdgate.sources import list_backends
from herdgate.state import State
from herdgate.upstream.client import Upstream, UpstreamFailed

_CONCERNED = {"backend_sources", "list_models", "shape_catalogue"}
"""Hooks that say which backends there are and what they host. Only plugins that have one of them are started."""
_UNKNOWN_KIND = Diagnosis("unknown_kind", "no plugin knows how to list the models of this backend")


@dataclass(frozen=True, slots=True)
class Asked:
    """What one backend said, or why it said nothing. `latency` is in seconds.

    `loaded` are the models in memory; None if that is not known, for one because a model is just being loaded (`busy`).
    """

    settings: BackendSettings
    problem: Diagnosis | None = None
    entries: tuple[ModelEntry, ...] = ()
    version: str | None = None
    latency: float | None = None
    loaded: tuple[str, ...] | None = None
    busy: bool = False


@dataclass(frozen=True)
class Backends:
    """The enabled backends in configured order, ready to be asked; `timeout` is in seconds, for one answer."""

    upstreams: Sequence[Upstream]
    state: State
    _points: HookPoints
    _timeout: float

    async def each(self, ask: Callable[[Upstream], Awaitable[Asked]]) -> list[Asked]:
        """Ask all of them at the same time; meanwhile a terminal shows who has not answered yet."""
        with waiting_for([upstream.backend.name for upstream in self.upstreams]) as answered:

            async def one(upstream: Upstream) -> Asked:
                asked = await ask(upstream)
                answered(upstream.backend.name)
                return asked

            return await asyncio.gather(*map(one, self.upstreams))

    async def models_of(self, upstream: Upstream) -> Asked:
        """Models and version of one backend, asked at the same time."""
        asked = self._listed(upstream, Asked(upstream.settings))
        listed, version = await asyncio.gather(asked, self._version(upstream))
        return replace(listed, version=version)

    async def probe(self, upstream: Upstream) -> Asked:
        """Everything that can be asked of one backend, in the way in which requests are routed to it."""
        asked, loop = Asked(upstream.settings), asyncio.get_running_loop()
        started = loop.time()
        try:
            reply = await self._get(upstream, "/api/version", self._timeout)
            asked = replace(asked, latency=loop.time() - started, version=_version_in(reply))
        except Exception as error:
            return replace(asked, problem=diagnose(error, upstream.settings, self._timeout))
        asked = await self._listed(upstream, asked)
        return asked if asked.problem else await self._with_loaded(upstream, asked)

    async def _listed(self, upstream: Upstream, asked: Asked) -> Asked:
        """What the gateway would take for the models of this backend."""
        try:
            async with asyncio.timeout(self._timeout):
                entries = await self._points.list_models(upstream.backend, upstream.client(self._timeout))
            if entries is None:
                return replace(asked, problem=_UNKNOWN_KIND)
            return replace(asked, entries=tuple(self._points.shape_catalogue.sync(upstream.backend, entries)))
        except Exception as error:
            return replace(asked, problem=diagnose(error, upstream.settings, self._timeout))

    async def _version(self, upstream: Upstream) -> str | None:
        """The version, if this is a kind of server that tells one."""
        try:
            return _version_in(await self._get(upstream, "/api/version", self._timeout))
        except (UpstreamFailed, httpx.HTTPError, TimeoutError):
            return None

    async def _with_loaded(self, upstream: Upstream, asked: Asked) -> Asked:
        """Ollama ≥ 0.32.4 does not answer `/api/ps` while it loads a model, so silence is no failure here."""
        try:
            reply = await self._get(upstream, "/api/ps", min(PS_DEADLINE, self._timeout))
        except TimeoutError:
            return replace(asked, busy=True)
        except (UpstreamFailed, httpx.HTTPError):
            return asked
        return replace(asked, loaded=_loaded_in(reply))

    async def _get(self, upstream: Upstream, path: str, timeout: float) -> httpx.Response:
        """Ask exactly as a routed request would. Raises UpstreamFailed, httpx errors and TimeoutError."""
        asking = UpstreamRequest("GET", path, (("accept", "application/json"),), b"")
        async with asyncio.timeout(timeout):
            reply = await upstream.send(asking)
            try:
                body = await reply.whole()
            finally:
                await reply.aclose()
        asked = httpx.Request("GET", upstream.settings.base_url + path)
        return httpx.Response(reply.head.status, content=body, request=asked)


@asynccontextmanager
async def configured(settings: Settings, timeout: float) -> AsyncIterator[Backends]:
    """The backends that a gateway with these settings would have. Raises what the start of a gateway raises.

    A state that cannot be opened is no reason not to ask backends; `state` then says why at the first call.
    """
    plugins = load_plugins(settings.plugins)
    points = HookPoints([plugin for plugin in plugins if _CONCERNED & plugin.impls.keys()])
    points.list_models.info = replace(points.list_models.info, deadline=timeout)
    async with AsyncExitStack() as scope:
        scope.enter_context(faults_untold())
        state = await state_or_stand_in(settings.server.state.get_secret_value())
        scope.push_async_callback(state.close)
        app = app_for(settings, HookPoints(plugins), state)
        lifespans = Scope()
        scope.push_async_callback(lifespans.close)
        no_fleet = LiveFleet(Discovery(points, Snapshot(state), connect, settings.discovery.interval))  # never started
        await points.lifespan.enter(lifespans, app, no_fleet)
        upstreams = []
        for backend in await list_backends(points.backend_sources(app)):
            upstream = connect(backend)
            scope.push_async_callback(upstream.aclose)
            upstreams.append(upstream)
        yield Backends(upstreams, state, points, timeout)


def _version_in(reply: httpx.Response) -> str | None:
    version = _fields_of(reply).get("version")
    return version if isinstance(version, str) else None


def _loaded_in(reply: httpx.Response) -> tuple[str, ...] | None:
    listed = _fields_of(reply).get("models")
    if not isinstance(listed, list):
        return None
    names = []
    for row in listed:
        try:
            names.append(ModelEntry.from_tags(row).name.display)
        except ValueError:
            continue
    return tuple(names)


def _fields_of(reply: httpx.Response) -> dict[str, object]:
    """The JSON object of a good reply; an empty one if it is something else."""
    if not reply.is_success:
        return {}
    try:
        said = json.loads(reply.content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
