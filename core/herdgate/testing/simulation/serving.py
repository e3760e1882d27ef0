"""One connection's life: request after request is read, recorded, answered."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from http import HTTPStatus

from herdgate.testing.simulation.answers.ask import Ask, model_of
from herdgate.testing.simulation.answers.router import INFERENCE, answer
from herdgate.testing.simulation.connection import ClientLeft, Connection
from herdgate.testing.simulation.delivery import Delivery
from herdgate.testing.simulation.fault import Fault, bend
from herdgate.testing.simulation.http1 import Malformed, RequestHead
from herdgate.testing.simulation.journal import Journal
from herdgate.testing.simulation.records import Outcome, Received
from herdgate.testing.simulation.reply import Reply
from herdgate.testing.simulation.script import Script
from herdgate.testing.simulation.world import World

_CANCELLED = (
    b"HTTP/1.1 499 status code 499\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 28\r\n"
    b'Connection: close\r\n\r\n{"error":"request canceled"}'
)


class Serving:
    """Serves the connections of one backend."""

    def __init__(self, world: World, journal: Journal, script: Script) -> None:
        self._world = world
        self._journal = journal
        self._script = script
        self._loading = 0
        self._loaded = asyncio.Event()
        self._loaded.set()
        self.thawed = asyncio.Event()
        """Cleared: requests are taken in, but nothing goes out."""
        self.thawed.set()
        self.on_loopback = True
        """Whether the backend listens on a loopback address, where Ollama checks ``Host``."""

    async def serve(self, connection: Connection) -> None:
        """Serve a connection until either side ends it."""
        try:
            while await self._exchange(connection):
                pass
        except ClientLeft:
            pass
        except Malformed as error:
            self._journal.malformed.append(str(error))
            self._journal.changed()
            with suppress(ClientLeft):
                await connection.write(_bad_request(error))
        finally:
            connection.close()

    async def _exchange(self, connection: Connection) -> bool:
        """Take in one request and answer it; True if the connection may be used again."""
        head = await connection.read_head()
        received = Received(head, connection.number, asyncio.get_running_loop().time())
        early = self._script.take("head", head.path)
        if early:
            connection.stop_reading()
            self._journal.add(received)
            return await self._reply(connection, received, early)
        try:
            await connection.read_body(head, partial(setattr, received, "body"))
        except ClientLeft:
            received.left_at = connection.left_at
            self._journal.add(received)
            self._journal.finish(received, "client_left")
            raise
        received.model = model_of(head, received.body)
        faults = self._script.take("request", head.path, received.model)
        with self._journal.counted() if _is_inference(head) else nullcontext():
            self._journal.add(received)
            return await self._reply(connection, received, faults)

    async def _reply(self, connection: Connection, received: Received, faults: Sequence[Fault]) -> bool:
        reply = answer(Ask(received.head, received.body, self._world), self.on_loopback)
        delivery = Delivery(connection, received.head, self.thawed)
        parts = bend(reply, self._world.behaviour.pace, faults)
        outcome: Outcome = "complete" if all(fault.benign for fault in faults) else "faulted"
        try:
            await self._load(connection, reply)
            if received.path == "/api/ps":
                await connection.pause(until=self._loaded)
            return await delivery.run(parts, partial(self._journal.sent_event, received))
        except ClientLeft:
            outcome = "faulted" if connection.broken_off else "client_left"
            received.left_at = None if connection.broken_off else connection.left_at
            if not delivery.started:
                connection.last_word(_CANCELLED)
            raise
        finally:
            if reply.loads and reply.keep == 0:
                self._world.memory.keep(reply.loads, 0)
            self._journal.finish(received, outcome)

    async def _load(self, connection: Connection, reply: Reply) -> None:
        """Have the model in memory. Who leaves meanwhile throws the load away. Raises ClientLeft."""
        model = reply.loads
        if model is None or model.remote_host:
            return
        seconds = self._world.behaviour.load_time
        if seconds and not self._world.memory.has(model):
            self._loading += 1
            self._loaded.clear()
            try:
                await connection.pause(seconds)
            finally:
                self._loading -= 1
                if not self._loading:
                    self._loaded.set()
        self._world.memory.keep(model, reply.keep or 3600)


def _is_inference(head: RequestHead) -> bool:
    return head.method == "POST" and head.path in INFERENCE


def _bad_request(error: Malformed) -> bytes:
    status = HTTPStatus(error.status)
    body = f"{status.value} {status.phrase}".encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
