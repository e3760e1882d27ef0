"""The runs of the suite. Each returns a row of figures, and the reasons why it failed, which must be none."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from tests.chaos.callers import Connection, Crowd, Ledger
from tests.chaos.program import Figures, Program, running
from tests.chaos.storm import Herd, herd
from tests.chaos.ways import WAYS, Verdict

AT_ONCE = 32
WARM_UP = 150
SETTLED_WITHIN = 15.0
MEMORY_MAY_GROW = 80 * 1024 * 1024
"""Bytes. Backends whose lines never end have the gateway hold 8 MiB for each of their requests, and the C library keeps
some of that for the next time. That it does not grow further is what the soak shows.
"""
MIB = 1024 * 1024
FLAT = 8.0
"""MiB that the last third of a soak may need more than the one before it."""
PORTION = 2000
"""Requests between two looks at the memory."""


@dataclass
class Report:
    """What a run has shown."""

    name: str
    seed: int
    seconds: float = 0.0
    ledger: Ledger = field(default_factory=Ledger)
    figures: list[tuple[str, object]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def expect(self, good: bool, problem: str) -> None:
        if not good:
            self.problems.append(problem)

    def __str__(self) -> str:
        verdicts = self.ledger.verdicts
        rows: list[tuple[str, object]] = [
            ("requests", verdicts.total()),
            *((verdict.value, verdicts[verdict]) for verdict in Verdict),
        ]
        rows += [
            *self.figures,
            ("seconds", f"{self.seconds:.1f}"),
            ("slowest request, s", f"{self.ledger.slowest:.2f}"),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [
            f"{self.name} (seed {self.seed})",
            *(f"  {name:<{width}}  {value}" for name, value in rows if value != ""),
        ]
        lines += [f"  PROBLEM: {problem}" for problem in self.problems[:20]]
        return "\n".join(lines)


class Scene:
    """A herd, a gateway in front of it, and callers."""

    def __init__(self, report: Report, rng: random.Random, backends: Herd, program: Program) -> None:
        self.report = report
        self.herd = backends
        self.program = program
        self.rng = rng
        self._names = (f"say-{number}" for number in itertools.count())
        self._duplicates = 0

    def crowd(self, ledger: Ledger | None = None) -> Crowd:
        return Crowd(self.program.port, self.rng, ledger or self.report.ledger, self._names)

    async def quiet(self) -> Figures:
        """The figures while no caller and no backend is connected, once they no longer change."""
        async with self.herd.away():
            until = time.monotonic() + SETTLED_WITHIN
            lowest = await self.program.figures()
            same = 0
            while same < 5 and time.monotonic() < until:
                await asyncio.sleep(0.2)
                now = await self.program.figures()
                same = same + 1 if now.quiet == lowest.quiet else 0
                lowest = min(now, lowest, key=lambda each: each.quiet)
        return lowest

    async def recovered(self) -> float:
        """Seconds until the preferred backend is asked again."""
        began = time.monotonic()
        while time.monotonic() < began + SETTLED_WITHIN:
            connection = Connection(self.program.port)
            say = f"again-{time.monotonic_ns()}"
            await connection.begin(WAYS[1].path, say, WAYS[1].body(say))
            answer = await connection.answer()
            connection.leave()
            if answer.backend == self.herd.flaky[0].simulated.name:
                break
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    def check_answers(self) -> None:
        """What holds for every request."""
        self.check_duplicates()
        self.check_verdicts()

    def check_verdicts(self) -> None:
        """Nobody was failed or deceived."""
        ledger = self.report.ledger
        for verdict in (Verdict.FAILED, Verdict.LOST, Verdict.LIE):
            self.report.expect(not ledger.verdicts[verdict], f"{ledger.verdicts[verdict]} times: {verdict}")
        self.report.problems += ledger.bad[:10]
        self.report.figures.append(("generated again after commit", self._duplicates))

    def check_duplicates(self) -> None:
        """No backend was asked for what another one had begun to answer. Forgets what there was."""
        ledger = self.report.ledger
        found = self.herd.asked_after(ledger.committed)
        self._duplicates += len(found)
        self.report.problems += found[:5]
        ledger.committed.clear()
        self.herd.forget()

    def check_log(self) -> None:
        """The gateway must not have failed by itself."""
        faults = [
            record["message"] + str(record.get("exception", ""))[-1500:]
            for level in ("error", "critical")
            for record in self.program.log(f'"level":"{level}"')
        ]
        self.report.figures.append(("errors in the log", len(faults)))
        self.report.problems += [f"log: {fault}" for fault in faults[:5]]

    def compare(self, before: Figures, after: Figures, requests: int) -> None:
        report = self.report
        for name in ("leases", "tasks", "descriptors"):
            first, last = getattr(before, name), getattr(after, name)
            report.figures.append((f"{name} before, after", f"{first}, {last}"))
            report.expect(last <= first, f"{name} were {first} and are {last}")
        report.expect(not after.leases, f"{after.leases} leases were never given back")
        report.figures.append(("memory before, after, MiB", f"{before.memory / MIB:.1f}, {after.memory / MIB:.1f}"))
        report.expect(after.memory - before.memory < MEMORY_MAY_GROW, "memory grew")
        report.figures.append(("ended, ended twice", f"{after.ended}, {len(after.twice)}"))
        report.expect(not after.twice, f"ended twice: {after.twice[:5]}")
        report.expect(
            requests - report.ledger.verdicts[Verdict.LEFT] <= after.ended <= requests,
            f"{requests} requests were sent, {after.ended} have ended",
        )


@asynccontextmanager
async def scene(report: Report, *, workers: int = 1, **server: object) -> AsyncIterator[Scene]:
    rng = random.Random(report.seed)  # noqa: S311 - reproducible on purpose
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        async with herd(rng) as backends, running(Path(place), backends.listed(), workers=workers, **server) as program:
            made = Scene(report, rng, backends, program)
            await made.crowd(Ledger()).ask(WARM_UP, AT_ONCE)
            backends.forget()
            yield made
    report.seconds = time.monotonic() - began


async def trouble(seed: int, count: int) -> Report:
    """So many requests while backends die, hang and return at random and one is always well."""
    report = Report(f"{count} requests in trouble", seed)
    async with scene(report) as here:
        await here.quiet()
        before = await here.quiet()
        await here.program.figures(forget=True)
        async with here.herd.stormy():
            await here.crowd().ask(count, AT_ONCE)
        here.check_answers()
        recovery = await here.recovered()
        report.figures.append(("the first backend is asked again after, s", f"{recovery:.1f}"))
        report.expect(recovery < SETTLED_WITHIN, "the first backend is not asked any more")
        after = await here.quiet()
        here.compare(before, after, count)
        met: dict[str, int] = {}
        for backend in here.herd.flaky:
            for kind, times in backend.met.items():
                met[kind] = met.get(kind, 0) + times
        report.figures.append(("troubles met", ", ".join(f"{kind} {times}" for kind, times in sorted(met.items()))))
        here.check_log()
    return report


async def soak(seed: int, seconds: float) -> Report:
    """As many requests as this time allows, in trouble, with a look at the memory now and then."""
    report = Report(f"soak of {seconds:g} s", seed)
    async with scene(report) as here:
        await here.quiet()
        before = await here.quiet()
        looks: list[float] = []
        ended = 0
        twice: tuple[str, ...] = ()
        until = time.monotonic() + seconds
        await here.program.figures(forget=True)
        while time.monotonic() < until:
            async with here.herd.stormy():
                await here.crowd().ask(PORTION, AT_ONCE)
            told = await here.program.figures(forget=True)  # the names of all requests would be a leak themselves
            ended += told.ended
            twice += told.twice
            looks.append(told.memory / MIB)
            here.check_duplicates()
        here.check_verdicts()
        last = await here.quiet()
        after = replace(last, ended=ended + last.ended, twice=twice + last.twice)
        here.compare(before, after, report.ledger.verdicts.total())
        report.figures.append(("memory on the way, MiB", _spread(looks)))
        report.expect(_flat(looks), "memory is not flat")
        here.check_log()
    return report


def _flat(looks: list[float]) -> bool:
    """Whether the last third needed hardly more than the one before. Medians: some look falls on many long lines."""
    third = len(looks) // 3
    return third < 2 or median(looks[-third:]) - median(looks[-2 * third : -third]) < FLAT


def _spread(looks: list[float]) -> str:
    """Ten of them."""
    step = max(1, len(looks) // 10)
    return " ".join(f"{each:.0f}" for each in looks[::step])


async def reloads(seed: int, count: int, times: int) -> Report:
    """Other configurations take over again and again, under load and in trouble."""
    report = Report(f"{times} reloads under load", seed)
    async with scene(report) as here:
        await here.quiet()
        before = await here.quiet()
        await here.program.figures(forget=True)
        async with here.herd.stormy():
            asking = asyncio.create_task(here.crowd().ask(count, AT_ONCE))
            done = 0
            while done < times or not asking.done():
                listed = here.herd.listed()
                shown = [*here.rng.sample(listed[:-1], here.rng.randint(1, len(listed) - 1)), listed[-1]]
                here.program.configure(shown)
                await here.program.reload()
                done += 1
            await asking
        report.figures.append(("reloads", done))
        here.check_answers()
        here.program.configure(here.herd.listed())
        await here.program.reload()
        here.compare(before, await here.quiet(), count)
        here.check_log()
    return report


async def stop(seed: int, workers: int) -> Report:
    """SIGTERM while everybody asks: what was accepted is answered."""
    report = Report(f"SIGTERM under load, {workers} worker{'s' if workers > 1 else ''}", seed)
    async with scene(report, workers=workers, stop_delay=0.5, drain=20) as here:
        crowd = asyncio.create_task(here.crowd().ask_until_gone(AT_ONCE))
        await asyncio.sleep(0.5)
        here.program.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(here.program.process.wait(), 30)
        await crowd
        report.figures.append(("exit code", code))
        report.expect(code == 0, f"the exit code is {code}")
        accepted = {record["request"] for record in here.program.log('"logger":"herdgate.access"')}
        lost = [bad for bad in report.ledger.bad if bad.split()[0] in accepted]
        never = report.ledger.verdicts.pop(Verdict.LOST, 0) - len(lost)
        report.figures.append(("came too late to be accepted", never))
        report.figures.append(("accepted and lost", len(lost)))
        report.problems += lost[:10]
        report.ledger.bad = [bad for bad in report.ledger.bad if str(Verdict.LOST) not in bad]
        here.check_answers()
        here.check_log()
    return report
