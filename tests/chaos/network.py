"""A stretch of network between the gateway and a backend, which can be slow, lossy, cut or dead."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from herdgate.listening import stop_accepting

_PIECE = 16384


@dataclass(frozen=True)
class Weather:
    """How the network is. Times in seconds, `bandwidth` in bytes per second; `slice`: bytes that travel together.

    `black_hole`: connections are taken and nothing ever passes. `refuses`: no connection is taken. `cuts`: how often a
    piece is the last one of its connection, between 0 and 1; `how` it is cut: reset, or closed on one side only.
    """

    delay: float = 0.0
    jitter: float = 0.0
    bandwidth: float | None = None
    slice: int | None = None
    black_hole: bool = False
    refuses: bool = False
    cuts: float = 0.0
    how: str = "reset"


CALM = Weather()


class Link:
    """Passes on what comes, as the weather allows."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self.weather = CALM
        self._to = port
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._port = 0
        self._passing: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self._port, reuse_address=True)
            self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse what comes; cut what is there."""
        if self._server is not None:
            await stop_accepting(self._server)
            self._server = None
        self.reset()
        if self._passing:
            await asyncio.wait(self._passing, timeout=5)

    def reset(self) -> None:
        """Cut all connections."""
        for task, writer in self._passing.items():
            writer.transport.abort()
            task.cancel()

    async def change(self, weather: Weather) -> None:
        """Let the weather be like this from now on."""
        self.weather = weather
        await (self.close() if weather.refuses else self.open())

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing[task] = writer
        try:
            await self._connected(reader, writer)
        except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            del self._passing[task]
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.weather.black_hole:
            await reader.read()  # whoever asks has to give up
            return
        async with _backend(self._to) as (answers, asks):
            forth = asyncio.create_task(self._pass(reader, asks))
            back = asyncio.create_task(self._pass(answers, writer))
            try:
                await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):  # what was sent before one side ended is still to arrive
                        await asyncio.wait([forth, back])
            finally:
                for each in (forth, back):
                    each.cancel()
                await asyncio.wait([forth, back])

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                await self._deliver(data, writer)
            writer.write_eof()

    async def _deliver(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        weather = self.weather
        while weather.black_hole:
            await asyncio.sleep(0.05)
            weather = self.weather
        if weather.delay or weather.jitter:
            await asyncio.sleep(weather.delay + self._rng.random() * weather.jitter)
        size = weather.slice or len(data)
        for at in range(0, len(data), size):
            if weather.cuts and self._rng.random() < weather.cuts:
                self._cut(writer, weather.how)
                return
            writer.write(data[at : at + size])
            await writer.drain()
            if weather.bandwidth:
                await asyncio.sleep(size / weather.bandwidth)
            elif weather.slice:
                await asyncio.sleep(0)

    def _cut(self, writer: asyncio.StreamWriter, how: str) -> None:
        if how == "reset":
            writer.transport.abort()
        else:
            writer.write_eof()
        raise ConnectionResetError


@asynccontextmanager
async def _backend(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
