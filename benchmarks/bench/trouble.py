"""What the callers of a gateway notice when a backend is in trouble. Of Herdgate alone.

Three backends, in this order: `first` and `last` hold the same model, `slow` another one that it takes a second to
answer. The load is the same each time: small requests for the shared model, at a fixed rate that leaves the gateway
idle most of the time, so that a latency is that of the path and not of a queue.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from bench.load import Load, LoadError, Replies
from bench.native import compiled
from bench.phases import Figures
from bench.processes import Program
from bench.systems import HERDGATE, System, clean_environ, free_port, herdgate_environ, proxyctl

RATE = 500.0  # requests per second
CONNECTIONS = 64
SLOWNESS = 1000  # milliseconds
WAITING_ON_SLOW = 64  # requests that are open on the slow backend at any time
RATE_WHEN_OFF = 25.0  # each may take as long as the gateway waits for a connection
SHARED, SLOW = "bench-0-0", "slow-0-0"
_PATIENCE = 30.0


class Off:
    """A port of a machine that is switched off: nothing answers, neither yes nor no.

    Made of a listening socket whose queue is full: Linux drops all further attempts.
    """

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        listener = self._socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._address)
        listener.listen(0)
        for _ in range(8):
            with suppress(BlockingIOError):
                self._socket().connect(self._address)
        return self

    def __exit__(self, *exc: object) -> None:
        for each in self._sockets:
            each.close()

    def _socket(self) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        self._sockets.append(made)
        return made


class Troubled:
    """A gateway in front of three backends. Enter it, then run TROUBLES in their order: each leaves things worse."""

    def __init__(self, load: Load, folder: Path, cores: tuple[int, int], seconds: float) -> None:
        self._load = load
        self._folder = folder
        self._cores = cores
        self._seconds = seconds
        self._open = ExitStack()
        self._ports = {name: free_port() for name in ("first", "slow", "last")}
        self.system = System(HERDGATE, free_port(), folder, (str(proxyctl()), "serve"))

    def __enter__(self) -> Self:
        with ExitStack() as failed:
            failed.push(self._open)
            self.first = self._backend("first", 0, SHARED)
            others = [self._backend("slow", SLOWNESS, SLOW), self._backend("last", 0, SHARED)]
            self.backends = [self.first, *others]
            self.running = self._gateway()
            self._wait_until_all_are_known()
            failed.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def calm(self) -> Figures:
        """All backends are well."""
        return _figures(self._run(self._seconds))

    def slow_neighbour(self) -> Figures:
        """Many requests wait for the slow backend all the time; the load is for the others."""
        body = self._load.body(SLOW, stream=False)
        waiting = self._load.start(self.system, body, c=WAITING_ON_SLOW, d=self._seconds, t=self._seconds + 10)
        figures = _figures(self._run(self._seconds))
        if waiting().share < 1:
            raise LoadError("the slow backend's own requests were not all answered")
        return figures

    def dies(self) -> Figures:
        """The first backend is killed in the middle of the load."""
        wait = self._start(self._seconds)
        time.sleep(self._seconds / 2)
        self.first.kill()
        return _figures(wait())

    def dead(self) -> Figures:
        """The first backend's process is gone, its machine refuses connections."""
        return _figures(self._run(self._seconds))

    def off(self) -> Figures:
        """The first backend's machine is switched off."""
        with Off(self._ports["first"]):
            return _figures(self._run(min(self._seconds, 2.0), RATE_WHEN_OFF))

    def _run(self, seconds: float, rate: float = RATE) -> Replies:
        return self._start(seconds, rate)()

    def _start(self, seconds: float, rate: float = RATE) -> Callable[[], Replies]:
        body = self._load.body(SHARED, stream=False)
        requests = round(rate * seconds)
        return self._load.start(self.system, body, c=CONNECTIONS, n=requests, r=rate, t=seconds + 15)

    def _backend(self, name: str, delay: int, model: str) -> Program:
        folder = self._folder / name
        folder.mkdir()
        # Each has a model of its own besides, by which one sees that the gateway knows it.
        command = [str(compiled("backend")), str(self._ports[name]), str(delay), model, f"known-{name}"]
        return self._started(Program(command, clean_environ(), self._cores[1], folder))

    def _gateway(self) -> Program:
        backends = [{"name": name, "base_url": f"http://127.0.0.1:{port}"} for name, port in self._ports.items()]
        environ = herdgate_environ(self._folder, self.system.port, backends)
        return self._started(Program(self.system.command, environ, self._cores[0], self._folder))

    def _started(self, program: Program) -> Program:
        self._open.callback(program.stop)
        return program

    def _wait_until_all_are_known(self) -> None:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with suppress(OSError, http.client.HTTPException, ValueError, KeyError):
                names = {model["name"] for model in self._listed()["models"]}
                if names >= {f"known-{name}:latest" for name in self._ports}:
                    return
            time.sleep(0.05)
        log = self.running.log.read_text(errors="replace")[-1000:]
        raise LoadError(f"the gateway did not find its backends; its log ends:\n{log}")

    def _listed(self) -> dict[str, list[dict[str, str]]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.system.port, timeout=5)
        try:
            connection.request("GET", "/api/tags")
            listed: dict[str, list[dict[str, str]]] = json.loads(connection.getresponse().read())
            return listed
        finally:
            connection.close()


def _figures(replies: Replies) -> Figures:
    return {
        "requests": replies.requests,
        "failures": replies.requests - replies.complete,
        "p50_ms": replies.total_p50_us / 1e3,
        "p99_ms": replies.total_p99_us / 1e3,
    }


TROUBLES: dict[str, Callable[[Troubled], Figures]] = {
    "calm": Troubled.calm,
    "slow": Troubled.slow_neighbour,
    "dies": Troubled.dies,
    "dead": Troubled.dead,
    "off": Troubled.off,
}
