"""Tasks that nobody owns are ended with the gateway, and their plugin is named."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from herdgate import leaks
from herdgate.config import PluginEntry
from herdgate.leaks import Leaks
from herdgate.plugincode import PluginCode
from herdgate.plugins import load_plugins

FILE = """
import asyncio
from herdgate import hookimpl

class Forgetful:
    herdgate_api = 1

    @hookimpl
    def exchange_ended(self, summary):
        pass

    async def never(self):
        await asyncio.Event().wait()

    async def stubborn(self):
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if self.may_end:
                    return
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    (tmp_path / "forgetful.py").write_text(FILE)
    return load_plugins([PluginEntry(f"{tmp_path}/forgetful.py:Forgetful", {}, "plugins.toml:1")])[0]


async def test_only_tasks_of_plugins_that_were_not_there_before_are_ended(plugin: Any) -> None:
    before = asyncio.create_task(plugin.instance.never())
    found = Leaks(PluginCode([plugin]))
    leaked = asyncio.create_task(plugin.instance.never())
    foreign = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    await found.end()
    assert (before.done(), leaked.cancelled(), foreign.done()) == (False, True, False)
    for task in (before, foreign):
        task.cancel()


async def test_a_task_that_will_not_end_is_named_and_left(
    plugin: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaks, "STUBBORN", 0.05)
    plugin.instance.may_end = False
    found = Leaks(PluginCode([plugin]))
    task = asyncio.create_task(plugin.instance.stubborn())
    await asyncio.sleep(0)
    await found.end()
    assert "of plugin forgetful does not end although it was cancelled" in caplog.text
    plugin.instance.may_end = True
    task.cancel()
    await task
