"""Several processes that serve on one port, and one that keeps their number.

The workers are forked. The supervisor never runs an event loop and never starts a thread, which is what makes forking
safe; in return a worker starts in a fraction of the time that importing everything anew would take, and all of them
share the memory of the code. What a worker needs to know comes with the fork; nothing is pickled.

Each worker and the supervisor hold the two ends of a socket (`link.py`). The worker says on it that it serves, or why
it cannot; the supervisor says that it is time to stop, or to reload (`rollout.py`). If the supervisor is killed, its
ends close, and each worker stops as if it had been told: no worker outlives it. Workers do not take a signal as an
order to hurry, because a terminal and systemd send theirs to all processes at once, and the supervisor's order would
count as the second one.

The first worker must serve before the others are started, so that a configuration that cannot work fails once.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from herdgate.app import CannotStart
from herdgate.config import Settings
from herdgate.link import Word
from herdgate.listeners import Listeners
from herdgate.process import RELOAD_SIGNAL, STOP_SIGNALS
from herdgate.rollout import Rollout, Worker
from herdgate.workerprocess import serve_as_worker

log = logging.getLogger("herdgate.workers")

STABLE = 10.0
"""Seconds after which a worker counts as having started well."""
GIVE_UP_AFTER = 5
"""Workers that may die in a row, soon after their start, while no other one serves."""
FIRST_PAUSE = 0.1
WAITS = 1.0
"""Seconds that connections may have to wait for the worker which replaces theirs; a longer pause frees them."""
LONGEST_PAUSE = 30.0
"""Seconds before a worker is replaced; the pause doubles with each one that dies soon after its start."""
OVERTIME = 10.0
"""Seconds beyond the drain after which a worker that has not ended is killed."""
AT_ONCE = 2.0
"""The same after the order to stop at once."""

_HANDLED = (*STOP_SIGNALS, RELOAD_SIGNAL, signal.SIGCHLD)


class Supervisor:
    """Keeps `settings.server.workers` processes serving until SIGTERM or SIGINT. SIGHUP has `read` called for other
    settings.
    """

    def __init__(self, settings: Settings, listeners: Listeners, read: Callable[[], Settings]) -> None:
        self._rollout = Rollout(settings, read)
        self._listeners = listeners
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, Worker] = {}
        self._proven = False
        self._clean = True
        self._early_deaths = 0
        self._not_before = 0.0
        self._signals: list[int] = []
        self._kill_at = float("inf")

    def run(self) -> int:
        """Return the exit code: 0 when all workers ended in good order after a signal, 1 when one did not, or when
        there was no point in going on.

        Raises CannotStart if the first worker cannot start.
        """
        with self._bell() as bell:
            while self._workers or not self._signals:
                if not self._signals:
                    self._rollout.step(self._workers.values())
                    self._fill()
                self._watch()
                for key, events in self._selector.select(self._patience()):
                    if key.fileobj is bell:
                        self._rung(bell)
                    else:
                        self._talk(key.data, events)
                if time.monotonic() >= self._kill_at:
                    self._kill()
                for worker in list(self._workers.values()):
                    self._reap(worker)
                if self._hopeless():
                    log.critical("giving up: %d workers in a row ended right after their start", self._early_deaths)
                    return 1
        return 0 if self._clean else 1

    # signals

    @contextmanager
    def _bell(self) -> Iterator[socket.socket]:
        """A socket that receives the number of each signal, for as long as this process supervises."""
        bell, rope = socket.socketpair()
        for end in (bell, rope):
            end.setblocking(False)
        self._selector.register(bell, selectors.EVENT_READ)
        before = {number: signal.signal(number, _noted) for number in _HANDLED}
        previous = signal.set_wakeup_fd(rope.fileno())
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            bell.close()
            rope.close()

    def _rung(self, bell: socket.socket) -> None:
        for number in bell.recv(4096):
            if number in STOP_SIGNALS:
                self._signals.append(number)
                self._stop(at_once=len(self._signals) > 1)
            elif number == RELOAD_SIGNAL:
                self._rollout.ask()

    def _stop(self, *, at_once: bool) -> None:
        server = self._rollout.settings.server
        orderly = server.stop_delay + server.drain + OVERTIME
        self._kill_at = time.monotonic() + (AT_ONCE if at_once else orderly)
        if not at_once:
            log.info("stopping %d workers", len(self._workers))
        self._listeners.close()  # the workers close theirs when they end
        for worker in self._workers.values():
            worker.tell(Word.STOP_NOW if at_once else Word.STOP)

    def _kill(self) -> None:
        for worker in self._workers.values():
            log.error("worker %d did not end in time and is killed", worker.pid)
            os.kill(worker.pid, signal.SIGKILL)
        self._kill_at = float("inf")

    # workers

    def _patience(self) -> float | None:
        """Seconds until something is due by itself."""
        due = self._kill_at
        if not self._signals:
            due = min(due, self._rollout.due)
            if len(self._workers) < self._wanted() and not self._rollout.pending:
                due = min(due, self._not_before)
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    def _wanted(self) -> int:
        return self._rollout.settings.server.workers if self._proven else 1

    def _fill(self) -> None:
        if self._rollout.pending:
            return
        taken = {worker.slot for worker in self._workers.values()}
        for slot in range(self._wanted()):
            if slot not in taken and time.monotonic() >= self._not_before:
                try:
                    self._fork(slot)
                except (OSError, CannotStart) as error:
                    pause = self._pause_after(self._early_deaths)
                    log.error("no worker could be started (%s); the next attempt is in %g s", error, pause)

    def _fork(self, slot: int) -> None:
        self._listeners.open(slot)
        ours, theirs = socket.socketpair()
        announcing = not self._proven
        # Until the child has handlers of its own, a signal to it would be noted as one to this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(slot, ours, theirs, announcing=announcing)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        theirs.close()
        ours.setblocking(False)
        worker = self._workers[pid] = Worker(slot, pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _become_worker(self, slot: int, ours: socket.socket, theirs: socket.socket, *, announcing: bool) -> NoReturn:
        """What the child does instead of going on: nothing of this process may be cleaned up, or waited for, twice."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            self._selector.close()
            for link in (ours, *(worker.link for worker in self._workers.values())):
                link.close()  # held here, they would hide from the others that the supervisor is gone
            listener = self._listeners.keep_only(slot)
            code = serve_as_worker(self._rollout.settings, listener, theirs, announcing=announcing)
        except BaseException:
            log.critical("worker %d failed", os.getpid(), exc_info=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _watch(self) -> None:
        """Wake up when there is room for what is still to be told."""
        watched = self._selector.get_map()
        for worker in self._workers.values():
            if worker.link in watched:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
                self._selector.modify(worker.link, events, worker)

    def _talk(self, worker: Worker, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            worker.send()
        if events & selectors.EVENT_READ:
            self._heard(worker)

    def _heard(self, worker: Worker) -> None:
        try:
            data = worker.link.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(worker.link)  # its end is near; the kernel tells when it has come
        for word, reload, body in worker.inbox.feed(data):
            text = body.decode("utf-8", "replace")
            match word:
                case Word.READY:
                    worker.ready = self._proven = True
                case Word.CANNOT_START:
                    worker.refusal = text
                case Word.PREPARED:
                    self._rollout.prepared(worker, reload)
                case Word.REFUSED:
                    self._rollout.refused(worker, reload, text)

    def _reap(self, worker: Worker) -> None:
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if not pid:
            return
        while worker.link in self._selector.get_map():  # what it said last
            self._heard(worker)
        worker.link.close()
        del self._workers[worker.pid]
        self._rollout.gone(worker)
        code = os.waitstatus_to_exitcode(status)
        if self._signals:
            self._clean = self._clean and code == 0
        else:
            self._mourn(worker, code)

    def _mourn(self, worker: Worker, code: int) -> None:
        """Say what happened, and when the next worker may be started."""
        refusal = worker.refusal
        if refusal and not self._proven:
            raise CannotStart(refusal)
        served_long = worker.ready and time.monotonic() - worker.started >= STABLE
        pause = self._pause_after(0 if served_long else self._early_deaths)
        if pause > WAITS:
            self._listeners.abandon(worker.slot)
        why = f"signal {signal.Signals(-code).name}" if code < 0 else refusal or f"exit code {code}"
        log.error("worker %d ended (%s); it is replaced in %g s", worker.pid, why, pause)

    def _pause_after(self, early_deaths: int) -> float:
        """Count one more, and let the next worker wait."""
        self._early_deaths = early_deaths + 1
        pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2**early_deaths)
        self._not_before = time.monotonic() + pause
        return pause

    def _hopeless(self) -> bool:
        serving = any(worker.ready for worker in self._workers.values())
        return not self._signals and not serving and self._early_deaths >= GIVE_UP_AFTER


def _noted(number: int, frame: FrameType | None) -> None:
    """Python writes a signal's number to the bell only if there is a handler."""
