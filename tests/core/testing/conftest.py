"""A raw client that sees exactly what is on the wire, and a backend to talk to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from herdgate.testing.simulated import SimModel, SimulatedOllama

Ending = Literal["eof", "reset", "open"]


@dataclass
class Wire:
    """A TCP connection without any opinion about HTTP."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, path: str, fields: object = None, method: str = "POST", headers: str = "") -> None:
        body = b"" if fields is None else json.dumps(fields).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode() + body)

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(mark)

    async def rest(self, patience: float = 5.0) -> tuple[bytes, Ending]:
        """Everything up to the end of the connection, or what came before `patience` ran out ("open")."""
        data = b""
        try:
            async with asyncio.timeout(patience):
                while piece := await self.reader.read(1 << 16):
                    data += piece
        except TimeoutError:
            return data, "open"
        except ConnectionResetError:
            return data, "reset"
        return data, "eof"

    async def reply(self) -> tuple[bytes, bytes]:
        """Head and body of one reply with a Content-Length or in chunks, which are left as they are."""
        head = await self.until(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        if b"transfer-encoding" in lines:
            return head, await self.until(b"0\r\n\r\n")
        return head, await self.reader.readexactly(int(lines.get(b"content-length", b"0")))

    def reset(self) -> None:
        import socket
        import struct

        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


Dial = Callable[[SimulatedOllama], Awaitable[Wire]]


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    wires: list[Wire] = []

    async def connect(sim: SimulatedOllama) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", sim.port, limit=1 << 24))
        wires.append(wire)
        return wire

    yield connect
    for wire in wires:
        await wire.close()


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedOllama]:
    models: list[str | SimModel] = [
        "llama3.2",
        "qwen3:8b",
        SimModel("team/Thinker:8B", capabilities=("completion", "thinking")),
        SimModel("nomic-embed-text", capabilities=("embedding",)),
    ]
    async with SimulatedOllama(name="gpu-1", models=models) as backend:
        yield backend


@pytest.fixture
def chat() -> dict[str, Any]:
    return {"model": "llama3.2", "messages": [{"role": "user", "content": "hi there"}]}
