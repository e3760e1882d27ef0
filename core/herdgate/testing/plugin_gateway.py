"""A real gateway with the plugin of a test in it, given as a class: nothing to install, no plugins.toml to write."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from herdgate.config import PluginEntry, Settings, builtin_plugins
from herdgate.plugins import Plugin, load_plugins
from herdgate.pluginsource import Found, Sources, name_of_class
from herdgate.server import Gateway
from herdgate.testing.decisions import Decisions
from herdgate.testing.gateway import RunningGateway, serving, settings_for
from herdgate.testing.simulated import SimulatedOllama


class PluginGateway(RunningGateway):
    """A gateway with a plugin under test: `plugin` is its instance, `backends` are the simulated servers behind it.

    `decisions` has all that plugins were asked, from the start on; `faults` counts what they did wrong, by plugin and
    hook.
    """

    def __init__(
        self,
        serving: tuple[Gateway, httpx.AsyncClient],
        plugin: Any,
        decisions: Decisions,
        backends: Sequence[SimulatedOllama],
    ) -> None:
        super().__init__(*serving)
        self.plugin = plugin
        self.decisions = decisions
        self.backends = tuple(backends)

    @property
    def faults(self) -> Mapping[tuple[str, str], int]:
        """The faults so far."""
        return dict(self.gateway.runtime.points.ledger.faults)

    async def chat(
        self, model: str = "llama3.2", *, stream: bool = False, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send one chat request."""
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        return await self.client.post("/api/chat", json=body, headers=headers)

    async def answered_by(self, model: str = "llama3.2", *, headers: Mapping[str, str] | None = None) -> str | None:
        """Which backend answers a chat request; None if it gets no answer."""
        reply = await self.chat(model, headers=headers)
        found = re.search(r"backend ([\w-]+)", reply.text) if reply.is_success else None
        return found[1] if found else None


@asynccontextmanager
async def gateway_with(
    plugin: type,
    *backends: SimulatedOllama,
    settings: Mapping[str, Any] | None = None,
    plugins: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> AsyncIterator[PluginGateway]:
    """Start a gateway with this plugin class, in front of these backends; without any, of two new ones, `first` and
    `second`, which both have llama3.2.

    `settings` are what the entry in plugins.toml would say. `plugins` are the entry points that run, in order; in the
    place of the class in snake_case runs the plugin, at the end if that is not among them. By default these are the
    built-in plugins. `extra` are further arguments for the constructor, a `FakeClock` for instance.
    """
    decisions, sources = Decisions(), _WithClass(plugin, extra or {})
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not backends:
            backends = (SimulatedOllama("first"), SimulatedOllama("second"))
            for backend in backends:
                await stack.enter_async_context(backend)
        read = settings_for(backends, {}, place)
        listed = _listed(read, plugins, PluginEntry(sources.name, settings or {}, origin="the test"))
        gateway = _Gateway(replace(read, plugins=listed), sources, decisions)
        served = await stack.enter_async_context(serving(gateway))
        instance = next(each.instance for each in gateway.runtime.points.plugins if each.name == sources.name)
        yield PluginGateway(served, instance, decisions, backends)


def built_in() -> list[str]:
    """The entry points of the built-in list, in order."""
    return [entry.use for entry in builtin_plugins()]


def _listed(settings: Settings, chosen: Sequence[str] | None, under_test: PluginEntry) -> tuple[PluginEntry, ...]:
    """The entries of plugins.toml, the one of the plugin under test in its place."""
    builtin = {entry.use: entry for entry in settings.plugins}
    uses = list(builtin if chosen is None else chosen)
    if under_test.use not in uses:
        uses.append(under_test.use)
    entries = {**{use: PluginEntry(use, {}, origin="the test") for use in uses}, **builtin, under_test.use: under_test}
    return tuple(entries[use] for use in uses)


class _WithClass(Sources):
    """Knows what is installed, and the class under test."""

    def __init__(self, cls: type, extra: Mapping[str, Any]) -> None:
        super().__init__()
        self.name = name_of_class(cls.__name__)
        self._cls = with_arguments(cls, extra)

    def find(self, use: str) -> Found:
        return Found(use, self._cls, self._cls.__module__) if use == self.name else super().find(use)


def with_arguments(cls: type, extra: Mapping[str, Any]) -> type:
    """The class, whose constructor gets these arguments as well."""
    if not extra:
        return cls

    constructor: Any = cls.__init__  # type: ignore[misc]

    def construct(self: Any, *settings: Any) -> None:
        constructor(self, *settings, **extra)

    names = {"__init__": construct, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), names)


class _Gateway(Gateway):
    def __init__(self, settings: Settings, sources: Sources, decisions: Decisions) -> None:
        super().__init__(settings)
        self._sources = sources
        self._decisions = decisions

    def _load(self, settings: Settings, sources: Sources) -> tuple[Plugin, ...]:  # noqa: ARG002 - has its own
        return tuple(map(self._decisions.recorded, load_plugins(settings.plugins, self._sources)))
