"""What one request has taken and gives back at its end, in reverse order, whatever happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self


class Scope:
    """A stack of things to be undone. `contextlib.AsyncExitStack` does more, at several times the price."""

    __slots__ = ("_undo",)

    def __init__(self) -> None:
        self._undo: list[Callable[[], Awaitable[object]]] = []

    def push(self, undo: Callable[[], Awaitable[object]]) -> None:
        """Have this called by `close`, before everything that was pushed earlier."""
        self._undo.append(undo)

    def __bool__(self) -> bool:
        return bool(self._undo)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Undo everything. No exception keeps the rest from being undone; the first one is raised at last."""
        problem: BaseException | None = None
        while self._undo:
            try:
                await self._undo.pop()()
            except BaseException as error:
                problem = problem or error
        if problem is not None:
            raise problem
