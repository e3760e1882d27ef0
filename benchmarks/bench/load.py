"""The load: requests to one system, by wrk and by the client of this benchmark. Only ever to 127.0.0.1."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.native import SOURCES, compiled
from bench.systems import System, program

_GRACE = 10.0  # seconds beyond what a load client sets itself as a limit


class LoadError(Exception):
    """The load could not be made, or was answered with errors; the message is fit for a report."""


@dataclass(frozen=True)
class Replies:
    """What the load client saw. Times are microseconds, -1 where there was nothing to measure."""

    seconds: float
    complete: int
    failed: int
    broken: int
    unfinished: int
    chunks: int
    reconnects: int
    ttft_p50_us: float
    ttft_p99_us: float
    lag_p50_us: float
    lag_p99_us: float
    total_p50_us: float
    total_p99_us: float

    @property
    def requests(self) -> int:
        """All that there should have been."""
        return self.complete + self.failed + self.broken + self.unfinished

    @property
    def share(self) -> float:
        """Of the requests, those that got a reply with status 200, a proper end and all chunks."""
        return self.complete / self.requests if self.requests else 0.0


class Load:
    """Makes load on the core of this process, which it shares with the backend."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._client = compiled("client")

    def body(self, model: str, *, stream: bool, padding: int = 0) -> Path:
        """The file with the body of a request."""
        path = self._folder / f"{model}-{stream}-{padding}.json"
        if not path.exists():
            text = "Why is the sky blue? Explain it in one short paragraph." + "A" * padding
            messages = [{"role": "user", "content": text}]
            path.write_text(json.dumps({"model": model, "stream": stream, "messages": messages}))
        return path

    def start(self, system: System, body: Path, **options: float) -> Callable[[], Replies]:
        """Start the load client; what is returned waits for it. Each option is a letter, see client.c."""
        flags = [word for name, value in options.items() for word in (f"-{name}", f"{value:g}")]
        headers = [word for header in system.headers for word in ("-H", header)]
        command = [str(self._client), *flags, *headers, str(system.port), system.path, str(body)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def wait() -> Replies:
            try:
                output, _ = process.communicate(timeout=options["t"] + _GRACE)
            except subprocess.TimeoutExpired as error:
                raise LoadError("the load client did not end in time") from error
            finally:
                process.kill()
            if process.returncode:
                raise LoadError(f"the load client ended with status {process.returncode}: {output.strip()}")
            return Replies(**json.loads(output))

        return wait

    def run(self, system: System, body: Path, **options: float) -> Replies:
        """Run the load client to its end."""
        return self.start(system, body, **options)()

    def wrk(self, system: System, body: Path, connections: int, seconds: float) -> dict[str, float]:
        """Small requests as fast as they are answered: requests, seconds, p50_us, p99_us. Raises LoadError."""
        headers = [word for header in system.headers for word in ("-H", header)]
        shape = ["-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", "--timeout", "10s", "--latency"]
        url = f"http://127.0.0.1:{system.port}{system.path}"
        # wrk ends by itself, a few seconds late at worst: nothing it waits for takes longer than its timeout.
        result = subprocess.run(
            [program("wrk"), *shape, *headers, "-s", str(SOURCES / "report.lua"), url],
            env=os.environ | {"BENCH_BODY": str(body)},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in result.stdout.splitlines() if line.startswith("JSON ")]
        if result.returncode or not lines:
            raise LoadError(f"wrk ended with status {result.returncode}: {(result.stdout + result.stderr).strip()}")
        figures: dict[str, float] = json.loads(lines[0].removeprefix("JSON "))
        # Errors are quick: figures made of them would shine.
        if figures["errors"] > figures["requests"] / 100 or not figures["requests"]:
            raise LoadError(f"{figures['errors']:.0f} errors, {figures['requests']:.0f} replies")
        return figures
