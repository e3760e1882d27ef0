"""What stands in for a state that cannot be opened, for commands that can do without."""

from __future__ import annotations

from typing import Literal, NoReturn

from herdgate.state import State, StateUnavailable, open_state
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


async def state_or_stand_in(url: str) -> State:
    """The state, or what stands in for it."""
    try:
        return await open_state(url)
    except StateUnavailable as error:
        return NoState(url, error)
