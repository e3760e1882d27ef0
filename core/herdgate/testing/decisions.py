"""What the plugins of a gateway were asked, and what they answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from typing import Any

from herdgate.hooks import signature_of
from herdgate.plugins import Plugin
from herdgate.point import Impl


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer of one plugin. `arguments` are those that the hook offers, by name."""

    plugin: str
    hook: str
    arguments: Mapping[str, Any] = field(repr=False)
    answer: Any


class Decisions:
    """Records every answer, in the order in which they were given. What raises is no answer; it is in the log."""

    def __init__(self) -> None:
        self.all: list[Decision] = []

    def of(self, hook: str, plugin: str | None = None) -> list[Decision]:
        """The answers to one hook, of all plugins or of one."""
        return [each for each in self.all if each.hook == hook and plugin in {None, each.plugin}]

    def of_plugin(self, plugin: str) -> list[Decision]:
        """All answers of one plugin."""
        return [each for each in self.all if each.plugin == plugin]

    def recorded(self, plugin: Plugin) -> Plugin:
        """The same plugin, whose answers are recorded from now on."""
        impls = {hook: self._recorded(hook, impl) for hook, impl in plugin.impls.items()}
        return replace(plugin, impls=impls)

    def _recorded(self, hook: str, impl: Impl) -> Impl:
        names = signature_of(hook)
        call: Callable[..., Any] = impl.call

        def note(args: tuple[Any, ...], answer: Any) -> Any:
            self.all.append(Decision(impl.plugin, hook, dict(zip(names, args, strict=True)), answer))
            return answer

        async def later(args: tuple[Any, ...], answer: Awaitable[Any]) -> Any:
            return note(args, await answer)

        def asked(*args: Any) -> Any:
            answer = call(*args)
            return later(args, answer) if isawaitable(answer) else note(args, answer)

        return replace(impl, call=asked)
