"""The supervisor's part in a reload: all workers take the new configuration over, or none does."""

from __future__ import annotations

import logging
import pickle
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from herdgate import logs
from herdgate.config import Settings
from herdgate.link import Inbox, Message, Word
from herdgate.reloading import LOOK_EVERY, FileWatch, files_of, read_anew, tell_refused, tell_reloaded

log = logging.getLogger("herdgate.workers")

PREPARED_WITHIN = 90.0
"""Seconds that workers have to prepare: plugins may take 30 s to start, and backends that are silent are waited for."""


@dataclass(eq=False, slots=True)
class Worker:
    """A worker as its supervisor knows it."""

    slot: int
    pid: int
    link: socket.socket
    inbox: Inbox = field(default_factory=Inbox)
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    refusal: str = ""
    """Why it cannot start."""
    unsent: bytearray = field(default_factory=bytearray)
    """What it was told and has no room for: settings may be larger than what a socket takes at once."""

    def tell(self, word: Word, reload: int = 0, body: bytes = b"") -> None:
        """Send it a message, as far as there is room. One that has ended hears nothing."""
        self.unsent += bytes(Message(word, reload, body))
        self.send()

    def send(self) -> None:
        """Send what is left, as far as there is room: to be called when there is some."""
        try:
            while self.unsent:
                del self.unsent[: self.link.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            log.debug("worker %d has already ended", self.pid)
            self.unsent.clear()


class Rollout:
    """Holds the configuration that counts, and brings another one to all workers when it is wanted."""

    def __init__(self, settings: Settings, read: Callable[[], Settings]) -> None:
        self.settings = settings
        self._read = read
        self._wanted = False
        self._files = FileWatch(files_of(settings, Path.cwd()))
        self._look_at = 0.0
        self._number = 0
        self._coming: Settings | None = None
        self._told: set[Worker] = set()
        self._awaited: set[Worker] = set()
        self._until = float("inf")

    @property
    def pending(self) -> bool:
        """Whether workers are preparing: no other ones may be started, they would not know for what."""
        return self._coming is not None

    def ask(self) -> None:
        """Begin as soon as the one under way is decided."""
        self._wanted = True

    @property
    def due(self) -> float:
        """When `step` has something to do by itself, in the time of `time.monotonic()`."""
        if self.pending:
            return self._until
        return self._look_at if self.settings.server.reload_on_change else float("inf")

    def step(self, workers: Iterable[Worker]) -> None:
        """Begin or decide, if it is time to. It does not begin while there is no worker that could prepare."""
        told = set(workers)
        if self._coming is None:
            self._wanted = self._files_changed() or self._wanted
            if self._wanted and told:
                self._begin(told)
        if self._coming is not None and not self._told:
            self._drop("the workers that had prepared for it have ended")
        elif self._coming is not None and not self._awaited:
            self._take_over(self._coming)
        elif time.monotonic() >= self._until:
            self._drop(f"workers were not prepared within {PREPARED_WITHIN:g} s")

    def _files_changed(self) -> bool:
        if not self.settings.server.reload_on_change or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_EVERY
        return self._files.changed()

    def prepared(self, worker: Worker, number: int) -> None:
        """It could serve with the new configuration."""
        if number == self._number:
            self._awaited.discard(worker)

    def refused(self, worker: Worker, number: int, why: str) -> None:
        """It could not."""
        if number == self._number and worker in self._told:
            self._drop(why)

    def gone(self, worker: Worker) -> None:
        """It has ended: whoever takes its place starts with what counts then. What it has not survived is not taken
        over.
        """
        self._told.discard(worker)
        if worker in self._awaited:
            self._drop(f"worker {worker.pid} ended while it prepared for it")

    def _begin(self, told: set[Worker]) -> None:
        self._wanted = False
        self._files.catch_up()
        settings = read_anew(self._read, self.settings)
        if settings is None:
            return
        logs.mask_too(settings)
        self._coming, self._until = settings, time.monotonic() + PREPARED_WITHIN
        self._told, self._awaited = told, set(told)
        self._number += 1
        for worker in self._told:
            worker.tell(Word.RELOAD, self._number, pickle.dumps(settings))

    def _take_over(self, settings: Settings) -> None:
        for worker in self._told:
            worker.tell(Word.TAKE_OVER, self._number)
        self.settings = settings
        logs.set_level(settings)
        self._end()
        if (files := files_of(settings, Path.cwd())) != self._files.files:
            self._files = FileWatch(files)
        tell_reloaded()

    def _drop(self, why: str) -> None:
        for worker in self._told:
            worker.tell(Word.DROP, self._number)
        self._end()
        tell_refused(why)

    def _end(self) -> None:
        self._coming, self._until = None, float("inf")
        self._told, self._awaited = set(), set()
