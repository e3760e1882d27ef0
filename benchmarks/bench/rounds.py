"""Rounds: each starts all systems afresh and takes them through every phase, one right after the other."""

from __future__ import annotations

import http.client
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load import Load, LoadError
from bench.measuring import Work, measured
from bench.native import NotInstalledError, compiled
from bench.phases import PHASES, Extent, Subject
from bench.processes import Program
from bench.recipes import phases_of, prepared
from bench.results import NOISE, Measurement, Round
from bench.systems import DIRECT, HERDGATE, MODELS, System, clean_environ, free_port
from bench.trouble import TROUBLES, Troubled

_PROGRESS = (
    "seconds",
    "rps",
    "chunks_s",
    "p50_us",
    "p50_ms",
    "p99_ms",
    "cpu_us",
    "ttft_p99_ms",
    "complete",
    "failures",
)
"""The figures that are shown while it runs."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    systems: Sequence[str]
    phases: Sequence[str]
    rounds: int
    extent: Extent
    cores: tuple[int, int]
    """The one of the proxies, then the one of everything else."""
    attempts: int
    """How often a phase is measured at most, in a round, when something else disturbs it."""
    limit: float
    """Seconds after which nothing new is begun."""


class Runner:
    """Measures what a plan says. `notes` collects what a reader of the results must know."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.notes: list[str] = []
        self._began = time.monotonic()

    def rounds(self) -> tuple[Round, ...]:
        """All rounds, or as many as the time allows."""
        done: list[Round] = []
        while len(done) < self.plan.rounds and not self._late():
            with tempfile.TemporaryDirectory(prefix="herdgate-bench-") as folder:
                done.append(_Round(self, len(done), Path(folder)).run())
        return tuple(done)

    def note(self, text: str) -> None:
        """Once is enough."""
        if text not in self.notes:
            self.notes.append(text)
            say(text)

    def measured(self, system: str, phase: str, work: Work) -> Measurement | None:
        """One measurement; None when the time is up."""
        if self._late():
            return None
        measurement = measured(work, self.plan.attempts)
        self.report(system, phase, measurement)
        return measurement

    def report(self, system: str, phase: str, measurement: Measurement) -> None:
        """Say how it goes, on standard error."""
        figures = [f"{name}={measurement.figures[name]:.4g}" for name in _PROGRESS if name in measurement.figures]
        disturbed = f"disturbed by {measurement.foreign:.2f} cores" if measurement.foreign > NOISE else ""
        at = f"{time.monotonic() - self._began:4.0f} s  {phase:9} {system:17}"
        say(" ".join(word for word in [at, *figures, measurement.error, disturbed] if word))

    def _late(self) -> bool:
        late = time.monotonic() - self._began > self.plan.limit
        if late:
            self.note(f"the time was up ({self.plan.limit:.0f} s) before all was measured")
        return late


class _Round:
    """One round, in a folder of its own."""

    def __init__(self, runner: Runner, number: int, folder: Path) -> None:
        self._runner, self._number, self._folder = runner, number, folder
        self._load = Load(folder)
        self._got: dict[str, dict[str, Measurement]] = {name: {} for name in runner.plan.systems}

    def run(self) -> Round:
        plan = self._runner.plan
        if any(self._phases(name) for name in plan.systems):
            with ExitStack() as running:
                self._compare(running)
        if HERDGATE in plan.systems and any(name in TROUBLES for name in plan.phases):
            try:
                self._trouble()
            except LoadError as failure:
                self._runner.note(f"the phases with failing backends were left out: {failure}")
        return {name: phases for name, phases in self._got.items() if phases}

    def _compare(self, running: ExitStack) -> None:
        plan, port = self._runner.plan, free_port()
        command = [str(compiled("backend")), str(port), "0", *MODELS]
        backend = Program(command, clean_environ(), plan.cores[1], self._folder)
        running.callback(backend.stop)
        _await_first_reply(System(DIRECT, port, self._folder), backend)
        systems = [name for name in plan.systems if self._phases(name)]
        subjects = {name: self._start(name, port, running) for name in systems}
        turn = self._number % len(systems)
        for phase in [name for name in PHASES if name in plan.phases]:
            for name in [*systems[turn:], *systems[:turn]]:
                if not (subject := subjects[name]) or phase not in self._phases(name):
                    continue
                behind = [*subject.beside, backend]
                measurement = self._keep(name, phase, Work(partial(PHASES[phase], subject), subject.running, behind))
                if subject.running and measurement and measurement.overrun:
                    for program in (subject.running, *subject.beside):
                        program.stop()
                    subjects[name] = self._start(name, port, running)

    def _phases(self, name: str) -> list[str]:
        """What is to be measured of that system."""
        return [phase for phase in phases_of(name) if phase in self._runner.plan.phases]

    def _start(self, name: str, port: int, running: ExitStack) -> Subject | None:
        """Start one system, and the first time measure how long that takes; None if it is missing or fails."""
        plan = self._runner.plan
        try:
            system = prepared(name, self._folder, port)
            if not system.command:
                return Subject(system, None, [], self._load, plan.extent)
            beside = self._start_beside(system, running)
            at = time.perf_counter()
            program = Program(system.command, system.environ, plan.cores[0], system.folder)
            running.callback(program.stop)
            _await_first_reply(system, program)
        except (NotInstalledError, LoadError) as problem:
            self._runner.note(f"{name} was left out: {problem}")
            return None
        if "start" not in self._got[name]:
            figures = {"seconds": time.perf_counter() - at, "memory_mb": program.memory_mb()}
            self._got[name]["start"] = Measurement(figures)
            self._runner.report(name, "start", self._got[name]["start"])
        return Subject(system, program, beside, self._load, plan.extent)

    def _start_beside(self, system: System, running: ExitStack) -> list[Program]:
        """On the core of the load, and with a log of their own."""
        folder = system.folder / "beside"
        folder.mkdir(exist_ok=True)
        started = []
        for command in system.beside:
            started.append(Program(command, clean_environ(), self._runner.plan.cores[1], folder))
            running.callback(started[-1].stop)
        return started

    def _trouble(self) -> None:
        plan, folder = self._runner.plan, self._folder / "trouble"
        folder.mkdir()
        with Troubled(self._load, folder, plan.cores, plan.extent.trouble_seconds) as troubled:
            for phase in [name for name in TROUBLES if name in plan.phases]:
                again = phase != "dies"  # which a backend does but once
                work = Work(partial(TROUBLES[phase], troubled), troubled.running, troubled.backends, repeatable=again)
                self._keep(HERDGATE, phase, work)

    def _keep(self, system: str, phase: str, work: Work) -> Measurement | None:
        if measurement := self._runner.measured(system, phase, work):
            self._got[system][phase] = measurement
        return measurement


def say(text: str) -> None:
    """Tell whoever waits; standard output is for the report."""
    print(text, file=sys.stderr, flush=True)


def _await_first_reply(system: System, program: Program) -> None:
    """Wait until a real request is answered. Raises LoadError."""
    end, last = time.monotonic() + system.patience, "nothing"
    while time.monotonic() < end and program.exit_status is None:
        with suppress(OSError, http.client.HTTPException):
            last = _ask(system)
            if last == "200":
                return
        time.sleep(0.005)
    log = program.log.read_text(errors="replace")[-1500:].strip()
    raise LoadError(f"no reply in {system.patience:.0f} s (the last one: {last}); its log ends:\n{log}")


def _ask(system: System) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=system.patience)
    body = f'{{"model": "{MODELS[0]}", "stream": false, "messages": [{{"role": "user", "content": "Why?"}}]}}'
    headers = {"Content-Type": "application/json", **dict(header.split(": ", 1) for header in system.headers)}
    try:
        connection.request("POST", system.path, body, headers)
        return str(connection.getresponse().status)
    finally:
        connection.close()
