"""Where the gateway keeps what must outlive a process or be shared between processes: one small key-value interface.

Entries live in *spaces*; each space has a version, so that a process may keep a copy in memory and ask only for the
version to learn whether the copy still holds. SQLite serves one machine, Redis several.

Every call of a store ends within `CALL_LIMIT` seconds, with its result or with `StateUnavailable`; none blocks the
event loop. A call that was out of time may have been carried out all the same, so whoever repeats a change looks first.
"""

from typing import Literal, Protocol

from herdgate.state.place import SqlitePlace, parse_place
from herdgate.state.unavailable import StateAbsent, StateUnavailable

CALL_LIMIT = 0.9
"""Seconds after which a store gives a call up, whatever it waits for: no request may wait longer than one second."""


class State(Protocol):
    """A key-value store with spaces. Every method but `close` raises `StateUnavailable`.

    Reads and changes of one entry are atomic, and so is a change together with the space's new version.
    """

    @property
    def kind(self) -> Literal["sqlite", "redis"]:
        """Which store this is."""

    @property
    def place(self) -> str:
        """Where it is, as a URL fit for logs: user name, password and options are left out."""

    async def get(self, space: str, key: str) -> bytes | None:
        """Return the entry's value, or None when there is no such entry."""

    async def put(self, space: str, key: str, value: bytes, *, at: int | None = None) -> bool:
        """Write the entry, replacing what was there.

        `at` makes it a check-then-write: only if the space still has this version is anything written. Returns whether
        it was written, so without `at` always True.
        """

    async def add(self, space: str, key: str, value: bytes) -> bool:
        """Write the entry only if it is absent. Of several processes that try at once exactly one gets True."""

    async def delete(self, space: str, key: str) -> bool:
        """Remove the entry. Returns whether there was one."""

    async def items(self, space: str) -> dict[str, bytes]:
        """Return all entries of the space, as they were at one moment."""

    async def count(self, space: str) -> int:
        """Return the number of entries in the space."""

    async def version(self, space: str) -> int:
        """Return a number that grows with every change in the space, made by any process; 0 before the first one.

        To keep a copy in step, read the version before the entries. A store that lost its data (a Redis without
        persistence restarted, another file put in place) shows 0 or a number never seen before, so a copy made before
        the loss never passes for current.
        """

    async def close(self) -> None:
        """Give connections and threads back. Later calls raise `StateUnavailable`; closing twice is fine."""


async def open_state(url: str, *, create: bool = True) -> State:
    """Open the store that `url` names (`sqlite:///absolute/path`, `redis://…` or `rediss://…`).

    Who only reads has no file made (`create`): a running gateway whose file was moved away would take an empty one for
    the one that it knows, with no key in it.

    Raises `StateUnavailable` if it cannot be used now, and its subclasses: `InvalidStateURL` if the URL is no such URL,
    `StateAbsent` if there is no file and none is to be made.
    """
    place = parse_place(url)
    if isinstance(place, SqlitePlace):  # imported only when needed: redis-py alone takes longer than many a command
        from herdgate.state.sqlite import SqliteState

        return await SqliteState.open(place, create=create)
    from herdgate.state.redis import RedisState

    return await RedisState.open(place)


__all__ = ["CALL_LIMIT", "State", "StateAbsent", "StateUnavailable", "open_state"]
