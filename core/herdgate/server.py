"""One gateway process from start to stop: state, plugins, discovery, listener, drain."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from sanic import Sanic

import herdgate
from herdgate.app import App, CannotStart
from herdgate.backend import BackendSettings
from herdgate.config import Settings
from herdgate.discovery import Discovery
from herdgate.faults import PluginFault
from herdgate.fleet import LiveFleet
from herdgate.front.app import create_app
from herdgate.front.connection import GatewayConnection
from herdgate.front.door import Door
from herdgate.keys import hash_secret
from herdgate.leaks import Leaks
from herdgate.origins import OriginRules
from herdgate.plugincode import PluginCode
from herdgate.plugins import Plugin, load_plugins
from herdgate.points import HookPoints
from herdgate.quarantineboard import Board
from herdgate.routetable import RouteTable
from herdgate.runtime import Runtime
from herdgate.scope import Scope
from herdgate.snapshot import Snapshot
from herdgate.state import State, StateUnavailable, open_state
from herdgate.state.watch import StateWatch
from herdgate.tasks import Tasks
from herdgate.upstream.client import Upstream
from herdgate.upstream.tls import tls_context
from herdgate.upstream.transport import UpstreamTransport
from herdgate.watchdog import Watchdog

log = logging.getLogger("herdgate")

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel lowers it to its own limit."""
STOP_GRACE = 1.0
"""Seconds that background work, such as async `exchange_ended` hooks, may take to finish."""

_names = itertools.count(1)


def listen(host: str, port: int, *, company: bool = False) -> socket.socket:
    """A listening socket, bound here so that a port in use is one clear message. Raises CannotStart.

    `company` lets further sockets of this user that say so, too, have the same port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The protocol must be named: asyncio switches Nagle's algorithm off only on sockets that say that they are TCP.
        listener = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if company:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"cannot listen on {host} port {port}: {error.strerror}. Is another program using it? "
            f"HERDGATE_PORT or --port chooses another one."
        ) from error
    return listener


class Gateway:
    """A gateway that serves in the running loop. `async with Gateway(settings) as gateway: … gateway.url`.

    Entering raises ConfigError (plugins), CannotStart, StateUnavailable or PluginFault, and leaves nothing behind.
    """

    def __init__(self, settings: Settings, listener: socket.socket | None = None) -> None:
        self.settings = settings
        self._listener = listener
        self._scope = AsyncExitStack()
        self._server: Any = None
        self._watching = Tasks()
        self._door: Door
        self.runtime: Runtime

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as scope:
            await self._start(scope)
            self._scope = scope.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(grace=0.0)

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        assert self._listener is not None  # noqa: S101 - it serves
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def unsent_bytes(self) -> int:
        """What has been written to callers and waits in this process for them to read it."""
        connections = self._server.connections if self._server is not None else ()
        return sum(each.transport.get_write_buffer_size() for each in connections)

    @property
    def connections(self) -> int:
        """How many callers are connected."""
        return len(self._server.connections) if self._server is not None else 0

    async def stop(self, grace: float) -> None:
        """Stop accepting, give requests in flight `grace` seconds, break the rest, take everything down."""
        if self._server is None:
            return
        server, self._server = self._server, None
        self.runtime.draining = True
        server.server.close()
        try:
            await self._drain(server, grace)
        finally:
            await self._scope.aclose()

    async def _drain(self, server: Any, grace: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        while True:
            for connection in list(server.connections):
                # Idle ones are closed now, the others when their request has ended.
                connection.close_if_idle()
                connection.keep_alive = False
            if not server.connections or loop.time() >= until:
                break
            await asyncio.sleep(0.02)
        for connection in list(server.connections):
            connection.abort()
        broken = list(self._door.running)
        for task in broken:
            task.cancel()
        if broken:
            await asyncio.wait(broken)

    # starting

    async def _start(self, scope: AsyncExitStack) -> None:
        settings = self.settings
        plugins = self._load()
        points = HookPoints(plugins)
        state = await _opened_state(settings, scope)
        watch = StateWatch(state)
        app = app_for(settings, points, state)
        discovery = Discovery(points, Snapshot(state), connect, settings.discovery.interval)
        fleet = LiveFleet(discovery)
        tasks, watching = Tasks(), self._watching
        scope.push_async_callback(tasks.close, STOP_GRACE)
        scope.push_async_callback(watching.close)
        watching.spawn(watch.run(), "state watch")
        board = Board(state)
        points.ledger.quarantine.on_change = lambda left, out: tasks.spawn(board.post(left, out), "quarantine")
        code = PluginCode(plugins)
        scope.push_async_callback(Leaks(code).end)
        scope.enter_context(Watchdog(code, points.ledger))
        lifespans = Scope()
        scope.push_async_callback(lifespans.close)
        await points.lifespan.enter(lifespans, app, fleet)
        scope.push_async_callback(discovery.close)
        await discovery.start(points.backend_sources(app))
        origins = OriginRules(settings.server.cors_origins, settings.server.allowed_hosts)
        self.runtime = Runtime(settings, points, discovery, state, watch, origins, tasks)
        self.runtime.routes = RouteTable.build(points.routes(app, fleet), points.ledger)
        await self._serve(scope)

    def _load(self) -> tuple[Plugin, ...]:
        return load_plugins(self.settings.plugins)

    async def _serve(self, scope: AsyncExitStack) -> None:
        if self._listener is None:
            self._listener = listen(self.settings.server.host, self.settings.server.port)
        scope.callback(self._listener.close)
        self._door = Door(self.runtime)
        sanic = create_app(f"herdgate-{os.getpid()}-{next(_names)}", self._door)
        scope.callback(Sanic.unregister_app, sanic)
        server: Any = await sanic.create_server(
            sock=self._listener,
            protocol=GatewayConnection,
            return_asyncio_server=True,
            backlog=BACKLOG,
            access_log=False,
        )
        await server.startup()
        await server.before_start()
        await server.start_serving()
        await server.after_start()
        self._watching.spawn(self._door.watch(server.connections), "silent callers")
        self._server = server


def connect(settings: BackendSettings) -> Upstream:
    """The upstream of a backend, with a transport of its own."""
    tls = None
    if settings.base_url.startswith("https:"):
        tls = tls_context(
            verify=settings.verify,
            ca_file=settings.ca_file,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
        )
    return Upstream(settings, UpstreamTransport(tls=tls))


async def _opened_state(settings: Settings, scope: AsyncExitStack) -> State:
    try:
        state = await open_state(settings.server.state.get_secret_value())
    except StateUnavailable as error:
        raise CannotStart(f"the state cannot be opened: {error}") from error
    scope.push_async_callback(state.close)
    return state


def app_for(settings: Settings, points: HookPoints, state: State) -> App:
    """What plugins may know of a gateway with these settings."""
    admin = settings.admin_key
    return App(
        version=herdgate.__version__,
        host=settings.server.host,
        backends=settings.backends,
        plugins=tuple(plugin.name for plugin in points.plugins),
        state=state,
        admin_key_hash=None if admin is None else hash_secret(admin.get_secret_value()),
    )


__all__ = ["Gateway", "PluginFault", "app_for", "connect", "listen"]
