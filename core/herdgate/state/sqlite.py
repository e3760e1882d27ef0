"""The state in an SQLite file: right for any number of processes on one machine.

One thread per store does all the work, so the event loop never waits for a lock or a disk.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Final, Literal, Self, TypeVar

from herdgate.state import CALL_LIMIT
from herdgate.state.place import SqlitePlace
from herdgate.state.sqlite_file import OpenFile, unusable

T = TypeVar("T")

OPENED_WITHIN = 5.0
"""Seconds for opening the file: to make it takes several writes to the disk, and nobody is served who could wait."""

# A version is at least the time of its change in microseconds, so that a file put in this one's place (a backup, a new
# one) never comes to a number that this one had with other entries.
_BUMP = """
    INSERT INTO version VALUES (:space, :now)
    ON CONFLICT (space) DO UPDATE SET number = max(number + 1, excluded.number)
"""
_PUT = "INSERT INTO entry VALUES (:space, :key, :value) ON CONFLICT (space, key) DO UPDATE SET value = excluded.value"
_ADD = "INSERT INTO entry VALUES (:space, :key, :value) ON CONFLICT (space, key) DO NOTHING"
_DELETE = "DELETE FROM entry WHERE space = :space AND key = :key"


class SqliteState:
    """A `State` in an SQLite file. Made by `open`."""

    kind: Final[Literal["sqlite"]] = "sqlite"

    def __init__(self, place: SqlitePlace) -> None:
        self.place: Final = str(place)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="herdgate-state")
        self._file = OpenFile(place.path)
        self._closed = False

    @classmethod
    async def open(cls, place: SqlitePlace, *, create: bool = True) -> Self:
        """Open the file, creating it if it is absent and that is wanted. Raises `StateUnavailable`."""
        state = cls(place)
        try:
            await state._run(lambda: state._file.open(create=create), within=OPENED_WITHIN)
        except BaseException:
            await state.close()
            raise
        return state

    async def get(self, space: str, key: str) -> bytes | None:
        """See `State.get`."""
        rows = await self._read("SELECT value FROM entry WHERE space = ? AND key = ?", space, key)
        return rows[0][0] if rows else None

    async def put(self, space: str, key: str, value: bytes, *, at: int | None = None) -> bool:
        """See `State.put`."""
        return await self._change(_PUT, space, key, value, at)

    async def add(self, space: str, key: str, value: bytes) -> bool:
        """See `State.add`."""
        return await self._change(_ADD, space, key, value)

    async def delete(self, space: str, key: str) -> bool:
        """See `State.delete`."""
        return await self._change(_DELETE, space, key)

    async def items(self, space: str) -> dict[str, bytes]:
        """See `State.items`."""
        return dict(await self._read("SELECT key, value FROM entry WHERE space = ?", space))

    async def count(self, space: str) -> int:
        """See `State.count`."""
        return int((await self._read("SELECT count(*) FROM entry WHERE space = ?", space))[0][0])

    async def version(self, space: str) -> int:
        """See `State.version`."""
        return await self._run(lambda: _version(self._file.connection(), space))

    async def close(self) -> None:
        """See `State.close`."""
        if self._closed:
            return
        self._closed = True
        # Not awaited without bound: the thread may hang on a dead disk.
        closed = asyncio.wrap_future(self._worker.submit(self._file.close))
        await asyncio.wait({closed}, timeout=CALL_LIMIT)
        if not closed.done():
            closed.cancel()  # the loop may be gone by the time that the disk comes back
            self._worker.submit(self._file.close)
        self._worker.shutdown(wait=False)

    async def _read(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        def work() -> list[tuple[Any, ...]]:
            with closing(self._file.connection().execute(query, values)) as cursor:
                return cursor.fetchall()

        return await self._run(work)

    async def _change(self, statement: str, space: str, key: str, value: bytes = b"", at: int | None = None) -> bool:
        def work() -> bool:
            with _transaction(self._file.connection()) as connection:
                if at is not None and at != _version(connection, space):
                    return False
                changed = connection.execute(statement, {"space": space, "key": key, "value": value}).rowcount > 0
                if changed:
                    connection.execute(_BUMP, {"space": space, "now": time.time_ns() // 1000})
                return changed

        return await self._run(work)

    async def _run(self, work: Callable[[], T], *, within: float | None = None) -> T:
        """Have the thread do the work; raise `StateUnavailable` if that fails or takes too long."""
        if self._closed:
            raise unusable(self._file.path, "it was closed")
        limit = CALL_LIMIT if within is None else within
        future = asyncio.wrap_future(self._worker.submit(self._file.guard, work))
        try:
            await asyncio.wait({future}, timeout=limit)
            if future.done():
                return future.result()
        finally:
            future.cancel()  # what still waits for the thread must not pile up
        raise unusable(self._file.path, f"no answer within {limit} s; if this was a change, it may still be made")


def _version(connection: sqlite3.Connection, space: str) -> int:
    with closing(connection.execute("SELECT number FROM version WHERE space = ?", (space,))) as cursor:
        row = cursor.fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    # A writer from the start: a reader that turns writer later can fail at once, without using the busy timeout.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
