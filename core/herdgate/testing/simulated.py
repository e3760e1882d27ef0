"""A simulated Ollama on a real socket: faithful on the wire, quick, deterministic, and breakable on demand.

    async with SimulatedOllama(name="gpu-1", models=["llama3.2", "qwen3:8b"]) as sim:
        sim.script("/api/chat", Status(503), Cut(after=2))      # the next request, and the one after it
        …                                                       # talk to sim.url
        await sim.wait_for(lambda sim: len(sim.requests) == 2)

It runs no model: a reply says which backend gave it and repeats the last user message, one word per event. As a process
of its own: ``python -m herdgate.testing.simulated --name gpu-1 --port 11501 --model llama3.2``.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Self, Unpack

from herdgate.listening import stop_accepting
from herdgate.testing.simulation.connection import Connection
from herdgate.testing.simulation.journal import Journal
from herdgate.testing.simulation.models import ModelStore, SimModel
from herdgate.testing.simulation.port import Port
from herdgate.testing.simulation.records import Received
from herdgate.testing.simulation.script import Script, Scripted
from herdgate.testing.simulation.serving import Serving
from herdgate.testing.simulation.world import Behaviour, Options, World

__all__ = ["Port", "Received", "SimModel", "SimulatedOllama"]

_STOP_WITHIN = 5.0


class SimulatedOllama:
    """One simulated backend; see the module. It belongs to the event loop in which it was started."""

    def __init__(
        self,
        name: str = "simulated",
        models: Sequence[str | SimModel] = ("llama3.2",),
        port: int | Port = 0,
        tls: ssl.SSLContext | None = None,
        **options: Unpack[Options],
    ) -> None:
        """``port`` 0: the system chooses one, kept over stops and starts. ``options``: see `Behaviour`."""
        self.name = name
        self.models = ModelStore(*models)
        self.behaviour = Behaviour(**options)
        self._port = port if isinstance(port, Port) else Port(number=port)
        self._tls = tls
        self._journal = Journal()
        self._script = Script()
        self._serving = Serving(World(name, self.models, self.behaviour), self._journal, self._script)
        self._serving.on_loopback = self._port.on_loopback
        self._server: asyncio.Server | None = None
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"{'https' if self._tls else 'http'}://{self._port.location}"

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._port.number

    @property
    def requests(self) -> list[Received]:
        """Every request, in the order of arrival."""
        return self._journal.requests

    @property
    def malformed(self) -> list[str]:
        """Why requests were refused as no proper HTTP/1.1."""
        return self._journal.malformed

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._journal.connections

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    @property
    def concurrent(self) -> int:
        """How many inference requests are in work now."""
        return self._journal.concurrent

    @property
    def max_concurrent(self) -> int:
        """The most inference requests that ever were in work at the same time."""
        return self._journal.max_concurrent

    async def start(self) -> None:
        """Listen; after `stop` on the same port as before. Raises OSError if the port is not free."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        sock = self._port.take()
        try:
            self._server = await loop.create_server(self._connection, sock=sock, ssl=self._tls, backlog=1024)
        except BaseException:
            sock.close()
            raise

    async def stop(self) -> None:
        """Die as a process dies: connections break, new ones are refused. `start` brings the backend back."""
        if self._server is None:
            return
        server, self._server = self._server, None
        await stop_accepting(server)
        for connection in list(self._open):
            connection.abort()
        await self._journal.wait_for(lambda: not self._open, timeout=_STOP_WITHIN)
        await server.wait_closed()
        self._port.reserve()
        tasks, self._tasks = self._tasks, set()
        await asyncio.gather(*tasks)  # an error in the simulation itself is not to go unseen

    async def close(self) -> None:
        """Stop for good and give up the port."""
        try:
            await self.stop()
        finally:
            self._port.release()

    async def freeze(self) -> None:
        """From now on accept connections and read requests, but send nothing, not even in streams under way."""
        self._serving.thawed.clear()

    async def thaw(self) -> None:
        """End a `freeze`: everything held back is sent."""
        self._serving.thawed.set()

    def script(self, path: str, *behaviours: Scripted, times: int | None = 1, model: str | None = None) -> None:
        """Let coming requests meet faults: the first gets the first, the next the next, each of them ``times`` times.

        ``path`` is the decoded path, or ``*`` for any; ``model`` restricts it to requests for that model, however it is
        spelled. A tuple is several faults for the same request. ``times=None``: in turn, until `clear_script`. Of
        several scripts that match, the one written first is used up first.
        """
        self._script.add(path, behaviours, times, model)

    def clear_script(self) -> None:
        """Behave again; requests in work go on as they began."""
        self._script.clear()

    async def wait_for(self, condition: Callable[["SimulatedOllama"], bool], timeout: float = 5.0) -> None:
        """Return as soon as ``condition`` holds for this backend; it is asked again after each change.

        Raises TimeoutError, whose text lists what happened instead.
        """
        await self._journal.wait_for(lambda: condition(self), timeout)

    def _connection(self) -> Connection:
        return Connection(self._opened, self._closed)

    def _opened(self, connection: Connection) -> None:
        self._journal.connections += 1
        connection.number = self._journal.connections
        self._open.add(connection)
        if self._server is None:  # accepted by the kernel just before the stop
            connection.abort()
        elif self._script.take("accept"):
            connection.reset()
        else:
            task = asyncio.create_task(self._serving.serve(connection), name=f"simulated {self.name}")
            self._tasks.add(task)
            task.add_done_callback(self._served)
        self._journal.changed()

    def _served(self, task: asyncio.Task[None]) -> None:
        """Forget a task that ended well; one that failed is kept for `stop` to raise its error."""
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)

    def _closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._journal.changed()


if __name__ == "__main__":
    from herdgate.testing.simulation import command

    command.run()
