"""One hook of one gateway: who implements it, and what is made of an answer that is not at sight what it should be.

At start every hook is compiled to a frozen tuple of bound methods. Calling those directly, instead of through pluggy,
lets a fault be pinned on the plugin that caused it, lets coroutines be awaited one at a time, and makes a hook nobody
uses cost one comparison.

A request asks some twelve plugins, and nearly every answer is None or an object of an expected class, there at once. So
the loops over plugins (`hookpoints.py`) make the call themselves and look at the answer no longer than that; all else
comes here.

Faults catch `Exception`, never `CancelledError`: that one means that the client has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, NoReturn

from herdgate.faults import Ledger, PluginFault
from herdgate.hooks import INFO, HookInfo


def in_time(deadline: asyncio.Timeout) -> None:
    """Raise TimeoutError if a plugin answered after its deadline: it swallowed the cancellation that told it so."""
    if deadline.expired():
        raise TimeoutError("too late")


@dataclass(frozen=True, slots=True)
class Impl:
    """One plugin's implementation of one hook. `call` takes all of the hook's arguments, in the hook's order."""

    plugin: str
    call: Callable[..., Any]
    advisory: bool = False
    discloses: bool = False


class Point:
    """What all kinds have in common: the implementations and how one of them is asked."""

    __slots__ = ("_expects", "at_sight", "hook", "impls", "info", "ledger")

    def __init__(self, hook: str, impls: Sequence[Impl], ledger: Ledger) -> None:
        self.hook = hook
        self.impls = tuple(impls)
        self.info: HookInfo = INFO[hook]
        self.ledger = ledger
        self._expects = None if object in self.info.expects else self.info.expects
        # What needs no closer look; nothing if anything may be returned, an awaitable too, or items are to be checked.
        self.at_sight = self._expects if self._expects and self.info.items is object else ()

    def __bool__(self) -> bool:
        return bool(self.impls)

    def fault(self, impl: Impl, error: Exception, why: str = "") -> PluginFault:
        """Record what a plugin did, and make of it what is raised. `why` takes the place of the error's own words."""
        fault = PluginFault(impl.plugin, self.hook, why or f"{type(error).__name__}: {error}")
        fault.__cause__ = error
        self.ledger.record(fault)
        if impl.advisory or self.info.tolerant:
            self.ledger.quarantine.failed(self, impl.plugin, fault.why)
        return fault

    def checked(self, result: Any) -> Any:
        """An answer that is there, if it is one that the hook allows. Raises TypeError."""
        if result is None or self._expects is None:
            return result
        if not isinstance(result, self._expects):
            names = ", ".join(expected.__name__ for expected in self._expects)
            raise TypeError(f"returned {type(result).__name__}, but {self.hook} may return {names} or None")
        if self.info.items is not object:
            self._check_items(result)
        return result

    def _check_items(self, result: Any) -> None:
        wanted = self.info.items
        for item in result:
            if not isinstance(item, wanted):
                raise TypeError(f"returned {type(item).__name__} among its {wanted.__name__} objects")

    def failed(self, impl: Impl, error: Exception) -> NoReturn:
        """Raise what comes of an exception of a plugin: itself where the hook allows it, or else PluginFault."""
        if isinstance(error, self.info.raises):
            raise error
        raise self.fault(impl, error) from error

    def ask(self, impl: Impl, args: tuple[Any, ...]) -> Any:
        """The answer of one plugin to a sync hook that is not a part of every request. Raises PluginFault."""
        try:
            return self.checked(impl.call(*args))
        except Exception as error:
            self.failed(impl, error)

    async def settle(self, impl: Impl, answer: Any, until: float) -> Any:
        """Wait for an answer that is an awaitable, until this time on the loop's clock at most, and check it.

        A plain `def` may return an awaitable, too: one that can nearly always answer at once thus costs no timer.
        Raises PluginFault.
        """
        deadline = asyncio.timeout_at(until)
        try:
            if isawaitable(answer):
                async with deadline:
                    answer = await answer
                in_time(deadline)
            return self.checked(answer)
        except self.info.raises:
            raise
        except Exception as error:
            late = f"no answer within {self.info.deadline:g} s" if deadline.expired() else ""
            raise self.fault(impl, error, late) from error

    def deadline(self) -> float:
        """When a phase that begins to wait now must be over, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.info.deadline
