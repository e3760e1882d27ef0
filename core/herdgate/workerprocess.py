"""What a worker does between its fork from the supervisor and its end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket

from herdgate.config import Settings
from herdgate.loop import run
from herdgate.process import STOP_SIGNALS, ServingProcess, announce
from herdgate.server import Gateway
from herdgate.startup import EXIT_CODE, START_FAILURES

log = logging.getLogger("herdgate.workers")

READY = b"+"
"""A worker to its supervisor: it serves."""
CANNOT_START = b"!"
"""A worker to its supervisor: it cannot start; what follows says why."""
STOP = b"s"
"""The supervisor to a worker: let requests in flight end. The end of the stream means the same."""
STOP_NOW = b"n"
"""The supervisor to a worker: break what is in flight."""


def serve_as_worker(settings: Settings, listener: socket.socket, link: socket.socket, *, announcing: bool) -> int:
    """Serve until the supervisor, at the other end of `link`, says that it is time to stop; return the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to every process; the supervisor decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP_SIGNALS, signal.SIGCHLD))

    def serving(gateway: Gateway) -> None:
        link.send(READY)
        if announcing:
            announce(gateway)

    link.setblocking(False)
    try:
        return run(_until_told(ServingProcess(settings, listener, serving), link))
    except START_FAILURES as error:
        link.setblocking(True)
        link.sendall(CANNOT_START + str(error).encode("utf-8", "replace"))
        return EXIT_CODE


async def _until_told(process: ServingProcess, link: socket.socket) -> int:
    loop = asyncio.get_running_loop()

    def told() -> None:
        try:
            order = link.recv(16)
        except OSError:
            order = b""
        if not order:
            log.info("the supervisor is gone")
            loop.remove_reader(link)
        if STOP_NOW in order:
            process.stop_at_once()
        else:
            process.stop()

    loop.add_signal_handler(signal.SIGTERM, process.stop)
    loop.add_reader(link, told)
    return 0 if await process.run() else 1
