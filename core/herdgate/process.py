"""One process that serves until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from herdgate.config import Settings
from herdgate.logs import faults_untold
from herdgate.logwriter import background_log
from herdgate.loop import run, settle_memory
from herdgate.server import Gateway

log = logging.getLogger("herdgate")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ServingProcess:
    """A gateway and how it is told to stop: once to let requests in flight end, once more not to wait for them."""

    def __init__(
        self, settings: Settings, listener: socket.socket, on_serving: Callable[[Gateway], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._on_serving = on_serving
        self._told = asyncio.Event()
        self._serving = False
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

    def stop(self) -> None:
        """Stop accepting requests and end when those in flight have ended, or at once if nothing is served yet."""
        self._told.set()
        if not self._serving:
            self.stop_at_once()

    def stop_at_once(self) -> None:
        """Break what is in flight."""
        self._told.set()
        self._broken_off = self._serving
        if self._life is not None:
            self._life.cancel()

    async def _serve(self) -> None:
        async with AsyncExitStack() as scope:
            scope.enter_context(background_log())
            with faults_untold():
                gateway = await scope.enter_async_context(Gateway(self._settings, self._listener))
            settle_memory()
            self._serving = True
            self._on_serving(gateway)
            await self._told.wait()
            drain = self._settings.server.drain
            log.info("stopping: requests in flight have %g s to end", drain)
            await gateway.stop(grace=drain)


def serve_alone(settings: Settings, listener: socket.socket) -> int:
    """Serve in this process until SIGTERM or SIGINT; return the exit code. A second signal breaks what is in flight.

    Raises what entering a `Gateway` raises.
    """
    return run(_until_signalled(ServingProcess(settings, listener, announce)))


async def _until_signalled(process: ServingProcess) -> int:
    received: list[signal.Signals] = []

    def told(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            process.stop()
        else:
            process.stop_at_once()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told, number)
    orderly = await process.run()
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
