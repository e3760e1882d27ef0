"""Which backends there are: what the plugins' sources say, put together."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence

from herdgate.backend import BackendSettings
from herdgate.faults import PluginFault
from herdgate.hooks import POLL_DEADLINE, BackendSource


async def list_backends(sources: Sequence[tuple[str, BackendSource]]) -> list[BackendSettings]:
    """All sources' backends that are enabled, in order; of two with one name the first stays.

    `sources` come with the names of their plugins. Raises PluginFault.
    """
    listed: dict[str, BackendSettings] = {}
    for plugin, source in sources:
        try:
            for settings in await _listed_by(source):
                listed.setdefault(settings.name, settings)
        except Exception as error:
            late = f"no list of backends within {POLL_DEADLINE:g} s" if isinstance(error, TimeoutError) else ""
            raise PluginFault(plugin, "backend_sources", late or f"{type(error).__name__}: {error}") from error
    return [settings for settings in listed.values() if settings.enabled]


async def _listed_by(source: BackendSource) -> Sequence[BackendSettings]:
    answer = source.list()
    if inspect.isawaitable(answer):
        async with asyncio.timeout(POLL_DEADLINE):
            answer = await answer
    backends = list(answer)
    for settings in backends:
        if not isinstance(settings, BackendSettings):
            raise TypeError(f"its source listed {type(settings).__name__}, not BackendSettings")
    return backends
