"""What one request has taken and gives back at its end, in reverse order, whatever happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Self

Undo = Callable[[], Awaitable[object] | None]
"""Gives one thing back; what it returns is awaited, unless that is None."""


class Scope(list[Undo]):
    """A stack of things to be undone. `contextlib.AsyncExitStack` does more, at several times the price.

    A list itself, so that neither making one nor asking whether there is anything to undo runs any code of its own.
    """

    __slots__ = ()

    push = list.append
    """Have this called by `close`, before everything that was pushed earlier."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Undo everything. No exception keeps the rest from being undone; the first one is raised at last."""
        problem: BaseException | None = None
        while self:
            try:
                if (undoing := self.pop()()) is not None:
                    await undoing
            except BaseException as error:
                problem = problem or error
        if problem is not None:
            raise problem
