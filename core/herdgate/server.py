"""One gateway process from start to stop: state, listener, the runtime that serves, its replacement, drain."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from sanic import Sanic

from herdgate.app import CannotStart
from herdgate.assembly import Assembled, assemble
from herdgate.config import Settings
from herdgate.front.app import create_app
from herdgate.front.connection import GatewayConnection
from herdgate.front.crowd import Crowd
from herdgate.front.door import Door
from herdgate.listening import BACKLOG, listen, stop_accepting
from herdgate.metricspage import share
from herdgate.plugins import Plugin, load_plugins
from herdgate.pluginsource import Sources
from herdgate.runtime import Phase, Process, Runtime
from herdgate.state import State, StateUnavailable, open_state
from herdgate.state.watch import StateWatch
from herdgate.tasks import Tasks

LOOK = 0.02
"""Seconds between two looks at what is still in flight."""
CLOSE_GRACE = 10.0
"""Seconds that replaced runtimes, and one that is being prepared, may take to close when the gateway stops."""

_names = itertools.count(1)


class Gateway:
    """A gateway that serves in the running loop. `async with Gateway(settings) as gateway: … gateway.url`.

    Entering raises ConfigError (plugins), CannotStart, StateUnavailable or PluginFault, and leaves nothing behind.
    """

    def __init__(self, settings: Settings, listener: socket.socket | None = None) -> None:
        self.settings = settings
        self._listener = listener
        self._scope = AsyncExitStack()
        self._server: Any = None
        self._door: Door
        self._crowd: Crowd | None = None
        self._current: Assembled
        self._replaced: set[Assembled] = set()
        self._watching = Tasks()
        self._sharing = Tasks()
        self._retiring = Tasks()
        self._preparing = asyncio.Lock()
        self._ending = False
        self._process: Process

    @property
    def runtime(self) -> Runtime:
        """What serves the requests that come now."""
        return self._current.runtime

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

    # reloading

    async def prepare(self, settings: Settings) -> Assembled:
        """Make a runtime of other settings, its catalogue known, while requests go on with the present one.

        The caller hands it to `take_over` or closes it. Raises one of `START_FAILURES`; then nothing has changed.
        """
        async with self._preparing:
            return await self._prepare(settings)

    async def _prepare(self, settings: Settings) -> Assembled:
        sources = Sources()
        await asyncio.to_thread(sources.warm, [entry.use for entry in settings.plugins])  # requests go on meanwhile
        prepared = await assemble(settings, self._load(settings, sources), self._process, self.runtime.discovery.known)
        try:
            await prepared.runtime.discovery.first_round_over.wait()  # every poll has a deadline
            if self._ending:
                raise CannotStart("the gateway is stopping")
        except BaseException:
            await prepared.close()
            raise
        return prepared

    @property
    def ending(self) -> bool:
        """Whether its runtimes are being closed: nothing may take over any more, for nobody would close it."""
        return self._ending

    def take_over(self, prepared: Assembled) -> None:
        """Serve every further request with this runtime. The one before it lives until its last request has ended.

        Not to be called while it is `ending`.
        """
        before, self._current = self._current, prepared
        prepared.succeed(before)
        self._door.serve_with(prepared.runtime)
        self.settings = prepared.runtime.settings
        self._replaced.add(before)
        self._retiring.spawn(self._retire(before), "retiring runtime")

    async def _retire(self, replaced: Assembled) -> None:
        while replaced.runtime.requests and not self._ending:  # noqa: ASYNC110 - an event would cost every request
            await asyncio.sleep(LOOK)
        await replaced.close()
        self._replaced.discard(replaced)

    # stopping

    async def stop(self, grace: float, delay: float = 0.0) -> None:
        """Take requests for `delay` more seconds while `/readyz` says that it is over, refuse further ones, give those
        in flight `grace` seconds, break the rest, take everything down.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        try:
            self._process.phase = Phase.LEAVING
            await asyncio.sleep(delay)
            self._process.phase = Phase.REFUSING
            until = asyncio.get_running_loop().time() + grace
            await self._last_requests(until)
            await stop_accepting(server.server)
            if self._crowd is not None:
                await self._crowd.close()
            await self._drain(server, until)
        finally:
            await self._scope.aclose()

    async def _last_requests(self, until: float) -> None:
        """Wait for those in flight. The listener stays open meanwhile, so that newcomers are told."""
        loop = asyncio.get_running_loop()
        while loop.time() < until and self._requests():  # noqa: ASYNC110 - an event would cost every request
            await asyncio.sleep(LOOK)

    def _requests(self) -> int:
        return sum(each.runtime.requests for each in (self._current, *self._replaced))

    async def _drain(self, server: Any, until: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for connection in list(server.connections):
                # Idle ones are closed now, the others when their request has ended.
                connection.close_if_idle()
                connection.keep_alive = False
            if not server.connections or loop.time() >= until:
                break
            await asyncio.sleep(LOOK)
        for connection in list(server.connections):
            connection.abort()
        broken = list(self._door.running)
        for task in broken:
            task.cancel()
        if broken:
            await asyncio.wait(broken)

    # starting

    async def _start(self, scope: AsyncExitStack) -> None:
        state = await _opened_state(self.settings, scope)
        watch = StateWatch(state)
        scope.push_async_callback(self._watching.close)
        self._watching.spawn(watch.run(), "state watch")
        self._process = Process(state, watch)
        self._current = await assemble(self.settings, self._load(self.settings, Sources()), self._process)
        scope.push_async_callback(self._close_runtimes)
        scope.push_async_callback(self._sharing.close)
        if not self._current.metrics.alone:  # once, whatever is reloaded: the numbers are the process's
            self._sharing.spawn(share(lambda: self._current.metrics), "metrics")
        scope.push_async_callback(self._end_preparing)
        await self._serve(scope)

    def _load(self, settings: Settings, sources: Sources) -> tuple[Plugin, ...]:
        return load_plugins(settings.plugins, sources)

    async def _end_preparing(self) -> None:
        """What is prepared too late is closed while there is still a state that it can write to."""
        self._ending = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE), self._preparing:
                pass

    async def _close_runtimes(self) -> None:
        await self._retiring.close(CLOSE_GRACE)
        await self._current.close()

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
        self._watching.spawn(self._process.waits.watch(), "waits")
        if not isinstance(loop := asyncio.get_running_loop(), asyncio.BaseEventLoop):
            protocol = partial(GatewayConnection, loop=loop, app=sanic, connections=server.connections)
            self._crowd = Crowd(self._listener, protocol)
            scope.push_async_callback(self._crowd.close)
        self._server = server


async def _opened_state(settings: Settings, scope: AsyncExitStack) -> State:
    try:
        state = await open_state(settings.server.state.get_secret_value())
    except StateUnavailable as error:
        raise CannotStart(f"the state cannot be opened: {error}") from error
    scope.push_async_callback(state.close)
    return state
