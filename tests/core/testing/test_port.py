import asyncio
import socket

import pytest

from herdgate.testing.simulation.port import Port


class Watching(asyncio.Protocol):
    def __init__(self) -> None:
        self.at_once: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("socket")
        self.at_once.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        transport.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_is_written_to_its_connections_is_sent_at_once(host: str) -> None:
    """Else each second event of a stream would come as late as the client's kernel likes to acknowledge the first."""
    port, protocol = Port(host), Watching()
    async with await asyncio.get_running_loop().create_server(lambda: protocol, sock=port.take()):
        _, writer = await asyncio.open_connection(host, port.number)
        assert await protocol.at_once
        writer.close()
        await writer.wait_closed()
