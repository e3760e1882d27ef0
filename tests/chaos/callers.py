"""Callers of all kinds: those who wait for their answer, and those who leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.chaos.ways import WAYS, Answer, Verdict, Way

KEY = "an-admin-key-of-32-characters-00"
WITHIN = 60.0
"""Seconds after which a request counts as hung."""
LEAVERS = 0.08
"""How many of the callers leave before their answer is complete."""


@dataclass
class Ledger:
    """What became of all requests."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    by_path: dict[str, Counter[Verdict]] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    committed: dict[str, str] = field(default_factory=dict)
    """Which backend's bytes a caller saw, by what it said."""
    slowest: float = 0.0

    def note(self, way: Way, verdict: Verdict, say: str, answer: Answer | None = None) -> None:
        self.verdicts[verdict] += 1
        self.by_path.setdefault(way.path, Counter())[verdict] += 1
        if answer is not None and answer.status == 200 and answer.backend:
            self.committed[say] = answer.backend
        if verdict in (Verdict.FAILED, Verdict.LIE, Verdict.LOST):
            shown = answer and replace(answer, body=answer.body[:600] + b" ... " + answer.body[-200:])
            self.bad.append(f"{say} {way.path} stream={way.stream} {verdict}: {shown}")


class Connection:
    """One connection to the gateway, used again for as long as the gateway keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def begin(self, path: str, say: str, body: object, method: str = "POST") -> None:
        """Send a request. Raises OSError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        content = json.dumps(body).encode() if body is not None else b""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nX-Request-Id: {say}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        self._streams[1].write(head.encode() + content)
        await self._streams[1].drain()

    async def answer(self) -> Answer:
        """Read the answer, as far as it comes. Raises OSError or EOFError if there is none."""
        assert self._streams is not None
        reader = self._streams[0]
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = bytearray()
        whole = True
        try:
            if "transfer-encoding" in headers:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                await reader.readexactly(2)
            else:
                body += await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError) as error:
            body += getattr(error, "partial", b"")
            whole = False
        if not whole or headers["connection"] == "close":
            self.leave()
        return Answer(int(head[0].split()[1]), bytes(body), whole, headers.get("x-herdgate-backend"))

    async def first_bytes(self) -> None:
        """Wait for the beginning of an answer."""
        assert self._streams is not None
        await self._streams[0].readuntil(b"\r\n\r\n")

    def leave(self) -> None:
        """Close without a word."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Crowd:
    """Callers that ask one thing after the other."""

    def __init__(self, port: int, rng: random.Random, ledger: Ledger, names: Iterator[str]) -> None:
        self._port = port
        self._rng = rng
        self._ledger = ledger
        self._names = names
        self._until_gone = False

    async def ask(self, count: int, at_once: int) -> None:
        """Send so many requests, so many of them at a time."""
        left = iter(range(count))
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._caller(left))

    async def ask_until_gone(self, at_once: int) -> None:
        """Ask until nobody listens any more."""
        self._until_gone = True
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._caller(iter(range(1_000_000))))

    async def _caller(self, left: Iterator[int]) -> None:
        connection = Connection(self._port)
        try:
            for _ in left:
                way, say = self._rng.choice(WAYS), next(self._names)
                leaves = not self._until_gone and self._rng.random() < LEAVERS
                if not await self._one(connection, way, say, leaves=leaves):
                    break
        finally:
            connection.leave()

    async def _one(self, connection: Connection, way: Way, say: str, *, leaves: bool) -> bool:
        """One request; False if nobody listens any more."""
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(WITHIN):
                await connection.begin(way.path, say, way.body(say))
                if leaves:
                    await self._leave(connection)
                    self._ledger.note(way, Verdict.LEFT, say)
                    return True
                answer = await connection.answer()
        except ConnectionRefusedError:
            if self._until_gone:
                return False
            self._ledger.note(way, Verdict.LOST, say)
        except (OSError, EOFError) as error:
            connection.leave()
            self._ledger.note(way, Verdict.LOST, say, Answer(0, repr(error).encode(), False))
        else:
            self._ledger.note(way, way.judge(answer, say), say, answer)
        self._ledger.slowest = max(self._ledger.slowest, asyncio.get_running_loop().time() - began)
        return True

    async def _leave(self, connection: Connection) -> None:
        """At a random moment: at once, after a while, or in the middle of the answer."""
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(self._rng.choice([0.0, 0.005, 0.05, 5.0])):
                await connection.first_bytes()
        connection.leave()
