"""Ask each hook of a plugin again, with what it was given before, and look closely at what it does."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from herdgate.hooks import INFO, Kind, signature_of
from herdgate.points import narrowed
from herdgate.testing.decisions import Decision
from herdgate.testing.plugin_gateway import PluginGateway

BLOCKS = 0.25
"""Seconds without an await that are too many."""
SLOW = 1.0
"""Seconds that a plugin should not need for an answer, where all of one phase have five together."""
STUBBORN = 0.5
"""Seconds that are too many to end in, once cancelled."""
EACH = 4
"""How many different calls of a hook are made again."""
STREAM = b'{"message":{"content":"one"},"done":false}\n{"message":{"content":"two"},"done":true}\n'
EVENTS = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\ndata: [DONE]\n\n'


async def replayed(gateway: PluginGateway, plugin: str) -> list[str]:
    """What is wrong, in words for the author of the plugin."""
    impls = next(each.impls for each in gateway.gateway.runtime.points.plugins if each.name == plugin)
    problems: list[str] = []
    for hook, impl in impls.items():
        made = gateway.decisions.of(hook, plugin)
        for decision in made[:: len(made) // EACH + 1]:
            found = await _Replay(hook, impl.call, decision).problems()
            if found:
                problems.extend(f"{hook}: {problem}" for problem in found)
                break
    return problems


class _Replay:
    """One call made again, in several ways."""

    def __init__(self, hook: str, call: Callable[..., Any], decision: Decision) -> None:
        self._hook = hook
        self._call = call
        self._arguments = [decision.arguments[name] for name in signature_of(hook)]
        self._given = decision.arguments

    async def problems(self) -> list[str]:
        found: list[str] = []
        try:
            found += await self._once_more()
            found += await self._cancelled()
            if self._hook == "select_candidates":
                found += await self._selections()
            if INFO[self._hook].kind is Kind.FILTERS:
                found += self._pieces()
        except INFO[self._hook].raises:
            pass  # it speaks of the backend, as it may
        except Exception as error:
            found.append(f"raises {type(error).__name__} when it is asked the same again: {error}")
        return found

    async def _once_more(self) -> list[str]:
        before = _facts(self._given)
        began = time.perf_counter()
        answer = self._call(*self._arguments)
        blocked = time.perf_counter() - began
        answer = _expected(self._hook, await _value(answer))
        took = time.perf_counter() - began
        if isinstance(answer, AbstractAsyncContextManager):
            async with answer:
                pass
        changed = [name for name, facts in _facts(self._given).items() if facts != before[name]]
        return [
            *([f"blocks the event loop for {blocked:.1f} s: do I/O in async def"] if blocked > BLOCKS else []),
            *([f"needs {took:.1f} s for an answer"] if took > SLOW and blocked <= BLOCKS else []),
            *(f"changes {name}, which is not its own" for name in changed),
        ]

    async def _cancelled(self) -> list[str]:
        """A caller that leaves while the plugin waits."""
        answer = self._call(*self._arguments)
        manager = answer if isinstance(answer, AbstractAsyncContextManager) else None
        waits: Awaitable[Any] | None = (
            manager.__aenter__() if manager else answer if inspect.isawaitable(answer) else None
        )
        if waits is None:
            return []
        task = asyncio.ensure_future(waits)
        await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.wait([task], timeout=STUBBORN)
        if not task.done():
            return ["goes on although it was cancelled: let CancelledError pass"]
        if asked and not task.cancelled() and task.exception() is None:
            return ["swallows CancelledError: let it pass, after cleaning up in finally"]
        if manager and not task.cancelled() and task.exception() is None:
            await manager.__aexit__(None, None, None)
        return []

    async def _selections(self) -> list[str]:
        exchange, candidates = self._arguments
        found = []
        for given in _variants(tuple(candidates)):
            answer = await _value(self._call(exchange, given))
            try:
                narrowed(given, answer if answer is not None else given)
            except (ValueError, TypeError) as error:
                found.append(f"answers to {len(given)} candidates with what is no selection of them: {error}")
        return found

    def _pieces(self) -> list[str]:
        _, head = self._arguments
        body = {"text/event-stream": EVENTS, "application/json": STREAM.splitlines()[0]}.get(head.content_type, STREAM)
        whole, bytewise = (self._filtered(pieces) for pieces in ([body], [bytes([byte]) for byte in body]))
        return [] if whole == bytewise else ["its filter depends on where the stream was cut: boundaries mean nothing"]

    def _filtered(self, pieces: list[bytes]) -> bytes | None:
        each = self._call(*self._arguments)
        return None if each is None else b"".join([*map(each.feed, pieces), each.finish()])


async def _value(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


def _expected(hook: str, answer: Any) -> Any:
    expects = INFO[hook].expects
    if answer is not None and not isinstance(answer, expects):
        raise TypeError(f"it returned {type(answer).__name__}")
    return answer


def _variants(candidates: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield ()
    for length in range(1, len(candidates) + 1):
        yield candidates[:length]
        yield candidates[:length][::-1]


def _facts(arguments: Any) -> dict[str, str]:
    """What is known of each argument, as text; what plugins may leave each other is left out."""
    return {name: _fact(value) for name, value in arguments.items()}


def _fact(value: Any) -> str:
    names = [*getattr(value, "__slots__", ()), *getattr(value, "__dict__", ())]
    known = {name: repr(getattr(value, name, None)) for name in names if name not in {"notes", "_headers"}}
    return f"{value!r} {known}"
