"""What a worker does between its fork from the supervisor and its end."""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

from herdgate.assembly import Assembled
from herdgate.config import Settings
from herdgate.link import Inbox, Message, Word
from herdgate.loop import run_server
from herdgate.process import RELOAD_SIGNAL, STOP_SIGNALS, ServingProcess, announce, prepared, take_over
from herdgate.server import Gateway
from herdgate.startup import EXIT_CODE, START_FAILURES
from herdgate.tasks import Tasks

log = logging.getLogger("herdgate.workers")

_PORTION = 65536
_LONGEST_TEXT = 10_000
"""Bytes of a message that says why something cannot be done: it is to fit into the socket's buffer."""
_CLOSE_GRACE = 5.0
"""Seconds that a configuration which was dropped may take to close when the worker ends."""


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
        link.sendall(bytes(Message(Word.CANNOT_START, body=_text(error))))
        return EXIT_CODE


async def _until_told(settings: Settings, listener: socket.socket, link: socket.socket, *, announcing: bool) -> int:
    def serving(gateway: Gateway) -> None:
        link.send(bytes(Message(Word.READY)))
        if announcing:
            announce(gateway)

    process = ServingProcess(settings, listener, serving)
    orders = _Orders(process, link)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, orders.stop)
    loop.add_reader(link, orders.receive)
    try:
        return 0 if await process.run() else 1
    finally:
        await orders.close()


def _text(error: Exception) -> bytes:
    return str(error).encode("utf-8", "replace")[:_LONGEST_TEXT]


@dataclass(eq=False, slots=True)
class _Coming:
    """A configuration between its RELOAD and what becomes of it."""

    number: int
    task: asyncio.Task[None] | None = None
    new: Assembled | None = None

    async def close(self) -> None:
        """Have done with it, in whatever state it is."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])
        if self.new is not None:
            await self.new.close()


class _Orders:
    """Does what the supervisor says.

    Which configuration an order means is settled when it comes. A new one is not prepared before the one that was
    dropped has ended: both may want the same file or port.
    """

    def __init__(self, process: ServingProcess, link: socket.socket) -> None:
        self._process = process
        self._link = link
        self._inbox = Inbox()
        self._tasks = Tasks()
        self._coming: _Coming | None = None
        self._dropping: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Have done with what was being prepared."""
        self._drop()
        await self._tasks.close(_CLOSE_GRACE)

    def stop(self) -> None:
        """Have the process stop; nothing takes over from now on."""
        self._drop()
        self._process.stop()

    def receive(self) -> None:
        """Read from the link, and obey."""
        try:
            data = self._link.recv(_PORTION)
        except OSError:
            data = b""
        if not data:
            log.info("the supervisor is gone")
            asyncio.get_running_loop().remove_reader(self._link)
            self.stop()
        for order in self._inbox.feed(data):
            self._obey(order)

    def _obey(self, order: Message) -> None:
        match order.word:
            case Word.STOP:
                self.stop()
            case Word.STOP_NOW:
                self._process.stop_at_once()
            case Word.RELOAD:
                self._drop()
                self._coming = coming = _Coming(order.reload)
                coming.task = self._tasks.spawn(self._prepare(coming, order.body, self._dropping), "prepare a reload")
            case Word.TAKE_OVER:
                if self._coming is not None and self._coming.number == order.reload:
                    coming, self._coming = self._coming, None
                    self._tasks.spawn(self._take_over(coming), "take over")
            case Word.DROP:
                if self._coming is not None and self._coming.number == order.reload:
                    self._drop()

    async def _prepare(self, coming: _Coming, body: bytes, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        gateway = await self._process.gateway()
        answer = Message(Word.PREPARED, coming.number)
        try:
            # From the process that forked this one, through a socket that nobody else has.
            coming.new = await prepared(gateway, pickle.loads(body))  # noqa: S301
        except START_FAILURES as error:
            answer = Message(Word.REFUSED, coming.number, _text(error))
        except Exception as error:
            log.exception("a reload could not be prepared")
            answer = Message(Word.REFUSED, coming.number, type(error).__name__.encode())
        with suppress(OSError):  # the supervisor is gone
            await asyncio.get_running_loop().sock_sendall(self._link, bytes(answer))

    async def _take_over(self, coming: _Coming) -> None:
        gateway = await self._process.gateway()
        if gateway.ending:
            await coming.close()
        elif coming.new is not None:
            take_over(gateway, coming.new)

    def _drop(self) -> None:
        """Begin to have done with what is coming, if anything is."""
        if self._coming is not None:
            coming, self._coming = self._coming, None
            self._dropping = self._tasks.spawn(self._close(coming, self._dropping), "drop a reload")

    async def _close(self, coming: _Coming, before: asyncio.Task[None] | None) -> None:
        await coming.close()
        if before is not None:
            await asyncio.wait([before])
