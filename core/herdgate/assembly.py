"""Make a runtime of settings: the lifespans of its plugins entered, discovery under way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import herdgate
from herdgate import explain
from herdgate.app import App
from herdgate.backend import BackendSettings
from herdgate.config import Settings
from herdgate.discovery import Discovery, Known
from herdgate.fleet import LiveFleet
from herdgate.keys import hash_secret
from herdgate.leaks import Leaks
from herdgate.metricspage import MetricsPage
from herdgate.openapipage import openapi_route
from herdgate.origins import OriginRules
from herdgate.plugincode import PluginCode
from herdgate.plugins import Plugin
from herdgate.points import HookPoints
from herdgate.quarantineboard import Board
from herdgate.routetable import RouteTable, own_page
from herdgate.runtime import Process, Runtime
from herdgate.scope import Scope
from herdgate.snapshot import Snapshot
from herdgate.state import State
from herdgate.tasks import Tasks
from herdgate.upstream.client import Upstream
from herdgate.upstream.tls import tls_context
from herdgate.upstream.transport import UpstreamTransport
from herdgate.watchdog import Watchdog

STOP_GRACE = 1.0
"""Seconds that background work, such as async `exchange_ended` hooks, may take to finish."""


class Assembled:
    """A runtime with all that it has opened."""

    def __init__(self, runtime: Runtime, metrics: MetricsPage, leaks: Leaks, scope: AsyncExitStack) -> None:
        self.runtime = runtime
        self.metrics = metrics
        self._leaks = leaks
        self._scope = scope

    def succeed(self, before: Assembled) -> None:
        """From now on this one serves."""
        self._leaks.alone(before._leaks)

    async def close(self) -> None:
        """Stop polling, break what its clients still have open, let background work end, leave the lifespans."""
        await self._scope.aclose()


async def assemble(
    settings: Settings, plugins: Sequence[Plugin], process: Process, known: Known | None = None
) -> Assembled:
    """Make a runtime of these plugins. `known` are the models that the runtime which it is to replace knows.

    Raises one of `START_FAILURES`, and leaves nothing behind.
    """
    async with AsyncExitStack() as scope:
        points = HookPoints(plugins)
        ledger = points.ledger
        ledger.quiet = True  # what goes wrong here is raised
        discovery = Discovery(points, Snapshot(process.state), connect, settings.discovery.interval)
        app, fleet = app_for(settings, points, process.state, process.memory), LiveFleet(discovery)
        code, tasks = PluginCode(points.plugins), Tasks()
        leaks = Leaks(code, beside_others=known is not None)
        scope.push_async_callback(leaks.end)
        process.plugin_code.append(code)
        scope.callback(process.plugin_code.remove, code)
        scope.enter_context(Watchdog(code, ledger, process.plugin_code))
        await _enter(points, app, fleet, scope)
        scope.push_async_callback(tasks.close, STOP_GRACE)
        board = Board(process.state)
        ledger.quarantine.on_change = lambda left, out: tasks.spawn(board.post(left, out), "quarantine")
        scope.callback(ledger.quarantine.close)
        scope.push_async_callback(discovery.close)
        await discovery.start(points.backend_sources(app), known)
        origins = OriginRules(settings.server.cors_origins, settings.server.allowed_hosts)
        runtime = Runtime(settings, process, points, discovery, origins, tasks, RouteTable())
        pages = (explain.route(runtime), openapi_route(lambda: [each.endpoint for each in runtime.routes.mounted]))
        metrics = MetricsPage(points, process.state, settings.server.workers)
        own = [*map(own_page, pages), own_page(metrics.route(), public=settings.metrics.public)]
        runtime.routes = RouteTable.build(points.routes(app, fleet), ledger, own=own)
        ledger.quiet = False
        return Assembled(runtime, metrics, leaks, scope.pop_all())


async def _enter(points: HookPoints, app: App, fleet: LiveFleet, scope: AsyncExitStack) -> None:
    lifespans = Scope()
    scope.push_async_callback(lifespans.close)
    await points.lifespan.enter(lifespans, app, fleet)


def connect(settings: BackendSettings) -> Upstream:
    """The upstream of a backend, with a transport of its own. Raises TlsConfigError."""
    tls = None
    if settings.base_url.startswith("https:"):
        tls = tls_context(
            verify=settings.verify,
            ca_file=settings.ca_file,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
        )
    return Upstream(settings, UpstreamTransport(tls=tls))


def app_for(settings: Settings, points: HookPoints, state: State, memory: dict[str, Any] | None = None) -> App:
    """What plugins may know of a gateway with these settings."""
    admin = settings.admin_key
    return App(
        version=herdgate.__version__,
        host=settings.server.host,
        backends=settings.backends,
        plugins=tuple(plugin.name for plugin in points.plugins),
        state=state,
        admin_key_hash=None if admin is None else hash_secret(admin.get_secret_value()),
        memory={} if memory is None else memory,
    )
