"""The body of the request at hand, from the first of its bytes to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from herdgate.front.chunks import BadChunks, ChunkReader, TinyChunks


class Incoming:
    """Collects a body as it arrives. `length` in bytes, None for one that comes in chunks.

    `complete` says that its end was there; a body that breaks off, or breaks HTTP, never becomes complete.
    """

    __slots__ = (
        "_accept",
        "_chunks",
        "_error",
        "_kept",
        "_left",
        "_piecewise",
        "_waiter",
        "complete",
        "kept",
        "since",
        "size",
    )

    def __init__(self, length: int | None) -> None:
        self._left = length or 0
        self._chunks = ChunkReader() if length is None else None
        self._kept: bytearray | None = bytearray()
        """What has come and was not taken. In one piece: an object for each read could take many times its size."""
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._accept: Callable[[int], None] | None = None
        self._piecewise = False
        self.complete = length == 0
        self.size = 0
        self.kept = 0
        """Bytes that have come and were not taken yet."""
        self.since: float | None = None
        """When all of it began to be waited for, on the loop's clock; None while its pace is the reader's own."""

    @property
    def expected(self) -> int:
        """How large it is as far as anybody has said yet, in bytes."""
        return self.size + (self._left if self._chunks is None else self._chunks.announced)

    @property
    def counted(self) -> bool:
        """Whether its length was said before it."""
        return self._chunks is None

    @property
    def broken(self) -> bool:
        """Whether nobody can tell any more where it ends."""
        return self._error is not None

    @property
    def awaited(self) -> bool:
        """Whether somebody is waiting for more of it."""
        return self._waiter is not None

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; what lies behind its end comes back."""
        if self._error is not None:
            return b""
        try:
            piece, surplus = self._cut(data)
            self.size += len(piece)
            if self._accept is not None:
                self._accept(self.expected)
        except Exception as error:  # BadChunks, or what `accept` raised
            self.fail(error)
            return b""
        if self._kept is not None:
            self._kept += piece
            self.kept += len(piece)
        if (self.complete or self._piecewise) and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return surplus

    def _cut(self, data: bytes) -> tuple[bytes, bytes]:
        if self._chunks is not None:
            piece, surplus = self._chunks.feed(data)
            self.complete = self._chunks.complete
            return piece, surplus
        piece = data[: self._left]
        self._left -= len(piece)
        self.complete = not self._left
        return piece, data[len(piece) :]

    def fail(self, error: Exception) -> None:
        """Take no more of it, and let whoever waits for it, now or later, know why."""
        self._error, self.complete = error, False
        self.discard()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def discard(self) -> None:
        """Nobody wants the body, or the rest of it."""
        self._kept, self.kept = None, 0

    async def whole(self, accept: Callable[[int], None]) -> bytes:
        """All of the body. `accept` is told how large it is, as far as is known, and may raise to end this.

        Raises BadChunks, what `accept` raises, and what `fail` was given.
        """
        if self._error is not None:
            raise self._error
        accept(self.expected)
        if not self.complete:
            self.since = asyncio.get_running_loop().time()
            self._accept = accept
            try:
                await self._more()
            finally:
                self._accept = None
        return self._taken()

    async def piece(self) -> bytes:
        """What has come since the last time; empty once that was all. Raises BadChunks and what `fail` was given."""
        self._piecewise = True
        while not self.kept and not self.complete:
            if self._error is not None:
                raise self._error
            await self._more()
        return self._taken()

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _taken(self) -> bytes:
        kept, self._kept, self.kept = self._kept or b"", bytearray(), 0
        return bytes(kept)


__all__ = ["BadChunks", "Incoming", "TinyChunks"]
