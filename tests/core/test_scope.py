"""What was taken is given back, in reverse order, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from herdgate.scope import Scope


def noting(diary: list[str], word: str, error: BaseException | None = None) -> Callable[[], Awaitable[None]]:
    async def undo() -> None:
        diary.append(word)
        if error is not None:
            raise error

    return undo


async def test_the_last_thing_taken_is_given_back_first() -> None:
    diary: list[str] = []
    async with Scope() as scope:
        scope.push(noting(diary, "a"))
        scope.push(noting(diary, "b"))
        assert diary == []
    assert diary == ["b", "a"]


async def test_an_error_keeps_nothing_from_being_given_back_and_the_first_one_is_raised() -> None:
    diary: list[str] = []
    scope = Scope()
    scope.push(noting(diary, "a"))
    scope.push(noting(diary, "b", ValueError("second")))
    scope.push(noting(diary, "c", asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await scope.close()
    assert diary == ["c", "b", "a"]


async def test_a_scope_is_true_while_it_holds_something() -> None:
    scope = Scope()
    assert not scope
    scope.push(noting([], "a"))
    assert scope
    await scope.close()
    assert not scope


async def test_nothing_is_given_back_twice() -> None:
    diary: list[str] = []
    scope = Scope()
    scope.push(noting(diary, "a"))
    await scope.close()
    await scope.close()
    assert diary == ["a"]


async def test_what_needs_no_waiting_takes_its_turn_too() -> None:
    diary: list[str] = []

    def undo(word: str, error: Exception | None = None) -> None:
        diary.append(word)
        if error is not None:
            raise error

    scope = Scope()
    scope.push(lambda: undo("a"))
    scope.push(noting(diary, "b"))
    scope.push(lambda: undo("c", ValueError("first")))
    with pytest.raises(ValueError, match="first"):
        await scope.close()
    assert diary == ["c", "b", "a"]
