"""One process that serves until it is told to stop, and takes over another configuration when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from herdgate import logs
from herdgate.assembly import Assembled
from herdgate.config import Settings
from herdgate.logwriter import background_log
from herdgate.loop import run_server, settle_memory
from herdgate.reloading import LOOK_EVERY, FileWatch, files_of, read_anew, tell_refused, tell_reloaded
from herdgate.server import Gateway
from herdgate.startup import START_FAILURES

log = logging.getLogger("herdgate")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNAL = signal.SIGHUP


class ServingProcess:
    """A gateway and how it is told to stop: once to let requests in flight end, once more not to wait for them."""

    def __init__(
        self, settings: Settings, listener: socket.socket, on_serving: Callable[[Gateway], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._on_serving = on_serving
        self._told = asyncio.Event()
        self._serving: asyncio.Future[Gateway] = asyncio.get_running_loop().create_future()
        self._broken_off = False
        self._life: asyncio.Task[None] | None = None

    async def run(self) -> bool:
        """Start, serve, drain. Returns whether it ended in good order, that is, with requests given their time.

        Raises what entering a `Gateway` raises.
        """
        self._life = asyncio.create_task(self._serve(), name="gateway")
        try:
            await self._life
        except asyncio.CancelledError:
            if not self._told.is_set():
                raise
        return not self._broken_off

    async def gateway(self) -> Gateway:
        """The gateway, once it serves."""
        return await asyncio.shield(self._serving)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._told.is_set()

    def stop(self) -> None:
        """Take no more requests soon and end when those in flight have ended, or at once if nothing is served yet."""
        self._told.set()
        if not self._serving.done():
            self.stop_at_once()

    def stop_at_once(self) -> None:
        """Break what is in flight."""
        self._told.set()
        self._broken_off = self._serving.done()
        if self._life is not None:
            self._life.cancel()

    async def _serve(self) -> None:
        async with AsyncExitStack() as scope:
            scope.enter_context(background_log())
            gateway = await scope.enter_async_context(Gateway(self._settings, self._listener))
            settle_memory()
            self._serving.set_result(gateway)
            self._on_serving(gateway)
            await self._told.wait()
            server = gateway.settings.server
            log.info(
                "stopping: requests are taken for %g s more, those in flight then have %g s to end",
                server.stop_delay,
                server.drain,
            )
            await gateway.stop(grace=server.drain, delay=server.stop_delay)


async def prepared(gateway: Gateway, settings: Settings) -> Assembled:
    """A runtime of these settings, ready to take over. Raises one of `START_FAILURES`; then nothing has changed."""
    logs.mask_too(settings)
    return await gateway.prepare(settings)


def take_over(gateway: Gateway, new: Assembled) -> None:
    """Let the prepared runtime serve from now on."""
    gateway.take_over(new)
    logs.set_level(new.runtime.settings)


class Reloads:
    """Has a process that nobody supervises read its configuration anew when it is told to, or when files change."""

    def __init__(self, process: ServingProcess, read: Callable[[], Settings]) -> None:
        self._process = process
        self._read = read
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reload soon; those who ask while it is being done get one more reload together."""
        self._asked.set()

    async def run(self) -> None:
        """Reload, whenever it is wanted, until cancelled."""
        gateway = await self._process.gateway()
        self._asked.clear()  # what it has just read is new enough
        files = FileWatch(files_of(gateway.settings, Path.cwd()))
        while True:
            await self._wanted(files if gateway.settings.server.reload_on_change else None)
            self._asked.clear()
            files.catch_up()
            if not self._process.stopping:
                await self._reload(gateway)
            if (others := files_of(gateway.settings, Path.cwd())) != files.files:
                files = FileWatch(others)

    async def _wanted(self, files: FileWatch | None) -> None:
        if files is None:
            await self._asked.wait()
            return
        while not self._asked.is_set() and not files.changed():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._asked.wait()

    async def _reload(self, gateway: Gateway) -> None:
        settings = await asyncio.to_thread(read_anew, self._read, gateway.settings)
        if settings is None:
            return
        try:
            new = await prepared(gateway, settings)
        except START_FAILURES as error:
            tell_refused(error)
        except Exception:
            log.exception("the configuration is not reloaded, the present one stays")
        else:
            take_over(gateway, new)
            tell_reloaded()


def serve_alone(settings: Settings, listener: socket.socket, read: Callable[[], Settings]) -> int:
    """Serve in this process until SIGTERM or SIGINT; return the exit code. A second signal breaks what is in flight.

    SIGHUP has `read` called for other settings. Raises what entering a `Gateway` raises.
    """
    return run_server(_until_signalled(settings, listener, read))


async def _until_signalled(settings: Settings, listener: socket.socket, read: Callable[[], Settings]) -> int:
    process = ServingProcess(settings, listener, announce)
    reloads = Reloads(process, read)
    received: list[signal.Signals] = []

    def told(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            reloading.cancel()
            process.stop()
        else:
            process.stop_at_once()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told, number)
    loop.add_signal_handler(RELOAD_SIGNAL, reloads.ask)
    reloading = asyncio.create_task(reloads.run(), name="reloads")
    try:
        orderly = await process.run()
    finally:
        reloading.cancel()
        await asyncio.wait([reloading])
    return 0 if orderly else 128 + received[-1]


def announce(gateway: Gateway) -> None:
    """Say in the log that the gateway serves, and where."""
    runtime = gateway.runtime
    backends = runtime.discovery.backends
    log.info(
        "serving at %s with %s (state: %s)",
        gateway.url,
        "1 backend" if len(backends) == 1 else f"{len(backends)} backends",
        runtime.state.place,
    )
