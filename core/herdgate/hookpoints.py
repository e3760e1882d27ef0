"""How each kind of hook is called, with its deadline, and what becomes of a fault.

At start every hook is compiled to a frozen tuple of bound methods. Calling those directly, instead of through pluggy,
lets a fault be pinned on the plugin that caused it, lets coroutines be awaited one at a time, and makes a hook nobody
uses cost one comparison.

Faults catch `Exception`, never `CancelledError`: that one means that the client has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, ParamSpec, TypeVar

from herdgate.access import Action, Allow, Deny, Identity, Refusal, Resource, Verdict, overall, spread
from herdgate.failure import Skip
from herdgate.hooks import INFO, HookInfo
from herdgate.scope import Scope

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("herdgate.plugins")


@dataclass(frozen=True, slots=True)
class Impl:
    """One plugin's implementation of one hook. `call` takes all of the hook's arguments, in the hook's order."""

    plugin: str
    call: Callable[..., Any]
    advisory: bool = False
    discloses: bool = False


class PluginFault(Exception):  # noqa: N818 - "fault" is the word of the contract
    """A plugin raised, answered something else than its hook allows, or outlasted its deadline."""

    def __init__(self, plugin: str, hook: str, why: str) -> None:
        super().__init__(f"plugin {plugin} failed in {hook}: {why}")
        self.plugin = plugin
        self.hook = hook
        self.why = why


class Ledger:
    """Counts the faults of plugins and writes them to the log."""

    def __init__(self) -> None:
        self.faults: Counter[tuple[str, str]] = Counter()

    def record(self, fault: PluginFault) -> None:
        """Count and log a fault, with the traceback that explains it."""
        self.faults[fault.plugin, fault.hook] += 1
        log.error("%s", fault, exc_info=fault.__cause__)


@dataclass(frozen=True, slots=True)
class _Pending:
    """An answer that must be waited for."""

    awaitable: Awaitable[Any]


class Point:
    """What all kinds have in common: the implementations and how one of them is asked."""

    __slots__ = ("_at_sight", "_expects", "hook", "impls", "info", "ledger")

    def __init__(self, hook: str, impls: Sequence[Impl], ledger: Ledger) -> None:
        self.hook = hook
        self.impls = tuple(impls)
        self.info: HookInfo = INFO[hook]
        self.ledger = ledger
        self._expects = None if object in self.info.expects else self.info.expects
        # What needs no closer look; nothing if anything may be returned, an awaitable too, or items are to be checked.
        self._at_sight = self._expects if self._expects and self.info.items is object else ()

    def __bool__(self) -> bool:
        return bool(self.impls)

    def _fault(self, impl: Impl, error: Exception, why: str = "") -> PluginFault:
        fault = PluginFault(impl.plugin, self.hook, why or f"{type(error).__name__}: {error}")
        fault.__cause__ = error
        self.ledger.record(fault)
        return fault

    def _checked(self, result: Any) -> Any:
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

    def _ask(self, impl: Impl, args: tuple[Any, ...]) -> Any:
        try:
            return self._checked(impl.call(*args))
        except self.info.raises:
            raise
        except Exception as error:
            raise self._fault(impl, error) from error

    def _begin(self, impl: Impl, args: tuple[Any, ...]) -> Any:
        """Like `_ask`, but what is to be awaited comes back as _Pending: a plain `def` may return an awaitable, too.

        A plugin that can nearly always answer at once thus costs no timer on the hot path.
        """
        try:
            result = impl.call(*args)
            if result is None or isinstance(result, self._at_sight):
                return result
            return _Pending(result) if isawaitable(result) else self._checked(result)
        except self.info.raises:
            raise
        except Exception as error:
            raise self._fault(impl, error) from error

    async def _settle(self, impl: Impl, pending: _Pending, until: float) -> Any:
        try:
            async with asyncio.timeout_at(until) as deadline:
                return self._checked(await pending.awaitable)
        except self.info.raises:
            raise
        except Exception as error:
            late = f"no answer within {self.info.deadline:g} s" if deadline.expired() else ""
            raise self._fault(impl, error, late) from error

    def _deadline(self) -> float:
        """When a phase that begins to wait now must be over, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.info.deadline


class First(Point, Generic[P, R]):
    """Plugins are asked in order until one answers. Sync."""

    __slots__ = ()

    def __call__(self, *args: P.args, **_: P.kwargs) -> R | None:
        """The first answer, None if nobody has one. Raises PluginFault."""
        for impl in self.impls:
            answer: R | None = self._ask(impl, args)
            if answer is not None:
                return answer
        return None


class FirstAsync(Point, Generic[P, R]):
    """Plugins are asked in order until one answers."""

    __slots__ = ()

    async def __call__(self, *args: P.args, **_: P.kwargs) -> R | None:
        """The first answer, None if nobody has one. Raises PluginFault."""
        until: float | None = None
        for impl in self.impls:
            answer = self._begin(impl, args)
            if answer.__class__ is _Pending:
                until = until or self._deadline()
                answer = await self._settle(impl, answer, until)
            if answer is not None:
                found: R = answer
                return found
        return None


class MaskDenial(Point):
    """First, but the reason reaches only those plugins that declare that they may disclose it."""

    __slots__ = ()

    def __call__(self, exchange: Any, family: Any, reason: str) -> Any:
        """The first reply, None if nobody makes one. Raises PluginFault."""
        for impl in self.impls:
            answer = self._ask(impl, (exchange, family, reason if impl.discloses else None))
            if answer is not None:
                return answer
        return None


class Chain(Point, Generic[R]):
    """Each plugin gets what the one before it returned, as its last argument. Sync or async.

    `check` gets what a plugin was given and what it returned, and raises if the one may not become the other.
    """

    __slots__ = ("check",)

    def __init__(
        self, hook: str, impls: Sequence[Impl], ledger: Ledger, check: Callable[[R, R], R] | None = None
    ) -> None:
        super().__init__(hook, impls, ledger)
        self.check = check

    async def __call__(self, *args: Any) -> R:
        """What the last plugin left. Raises PluginFault, unless the plugin is advisory."""
        value: R = args[-1]
        until: float | None = None
        for impl in self.impls:
            try:
                answer = self._begin(impl, (*args[:-1], value))
                if answer.__class__ is _Pending:
                    until = until or self._deadline()
                    answer = await self._settle(impl, answer, until)
                value = self._taken(impl, value, answer)
            except PluginFault:
                if not impl.advisory:
                    raise
        return value

    def sync(self, *args: Any) -> R:
        """The same for hooks whose implementations are all sync."""
        value: R = args[-1]
        for impl in self.impls:
            value = self._taken(impl, value, self._ask(impl, (*args[:-1], value)))
        return value

    def _taken(self, impl: Impl, value: R, answer: R | None) -> R:
        if answer is None:
            return value
        if self.check is None:
            return answer
        try:
            return self.check(value, answer)
        except Exception as error:
            raise self._fault(impl, error) from error


class Guard(Point):
    """Every plugin is asked about every resource; any Deny wins, no Allow is a Deny, and a fault is a Deny."""

    __slots__ = ()

    async def __call__(self, identity: Identity, action: Action, resources: Sequence[Resource]) -> list[Allow | Deny]:
        """One verdict per resource."""
        count = len(resources)
        said: list[list[tuple[str, Verdict]]] = [[] for _ in resources]
        until: float | None = None
        for impl in self.impls:
            try:
                answer = self._begin(impl, (identity, action, resources))
                if answer.__class__ is _Pending:
                    until = until or self._deadline()
                    answer = await self._settle(impl, answer, until)
                verdicts = self._spread(impl, answer, count)
            except PluginFault as fault:
                verdicts = [Deny(str(fault))] * count
            for heard, verdict in zip(said, verdicts, strict=True):
                heard.append((impl.plugin, verdict))
        return [overall(heard) for heard in said]

    def _spread(self, impl: Impl, answer: Any, count: int) -> list[Verdict]:
        try:
            return spread(answer, count)
        except TypeError as error:
            raise self._fault(impl, error) from error


class Contexts(Point):
    """Context managers, entered in order into the caller's scope, left in reverse whatever happened.

    A plugin's manager is always left without an exception, so that code after its `yield` runs in every case; what
    happened stands in the objects it was given.
    """

    __slots__ = ()

    async def enter(self, scope: Scope, *args: Any) -> Refusal | Skip | None:
        """Enter all of them. A Refusal or a Skip stops; what was entered before stays in `scope`.

        Raises PluginFault, unless the plugin declared itself advisory where its hook allows that.
        """
        until: float | None = None
        for impl in self.impls:
            try:
                answer = self._ask(impl, args)
                if isinstance(answer, Refusal | Skip):
                    return answer
                if answer is not None:
                    until = until or self._deadline()
                    await self._enter_one(scope, impl, answer, until)
            except PluginFault:
                if not impl.advisory:
                    raise
        return None

    async def _enter_one(
        self, scope: Scope, impl: Impl, manager: AbstractAsyncContextManager[None], until: float
    ) -> None:
        try:
            async with asyncio.timeout_at(until) as deadline:
                await manager.__aenter__()
        except self.info.raises:
            raise
        except Exception as error:
            late = f"not entered within {self.info.deadline:g} s" if deadline.expired() else ""
            raise self._fault(impl, error, late) from error
        scope.push(partial(self._leave, impl, manager))

    async def _leave(self, impl: Impl, manager: AbstractAsyncContextManager[None]) -> None:
        """Leave one within the deadline; its fault is recorded, and the others are still left."""
        limit = self.info.deadline
        try:
            async with asyncio.timeout(limit) as deadline:
                await manager.__aexit__(None, None, None)
        except Exception as error:
            self._fault(impl, error, f"not left within {limit:g} s" if deadline.expired() else "")


class Gather(Point, Generic[P, R]):
    """The answers of all plugins, put together; a plugin may return one or several. Sync."""

    __slots__ = ()

    def __call__(self, *args: P.args, **_: P.kwargs) -> list[tuple[str, R]]:
        """All answers, each with the name of its plugin. Raises PluginFault."""
        found: list[tuple[str, R]] = []
        for impl in self.impls:
            answer = self._ask(impl, args)
            several = answer if isinstance(answer, list | tuple) else [] if answer is None else [answer]
            found.extend((impl.plugin, one) for one in several)
        return found


class Notify(Point):
    """Every plugin is told. Faults are recorded; async implementations run in tasks that `spawn` owns."""

    __slots__ = ()

    def __call__(self, spawn: Callable[[Any], object], *args: Any) -> None:
        """Tell everybody; nothing is raised."""
        for impl in self.impls:
            with contextlib.suppress(PluginFault):  # recorded; nobody waits for an answer
                answer = self._begin(impl, args)
                if answer.__class__ is _Pending:
                    spawn(self._tell(impl, answer))

    async def _tell(self, impl: Impl, pending: _Pending) -> None:
        with contextlib.suppress(PluginFault):  # recorded; nobody waits for an answer
            await self._settle(impl, pending, self._deadline())
