"""Asking backends whether they live, while there is a reason to wonder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx

from herdgate import Attempt, Backend, Fleet
from herdgate_plugins.health.blame import SPEAKS_FOR_OTHERS
from herdgate_plugins.health.pulse import Pulse

log = logging.getLogger("herdgate.health")

QUESTION = "/api/version"
"""Ollama answers it while a model loads; `/api/ps` waits for the load. Servers of other kinds say 404: they live."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When backends are asked; all in seconds.

    Attempts that have waited for `watch_after` have their backends asked every `interval`, and so have backends about
    which there is doubt; all others every `idle_interval`. A backend without an answer for `patience` is dead.
    """

    watch_after: float
    interval: float
    idle_interval: float
    patience: float


@dataclass(frozen=True, slots=True)
class Findings:
    """Who is told what was found."""

    alive: Callable[[Backend], None]
    dead: Callable[[Backend, str], None]


class Watch:
    """One ticker for all attempts of the process, and at most one question at a time to each backend.

    Requests that are answered quickly cost nothing here: the ticker looks only at attempts that have grown old.
    """

    def __init__(self, rhythm: Rhythm, findings: Findings, clock: Callable[[], float]) -> None:
        self._rhythm = rhythm
        self._findings = findings
        self._clock = clock
        self._pulses: dict[str, Pulse] = {}
        self._doubted: set[str] = set()

    def doubt(self, backend: Backend) -> None:
        """Have this backend asked at the next tick."""
        self._doubted.add(backend.name)

    async def run(self, fleet: Fleet, waiting: Callable[[float], Iterable[Attempt]]) -> None:
        """Ask until cancelled. `waiting(seconds)` gives the attempts that have waited for so long."""
        async with asyncio.TaskGroup() as questions:
            while True:
                await asyncio.sleep(self._rhythm.watch_after / 4)
                for pulse in self.due(fleet.backends, waiting(self._rhythm.watch_after)):
                    pulse.begins(self._clock())
                    questions.create_task(self._ask(fleet, pulse, waiting), name=f"is {pulse.backend.name} alive?")

    def due(self, backends: Iterable[Backend], waiting: Iterable[Attempt]) -> list[Pulse]:
        """The backends to be asked now."""
        now = self._clock()
        self._pulses = {backend.name: self._pulses.get(backend.name) or Pulse(backend) for backend in backends}
        wanted = self._doubted.union(attempt.backend.name for attempt in waiting)
        due = [pulse for name, pulse in self._pulses.items() if pulse.due(now, self._pause(pulse, name in wanted))]
        self._doubted.difference_update(pulse.backend.name for pulse in due)
        return due

    def _pause(self, pulse: Pulse, wanted: bool) -> float:
        return self._rhythm.interval if wanted or pulse.silent_since is not None else self._rhythm.idle_interval

    async def _ask(self, fleet: Fleet, pulse: Pulse, waiting: Callable[[float], Iterable[Attempt]]) -> None:
        backend = pulse.backend
        why = await self._unanswered(fleet, backend)
        if why is None:
            pulse.answered()
            self._findings.alive(backend)
        elif all(known.name != backend.name for known in fleet.backends):
            pass  # it was taken out, or the gateway stops: that closes the connection, and says nothing
        elif pulse.unanswered(self._clock(), self._rhythm.patience):
            self._findings.dead(backend, why)
            for attempt in waiting(self._rhythm.watch_after):
                if attempt.backend.name == backend.name:
                    attempt.leave(f"the backend does not answer: {why}")

    async def _unanswered(self, fleet: Fleet, backend: Backend) -> str | None:
        """Why a question was not answered; None if it was. Any reply that the backend itself must have sent counts."""
        patience = self._rhythm.patience
        try:
            async with (
                asyncio.timeout(patience),
                fleet.client(backend, patience, apart=True) as client,
                client.stream("GET", QUESTION) as reply,
            ):
                status = reply.status_code
            return f"status {status} for {QUESTION}" if status in SPEAKS_FOR_OTHERS else None
        except TimeoutError:
            return f"no answer to {QUESTION} within {patience:g} s"
        except (httpx.HTTPError, LookupError) as error:
            return str(error) or type(error).__name__
        except Exception as error:
            log.exception("backend %s cannot be asked", backend.name)
            return repr(error)
