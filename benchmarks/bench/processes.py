"""Programs in process groups of their own, and what the kernel says they use."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_POLITE, _FIRM = 5.0, 5.0  # seconds a program has to end after SIGTERM, then after SIGKILL


@dataclass(frozen=True)
class Cpu:
    """CPU time that a group has used so far, read in two ways.

    `ticks` are seconds, coarse (10 ms), with those of children that have ended. `threads` are nanoseconds by thread,
    exact, but what a thread used is gone with it.
    """

    ticks: float
    threads: Mapping[str, int]

    def since(self, earlier: Cpu) -> float:
        """Seconds between two readings, by threads unless one has ended in between."""
        if earlier.threads and earlier.threads.keys() <= self.threads.keys():
            return (sum(self.threads.values()) - sum(earlier.threads.values())) / 1e9
        return self.ticks - earlier.ticks


class Program:
    """A program that was started on one core, as the leader of its own session; ended with all its children."""

    def __init__(self, command: Sequence[str | Path], environ: Mapping[str, str], core: int, folder: Path) -> None:
        self.log = folder / "output.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def cpu(self) -> Cpu:
        """The CPU time of the whole group so far."""
        ticks, threads = 0, {}
        for process, stat in self._members():
            ticks += sum(int(field) for field in stat[11:15])
            with suppress(OSError):
                for thread in process.joinpath("task").iterdir():
                    threads[f"{process.name}/{thread.name}"] = int((thread / "schedstat").read_text().split()[0])
        return Cpu(ticks / TICKS, threads)

    def memory_mb(self) -> float:
        """Resident memory of the group. What its processes share counts once, even if other programs share it too."""
        private, shared = 0, 0
        for process, _ in self._members():
            with suppress(OSError):
                text = (process / "smaps_rollup").read_text()
                sizes = {name: int(kb) for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
                private += sizes["Private_Clean"] + sizes["Private_Dirty"]
                shared = max(shared, sizes["Shared_Clean"] + sizes["Shared_Dirty"])
        return (private + shared) / 1024

    def _members(self) -> Iterator[tuple[Path, list[str]]]:
        """The processes of the session, each with the fields of its `stat` behind the command's name."""
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with suppress(OSError):
                    fields = (process / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self._process.pid:
                        yield process, fields

    def kill(self) -> None:
        """End it as a crash would."""
        self._signal(signal.SIGKILL)
        self._process.wait(_FIRM)

    def stop(self) -> None:
        """Ask it to end, and insist."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_POLITE)
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def own_cpu() -> float:
    """Seconds used by this process and by the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def machine_cpu() -> float:
    """Seconds that all cores were busy since the machine was started, stolen by a hypervisor included."""
    user, nice, system, _, _, irq, softirq, steal, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(field) for field in (user, nice, system, irq, softirq, steal)) / TICKS


class Disturbance:
    """How many cores something else kept busy, while this was watched."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._before = self._read()
        self.cpu = [0.0] * len(programs)
        """Seconds of CPU by each of the programs, in their order; known after `end`."""
        self.seconds = 0.0
        """How long it was watched; known after `end`."""

    def end(self) -> float:
        """Stop watching. A little below 0 is possible: the kernel counts the whole machine in ticks."""
        (at, machine, own, before), (now, machine_now, own_now, after) = self._before, self._read()
        self.seconds = now - at
        self.cpu = [b.since(a) for a, b in zip(before, after, strict=True)]
        return (machine_now - machine - (own_now - own) - sum(self.cpu)) / self.seconds

    def _read(self) -> tuple[float, float, float, list[Cpu]]:
        return time.monotonic(), machine_cpu(), own_cpu(), [program.cpu() for program in self._programs]
