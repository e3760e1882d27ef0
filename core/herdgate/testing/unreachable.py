"""An address like that of a machine that is gone: connections are neither taken nor refused."""

import asyncio
import socket
from contextlib import suppress
from typing import Self

_FULL_AFTER = 0.05  # seconds; on the loopback interface a connection that is taken at all is taken at once
_MOST = 16


class Unreachable:
    """While entered, connecting to `url` takes until the client's own deadline.

    A listening socket nobody accepts from, whose queue is full: Linux then drops further attempts. Raises RuntimeError
    where the operating system does otherwise.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self.url = ""
        """The base URL, once entered."""

    async def __aenter__(self) -> Self:
        listener = self._socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        self.url = f"http://127.0.0.1:{address[1]}"
        try:
            await self._fill(address)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def _fill(self, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            for _ in range(_MOST):
                await asyncio.wait_for(loop.sock_connect(self._socket(), address), _FULL_AFTER)
            raise RuntimeError("this system takes connections beyond a full queue: no address can be made unreachable")

    def _socket(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        self._sockets.append(sock)
        return sock
