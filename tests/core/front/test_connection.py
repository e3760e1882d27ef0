from __future__ import annotations

import asyncio
from types import SimpleNamespace

from herdgate.front.connection import GatewayConnection
from herdgate.front.door import Patience


class Closing(asyncio.Transport):
    """A connection that was told to close and still has something unsent: uvloop lets nobody end it a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Dropped."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Any will do."""

    def is_closing(self) -> bool:
        return self.closing

    def write_eof(self) -> None:
        raise RuntimeError("closed")

    def abort(self) -> None:
        self.aborted = True


async def test_a_caller_that_is_overdue_on_a_closing_connection_does_not_end_the_watch_over_the_others() -> None:
    door = SimpleNamespace(patience=Patience(), refusal=lambda _: b"")
    app = SimpleNamespace(ctx=SimpleNamespace(door=door))
    connection = GatewayConnection(loop=asyncio.get_running_loop(), app=app, connections=set())
    transport = Closing()
    connection.connection_made(transport)
    connection.data_received(b"GET / HT")
    transport.closing = True
    connection.overdue()
    assert transport.aborted
