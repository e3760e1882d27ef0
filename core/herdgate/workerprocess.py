"""What a worker does between its fork from the supervisor and its end."""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import socket
from contextlib import suppress

from herdgate.assembly import Assembled
from herdgate.config import Settings
from herdgate.link import Inbox, Word, message
from herdgate.loop import run_server
from herdgate.process import RELOAD_SIGNAL, STOP_SIGNALS, ServingProcess, announce, prepared, take_over
from herdgate.server import Gateway
from herdgate.startup import EXIT_CODE, START_FAILURES
from herdgate.tasks import Tasks

log = logging.getLogger("herdgate.workers")

_PORTION = 65536


def serve_as_worker(settings: Settings, listener: socket.socket, link: socket.socket, *, announcing: bool) -> int:
    """Serve until the supervisor, at the other end of `link`, says that it is time to stop; return the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGINT, RELOAD_SIGNAL):  # a terminal sends them to every process; the supervisor decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP_SIGNALS, RELOAD_SIGNAL, signal.SIGCHLD))
    link.setblocking(False)
    try:
        return run_server(_until_told(settings, listener, link, announcing=announcing))
    except START_FAILURES as error:
        link.setblocking(True)
        link.sendall(message(Word.CANNOT_START, str(error).encode("utf-8", "replace")))
        return EXIT_CODE


async def _until_told(settings: Settings, listener: socket.socket, link: socket.socket, *, announcing: bool) -> int:
    def serving(gateway: Gateway) -> None:
        link.send(message(Word.READY))
        if announcing:
            announce(gateway)

    process = ServingProcess(settings, listener, serving)
    orders = _Orders(process, link)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, process.stop)
    loop.add_reader(link, orders.receive)
    try:
        return 0 if await process.run() else 1
    finally:
        await orders.close()


class _Orders:
    """Does what the supervisor says."""

    def __init__(self, process: ServingProcess, link: socket.socket) -> None:
        self._process = process
        self._link = link
        self._inbox = Inbox()
        self._tasks = Tasks()
        self._preparing: asyncio.Task[None] | None = None
        self._prepared: Assembled | None = None

    async def close(self) -> None:
        """Have done with what was being prepared."""
        await self._tasks.close()
        if self._prepared is not None:
            await self._prepared.close()

    def receive(self) -> None:
        """Read from the link, and obey."""
        try:
            data = self._link.recv(_PORTION)
        except OSError:
            data = b""
        if not data:
            log.info("the supervisor is gone")
            asyncio.get_running_loop().remove_reader(self._link)
            self._process.stop()
        for word, body in self._inbox.feed(data):
            self._obey(word, body)

    def _obey(self, word: Word, body: bytes) -> None:
        match word:
            case Word.STOP:
                self._tasks.spawn(self._drop(), "drop a reload")
                self._process.stop()
            case Word.STOP_NOW:
                self._process.stop_at_once()
            case Word.RELOAD:
                self._preparing = self._tasks.spawn(self._prepare(body), "prepare a reload")
            case Word.TAKE_OVER:
                self._tasks.spawn(self._take_over(), "take over")
            case Word.DROP:
                self._tasks.spawn(self._drop(), "drop a reload")

    async def _prepare(self, body: bytes) -> None:
        gateway = await self._process.gateway()
        answer = message(Word.PREPARED)
        try:
            # From the process that forked this one, through a socket that nobody else has.
            self._prepared = await prepared(gateway, pickle.loads(body))  # noqa: S301
        except START_FAILURES as error:
            answer = message(Word.REFUSED, str(error).encode("utf-8", "replace"))
        except Exception as error:
            log.exception("a reload could not be prepared")
            answer = message(Word.REFUSED, type(error).__name__.encode())
        with suppress(OSError):  # the supervisor is gone
            await asyncio.get_running_loop().sock_sendall(self._link, answer)

    async def _take_over(self) -> None:
        new, self._prepared = self._prepared, None
        if new is not None:
            take_over(await self._process.gateway(), new)

    async def _drop(self) -> None:
        if self._preparing is not None and not self._preparing.done():
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
        new, self._prepared = self._prepared, None
        if new is not None:
            await new.close()
