"""How the answers of several plugins to one hook make one, for each kind of hook."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, ParamSpec, TypeVar

from herdgate.access import NOBODY, Action, Allow, Deny, Identity, Refusal, Resource, Verdict, overall, spread
from herdgate.failure import Skip
from herdgate.faults import Ledger, PluginFault
from herdgate.hooks import LEAVE_DEADLINE
from herdgate.point import Impl, Point, in_time
from herdgate.scope import Scope

P = ParamSpec("P")
R = TypeVar("R")


class First(Point, Generic[P, R]):
    """Plugins are asked in order until one answers. Sync."""

    __slots__ = ()

    def __call__(self, *args: P.args, **_: P.kwargs) -> R | None:
        """The first answer, None if nobody has one. Raises PluginFault."""
        for impl in self.impls:
            try:
                answer = impl.call(*args)
                if answer is not None:
                    found: R = self.checked(answer)
                    return found
            except Exception as error:
                self.failed(impl, error)
        return None


class FirstAsync(Point, Generic[P, R]):
    """Plugins are asked in order until one answers."""

    __slots__ = ()

    async def __call__(self, *args: P.args, **_: P.kwargs) -> R | None:
        """The first answer, None if nobody has one. Raises PluginFault."""
        until: float | None = None
        for impl in self.impls:
            try:
                answer: R | None = impl.call(*args)
                if answer is None:
                    continue
                if isinstance(answer, self.at_sight):
                    return answer
            except Exception as error:
                self.failed(impl, error)
            until = until or self.deadline()
            answer = await self.settle(impl, answer, until)
            if answer is not None:
                return answer
        return None


class MaskDenial(Point):
    """First, but the reason reaches only those plugins that declare that they may disclose it."""

    __slots__ = ()

    def __call__(self, exchange: Any, family: Any, reason: str) -> Any:
        """The first reply, None if nobody makes one. Raises PluginFault."""
        for impl in self.impls:
            answer = self.ask(impl, (exchange, family, reason if impl.discloses else None))
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
        until: float | None = None
        for impl in self.impls:
            try:
                try:
                    answer = impl.call(*args)
                    if answer is None:
                        continue
                    plain = isinstance(answer, self.at_sight)
                except Exception as error:
                    self.failed(impl, error)
                if not plain:
                    until = until or self.deadline()
                    answer = await self.settle(impl, answer, until)
                args = self._taken(impl, args, answer)
            except PluginFault:
                if not impl.advisory:
                    raise
        value: R = args[-1]
        return value

    def sync(self, *args: Any) -> R:
        """The same for hooks whose implementations are all sync."""
        for impl in self.impls:
            args = self._taken(impl, args, self.ask(impl, args))
        value: R = args[-1]
        return value

    def _taken(self, impl: Impl, args: tuple[Any, ...], answer: R | None) -> tuple[Any, ...]:
        """What the next plugin is given."""
        if answer is None:
            return args
        if self.check is None:
            return (*args[:-1], answer)
        try:
            return (*args[:-1], self.check(args[-1], answer))
        except Exception as error:
            raise self.fault(impl, error) from error


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
                try:
                    answer = impl.call(identity, action, resources)
                    plain = isinstance(answer, self.at_sight)
                except Exception as error:
                    self.failed(impl, error)
                if not plain and answer is not None:
                    until = until or self.deadline()
                    answer = await self.settle(impl, answer, until)
                verdicts = self._spread(impl, answer, count)
            except PluginFault as fault:
                verdicts = [Deny(str(fault))] * count
            for heard, verdict in zip(said, verdicts, strict=True):
                heard.append((impl.plugin, verdict))
        return [overall(heard) for heard in said]

    async def denial(self, identity: Identity, action: Action, resource: Resource) -> Deny | None:
        """Why a caller may not do this with one resource; None if it may.

        What a list of one would give, without the lists: nearly every request asks this.
        """
        allowed = False
        denied: Deny | None = None
        resources = (resource,)
        until: float | None = None
        for impl in self.impls:
            try:
                try:
                    answer = impl.call(identity, action, resources)
                    verdict = answer[0] if answer.__class__ is list and len(answer) == 1 else answer
                    if verdict is None:
                        continue
                    if isinstance(verdict, Allow):
                        allowed = True
                        continue
                    plain = isinstance(answer, self.at_sight)
                except Exception as error:
                    self.failed(impl, error)
                if not plain:
                    until = until or self.deadline()
                    answer = await self.settle(impl, answer, until)
                (verdict,) = self._spread(impl, answer, 1)
            except PluginFault as fault:
                verdict = Deny(str(fault))
            allowed = allowed or isinstance(verdict, Allow)
            if denied is None and isinstance(verdict, Deny):
                denied = Deny(f"{impl.plugin}: {verdict.reason}")
        return denied or (None if allowed else NOBODY)

    def _spread(self, impl: Impl, answer: Any, count: int) -> list[Verdict]:
        try:
            return spread(answer, count)
        except TypeError as error:
            raise self.fault(impl, error) from error


class Contexts(Point):
    """Context managers, entered in order into the caller's scope, left in reverse whatever happened.

    A plugin's manager is always left without an exception, so that code after its `yield` runs in every case; what
    happened stands in the objects it was given.
    """

    __slots__ = ()

    async def enter(self, scope: Scope, *args: Any) -> Refusal | Skip | None:
        """Enter all of them. A Refusal or a Skip, returned or yielded, stops; what was entered stays in `scope`.

        Raises PluginFault, unless the plugin declared itself advisory where its hook allows that.
        """
        until: float | None = None
        for impl in self.impls:
            try:
                try:
                    answer = impl.call(*args)
                    if answer is None:
                        continue
                    # Without a deadline, which costs more than all the rest: it never waits.
                    plain = hasattr(answer, "__exit__") and not hasattr(answer, "__aenter__")
                    if plain:
                        said = answer.__enter__()
                        scope.push(partial(self._leave_plain, impl, answer))
                except Exception as error:
                    self.failed(impl, error)
                if not plain:
                    until = until or self.deadline()
                    said = await self._enter_other(scope, impl, answer, until)
                if said is not None and self._stops(impl, said):
                    stop: Refusal | Skip = said
                    return stop
            except PluginFault:
                if not impl.advisory:
                    raise
        return None

    async def _enter_other(self, scope: Scope, impl: Impl, answer: Any, until: float) -> Any:
        """Enter a manager that may wait, and return what it yields; what is no manager is an answer in place of one."""
        deadline = asyncio.timeout_at(until)
        try:
            self.checked(answer)
            if isinstance(answer, Refusal | Skip):
                return answer
            async with deadline:
                said = await answer.__aenter__()
            scope.push(partial(self._leave, impl, answer))  # late or not
            in_time(deadline)
        except self.info.raises:
            raise
        except Exception as error:
            late = f"not entered within {self.info.deadline:g} s" if deadline.expired() else ""
            raise self.fault(impl, error, late) from error
        return said

    def _stops(self, impl: Impl, said: object) -> bool:
        """Whether a plugin wants the others not to be entered. A manager may well yield itself, or anything else."""
        if not isinstance(said, Refusal | Skip):
            return False
        if not isinstance(said, self.info.expects):
            raise self.fault(impl, TypeError(f"yielded a {type(said).__name__}, which {self.hook} does not offer"))
        return True

    def _leave_plain(self, impl: Impl, manager: AbstractContextManager[Any]) -> None:
        try:
            manager.__exit__(None, None, None)
        except Exception as error:
            self.fault(impl, error)

    async def _leave(self, impl: Impl, manager: AbstractAsyncContextManager[Any]) -> None:
        """Leave one within the deadline; its fault is recorded, and the others are still left."""
        limit = min(self.info.deadline, LEAVE_DEADLINE)
        try:
            async with asyncio.timeout(limit) as deadline:
                await manager.__aexit__(None, None, None)
            in_time(deadline)
        except Exception as error:
            self.fault(impl, error, f"not left within {limit:g} s" if deadline.expired() else "")


class Gather(Point, Generic[P, R]):
    """The answers of all plugins, put together; a plugin may return one or several. Sync."""

    __slots__ = ()

    def __call__(self, *args: P.args, **_: P.kwargs) -> list[tuple[str, R]]:
        """All answers, each with the name of its plugin. Raises PluginFault."""
        found: list[tuple[str, R]] = []
        for impl in self.impls:
            answer = self.ask(impl, args)
            several = answer if isinstance(answer, list | tuple) else [] if answer is None else [answer]
            found.extend((impl.plugin, one) for one in several)
        return found


class Collect(Gather[P, R]):
    """The same without those whose plugin fails: their faults are recorded, and nobody else is held up."""

    __slots__ = ()

    def __call__(self, *args: P.args, **_: P.kwargs) -> list[tuple[str, R]]:
        """The answers of the plugins that have one."""
        found: list[tuple[str, R]] = []
        for impl in self.impls:
            with contextlib.suppress(PluginFault):  # recorded
                found.extend((impl.plugin, one) for one in self.ask(impl, args) or ())
        return found


class Notify(Point):
    """Every plugin is told. Faults are recorded; async implementations run in tasks that `spawn` owns."""

    __slots__ = ()

    def __call__(self, spawn: Callable[[Any], object], *args: Any) -> None:
        """Tell everybody; nothing is raised."""
        for impl in self.impls:
            try:
                answer = impl.call(*args)
                if answer is None or not isawaitable(answer):
                    continue
            except Exception as error:
                self.fault(impl, error)  # recorded; nobody waits for an answer
            else:
                spawn(self._tell(impl, answer))

    async def _tell(self, impl: Impl, answer: Awaitable[object]) -> None:
        with contextlib.suppress(PluginFault):  # recorded; nobody waits for an answer
            await self.settle(impl, answer, self.deadline())
