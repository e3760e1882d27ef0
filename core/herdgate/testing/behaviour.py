"""The tests that every plugin should pass, in one line of an author's own tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from herdgate.pluginsource import name_of_class
from herdgate.startup import START_FAILURES
from herdgate.testing.behaviour_replay import replayed
from herdgate.testing.behaviour_requests import all_kinds_of_requests
from herdgate.testing.canary import Canary
from herdgate.testing.plugin_gateway import built_in, gateway_with
from herdgate.testing.simulated import SimulatedOllama


def assert_plugin_is_well_behaved(
    plugin: type, settings: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None
) -> None:
    """Put a plugin class to the tests that every plugin should pass; raise AssertionError with all that is wrong.

    A gateway with the plugin serves requests that are answered, denied, failed over, broken off, and left by their
    callers. Then each hook is asked again, with what it was given there. What is looked for: faults, selections that
    are no subset, answers that change what was given, a blocked event loop, swallowed cancellation, forgotten tasks,
    filters that depend on where the stream was cut, and secrets in logs, answers, or requests to backends.

    `settings` are what the entry in plugins.toml would say, `extra` further arguments for the constructor. It may be
    called inside a running event loop and outside of one.
    """
    problems: list[str] = []

    def run() -> None:
        problems.extend(asyncio.run(_problems(plugin, settings or {}, extra or {})))

    thread = threading.Thread(target=run, name="is it well behaved?")
    thread.start()
    thread.join()
    if problems:
        listed = "".join(f"\n- {problem}" for problem in dict.fromkeys(problems))
        raise AssertionError(f"{plugin.__name__} is not well behaved:{listed}")


async def _problems(plugin: type, settings: Mapping[str, Any], extra: Mapping[str, Any]) -> list[str]:
    canary = Canary()
    try:
        with canary.listening() as heard:
            found = await _in_a_gateway(plugin, settings, extra, canary)
    except START_FAILURES as error:
        return [f"no gateway starts with it: {error}"]
    return [*heard.complaints, *found, *heard.secrets]


async def _in_a_gateway(
    plugin: type, settings: Mapping[str, Any], extra: Mapping[str, Any], canary: Canary
) -> list[str]:
    name, listed = name_of_class(plugin.__name__), built_in()
    if name not in listed:
        listed.insert(0, name)  # where nobody answers in its place
    async with SimulatedOllama("first") as first, SimulatedOllama("second") as second:
        async with gateway_with(plugin, first, second, settings=settings, extra=extra, plugins=listed) as gateway:
            await all_kinds_of_requests(gateway, canary)
            problems = [] if gateway.faults else await replayed(gateway, name)
            problems += canary.kept_by(gateway.plugin)
            problems += canary.told_by(gateway.decisions.all, name)
        return problems + canary.sent_to(first) + canary.sent_to(second)
