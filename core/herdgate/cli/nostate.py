"""What stands in for a state that cannot be opened or is not there yet, for commands that can do without."""

from __future__ import annotations

from typing import Literal, NoReturn

from herdgate.state import State, StateAbsent, StateUnavailable, open_state
from herdgate.state.place import RedisPlace, parse_place


class NoState:
    """A `State` whose every call says why there is none."""

    def __init__(self, url: str, why: StateUnavailable) -> None:
        place = parse_place(url)
        self.kind: Literal["sqlite", "redis"] = "redis" if isinstance(place, RedisPlace) else "sqlite"
        self.place = str(place)
        self._why = str(why)

    def _refuse(self) -> NoReturn:
        raise StateUnavailable(self._why)

    async def get(self, space: str, key: str) -> bytes | None:  # noqa: ARG002
        """Raise StateUnavailable."""
        self._refuse()

    async def put(self, space: str, key: str, value: bytes, *, at: int | None = None) -> bool:  # noqa: ARG002
        """Raise StateUnavailable."""
        self._refuse()

    async def add(self, space: str, key: str, value: bytes) -> bool:  # noqa: ARG002
        """Raise StateUnavailable."""
        self._refuse()

    async def delete(self, space: str, key: str) -> bool:  # noqa: ARG002
        """Raise StateUnavailable."""
        self._refuse()

    async def items(self, space: str) -> dict[str, bytes]:  # noqa: ARG002
        """Raise StateUnavailable."""
        self._refuse()

    async def count(self, space: str) -> int:  # noqa: ARG002
        """Raise StateUnavailable."""
        self._refuse()

    async def version(self, space: str) -> int:  # noqa: ARG002
        """Raise StateUnavailable."""
        self._refuse()

    async def close(self) -> None:
        """Nothing is open."""


class NothingYet(NoState):
    """A `State` without an entry that takes none: a command that only looks makes no file."""

    async def get(self, space: str, key: str) -> bytes | None:  # noqa: ARG002
        """None."""
        return None

    async def items(self, space: str) -> dict[str, bytes]:  # noqa: ARG002
        """None."""
        return {}

    async def count(self, space: str) -> int:  # noqa: ARG002
        """0."""
        return 0

    async def version(self, space: str) -> int:  # noqa: ARG002
        """0, as before the first change."""
        return 0


async def state_or_stand_in(url: str) -> State:
    """The state, or what stands in for it."""
    try:
        return await open_state(url, create=False)
    except StateAbsent as error:
        return NothingYet(url, error)
    except StateUnavailable as error:
        return NoState(url, error)
