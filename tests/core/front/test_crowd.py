from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest
import uvloop

from herdgate.front.crowd import Crowd

CALLERS = 300


class Greets(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(b"x")


async def _crowd_comes() -> tuple[int, int]:
    """How many of a crowd were greeted, and how many descriptors are left afterwards."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=CALLERS)
    listener.setblocking(False)
    with listener:
        crowd = Crowd(listener, Greets)
        callers = [socket.create_connection(listener.getsockname()) for _ in range(CALLERS)]
        loop = asyncio.get_running_loop()
        greeted = 0
        for caller in callers:
            caller.setblocking(False)
            greeted += len(await asyncio.wait_for(loop.sock_recv(caller, 1), 5))
            caller.close()
        await crowd.close()
        await crowd.close()
        late = socket.create_connection(listener.getsockname())
        late.setblocking(False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(late, 1), 0.1)
        late.close()
    return greeted, listener.fileno()


def test_a_crowd_is_taken_in_and_after_the_close_nobody() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_crowd_comes()) == (CALLERS, -1)
