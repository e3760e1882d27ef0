"""The gateway under test: `proxyctl serve` as a process of its own, with the witness in it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.callers import KEY, Connection
from tests.chaos.witness import PATH

ROOT = Path(__file__).parents[2]
WITHIN = 30.0


@dataclass(frozen=True)
class Figures:
    """What the witness says, in a moment of quiet."""

    leases: int
    ended: int
    twice: tuple[str, ...]
    outcomes: dict[str, int]
    tasks: int
    descriptors: int
    memory: int

    @property
    def quiet(self) -> tuple[int, int, int]:
        """What must be the same before and after."""
        return self.leases, self.tasks, self.descriptors


class Program:
    """A running gateway and its log."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.process: asyncio.subprocess.Process
        self.port = 0

    def log(self, having: str = "") -> list[dict[str, Any]]:
        """The records with this in their line."""
        with (self.place / "log").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if having in line and line.startswith("{")]

    def configure(self, backends: list[dict[str, object]], **server: object) -> None:
        """Write its `plugins.toml`: the built-in list, these backends and the witness."""
        lines = [
            (ROOT / "plugins.toml").read_text("utf-8"),
            f'\n[[plugin]]\nuse = "{Path(__file__).parent}/witness.py:Witness"\n',
        ]
        lines += ["[server]\n", *(f"{name} = {json.dumps(value)}\n" for name, value in server.items())]
        for backend in backends:
            lines += ["[[backend]]\n", *(f"{name} = {json.dumps(value)}\n" for name, value in backend.items())]
        (self.place / "plugins.toml").write_text("".join(lines), "utf-8")

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until this is true."""
        async with asyncio.timeout(WITHIN):
            while not (found := condition()):
                assert self.process.returncode is None, (self.place / "log").read_text("utf-8")[-2000:]
                await asyncio.sleep(0.05)
        return found

    async def figures(self, *, forget: bool = False) -> Figures:
        """Ask the witness."""
        connection = Connection(self.port)
        await connection.begin(PATH, "chaos", None, "DELETE" if forget else "GET")
        told = json.loads((await connection.answer()).body)
        connection.leave()
        return Figures(**{**told, "twice": tuple(told["twice"])})

    async def reload(self) -> None:
        """Have it read its configuration anew, and wait until that has taken over."""
        before = self._reloads()
        self.process.send_signal(signal.SIGHUP)
        await self.until(lambda: self._reloads() > before)

    def _reloads(self) -> int:
        return len(self.log("reloaded: the new"))


@asynccontextmanager
async def running(
    place: Path, backends: list[dict[str, object]], *, workers: int = 1, **server: object
) -> AsyncIterator[Program]:
    """Start a gateway in front of these backends, and wait until it is ready."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HERDGATE_", "OLLAMA_"))}
    environ |= {
        "HERDGATE_ADMIN_KEY": KEY,
        "HERDGATE_STATE": f"sqlite://{place}/state.db",
        "HERDGATE_DISCOVERY_INTERVAL": "0.5",
        "HERDGATE_LOG_FORMAT": "json",
    }
    arguments = ["-m", "herdgate.cli", "serve", "--port", "0", "--workers", str(workers)]
    program = Program(place)
    program.configure(backends, **server)
    with (place / "log").open("wb") as log:
        program.process = process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=place, env=environ, stdout=log, stderr=log, start_new_session=True
        )
    try:
        said = await program.until(lambda: re.search(r"serving at http://127.0.0.1:(\d+)", (place / "log").read_text()))
        program.port = int(said[1])
        yield program
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
