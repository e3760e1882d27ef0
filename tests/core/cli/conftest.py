"""Commands run in a directory and an environment of their own; backends run beside them, in a loop of their own."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from click.testing import CliRunner, Result

from herdgate.cli import main
from herdgate.testing.simulated import SimulatedOllama

T = TypeVar("T")
WITHIN = 15.0
CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; nothing of the developer's own settings is seen there."""
    for name in list(os.environ):
        if name.startswith(("HERDGATE_", "OLLAMA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HERDGATE_STATE", f"sqlite://{tmp_path}/state.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def proxyctl(*arguments: str, code: int = 0) -> Result:
    """Run a command that must end with this exit code."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, (result.output, result.exc_info)
    return result


def json_of(*arguments: str, code: int = 0) -> Any:
    return json.loads(proxyctl(*arguments, "--json", code=code).stdout)


class Loop:
    """An event loop in a thread: commands have one of their own in the main thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WITHIN)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def aside() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


class Simulate(Protocol):
    def __call__(self, name: str, *models: Any, **options: Any) -> SimulatedOllama: ...


@pytest.fixture
def simulate(aside: Loop) -> Iterator[Simulate]:
    running: list[SimulatedOllama] = []

    def start(name: str, *models: Any, **options: Any) -> SimulatedOllama:
        backend = SimulatedOllama(name, models, **options)
        aside.run(backend.start())
        running.append(backend)
        return backend

    yield start
    for backend in running:
        aside.run(backend.close())


@pytest.fixture
def raw(aside: Loop) -> Iterator[Callable[[bytes], str]]:
    """Servers that say the same to everybody."""
    servers: list[asyncio.Server] = []

    def start(reply: bytes) -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            writer.close()
            await writer.wait_closed()

        server = aside.run(asyncio.start_server(answer, "127.0.0.1", 0))
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def stop(server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()

    yield start
    for server in servers:
        aside.run(stop(server))


Use = Callable[..., None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Configure backends: simulated ones, or (name, base_url, further settings)."""

    def configure(*backends: SimulatedOllama | dict[str, Any]) -> None:
        listed = [
            {"name": backend.name, "base_url": backend.url} if isinstance(backend, SimulatedOllama) else backend
            for backend in backends
        ]
        monkeypatch.setenv("OLLAMA_BACKENDS", json.dumps(listed))

    return configure


@pytest.fixture
def dead() -> Iterator[dict[str, str]]:
    """A backend whose port is taken, but where nothing listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield {"name": "dead", "base_url": f"http://127.0.0.1:{taken.getsockname()[1]}"}


class Chat:
    """A streamed chat with the gateway, whose first event has come."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=WITHIN)
        self._connection.request("POST", "/api/chat", json.dumps(CHAT))
        self._reply = self._connection.getresponse()
        assert self._reply.status == 200, self._reply.read()
        self.first: dict[str, Any] = json.loads(self._reply.readline())

    def ends_well(self) -> bool:
        """Whether the reply comes to its end."""
        event = self.first
        with closing(self._connection):
            while line := self._reply.readline():  # empty as well where the connection breaks
                event = json.loads(line)
        return event.get("done") is True


def status(port: int, path: str, headers: Mapping[str, str] | None = None) -> int:
    """Ask on a connection of its own."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=WITHIN)) as connection:
        connection.request("GET", path, headers=dict(headers or {}))
        reply = connection.getresponse()
        reply.read()
        return reply.status


def body(port: int, path: str) -> str:
    """The body of a good reply."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=WITHIN)) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        return reply.read().decode()


@dataclass
class Program:
    """A running `proxyctl`."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log, which is JSON where stderr is no terminal."""
        return [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]

    def until(self, condition: Callable[[], T | None]) -> T:
        """Wait until this is true and return it."""
        end = time.monotonic() + WITHIN
        while not (found := condition()):
            assert time.monotonic() < end, self.said
            time.sleep(0.02)
        return found

    def until_ready(self) -> int:
        """Wait until the gateway says that it is ready; return its port, which the system chose."""

        def address() -> re.Match[str] | None:
            assert self.process.poll() is None, self.said
            return re.search(r"serving at http://127.0.0.1:(\d+)", self.said)

        port = int(self.until(address)[1])
        self.until(lambda: status(port, "/readyz") == 200)
        return port

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(WITHIN)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.end()


Run = Callable[..., Program]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start `proxyctl` as a process of its own, in a group of its own."""
    programs: list[Program] = []

    def start(*arguments: str) -> Program:
        if not (tmp_path / "plugins.toml").exists():  # nobody is to wait for load balancers that are not there
            (tmp_path / "plugins.toml").write_text("[server]\nstop_delay = 0\n")
        output = tmp_path / f"output-{len(programs)}"
        with output.open("wb") as file:
            command = [sys.executable, "-m", "herdgate.cli", *arguments]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        programs.append(Program(process, output))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            os.killpg(program.process.pid, signal.SIGKILL)
        program.process.wait(WITHIN)
