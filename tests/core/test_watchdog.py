"""The watchdog names the plugin whose code keeps the event loop from going on."""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from herdgate import watchdog
from herdgate.config import PluginEntry
from herdgate.faults import Ledger
from herdgate.plugincode import PluginCode
from herdgate.plugins import Plugin, load_plugins
from herdgate.testing.gateway import until
from herdgate.watchdog import Watchdog

FILE = """
import time
from herdgate import hookimpl

def helper(seconds):
    time.sleep(seconds)

class Slow:
    herdgate_api = 1

    @hookimpl
    def exchange_ended(self, summary):
        helper(summary)

class Other:
    herdgate_api = 1

    @hookimpl
    def exchange_ended(self, summary):
        time.sleep(summary)
"""
STANDSTILL = 0.4
"""Far above the limits below, so that a busy machine does not change what is seen."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"BEAT": 0.01, "LATE": 0.05, "LOOK": 0.02}.items():
        monkeypatch.setattr(watchdog, name, seconds)


def watching(plugins: tuple[Plugin, ...]) -> Watchdog:
    return Watchdog(PluginCode(plugins), Ledger())


@pytest.fixture
def plugins(tmp_path: Path) -> tuple[Plugin, ...]:
    (tmp_path / "slow.py").write_text(FILE)
    return load_plugins([PluginEntry(f"{tmp_path}/slow.py:{name}", {}, "plugins.toml:1") for name in ("Slow", "Other")])


async def test_the_plugin_is_named_while_it_blocks_and_again_afterwards(
    plugins: tuple[Plugin, ...], caplog: pytest.LogCaptureFixture
) -> None:
    named_by: list[float] = []

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            named_by.append(record.created)

    handler = Noted()
    watchdog.log.addHandler(handler)
    try:
        with watching(plugins) as dog:
            await asyncio.sleep(0)
            plugins[0].impls["exchange_ended"].call(STANDSTILL)
            ended = time.time()
            await until(lambda: "stood still for" in caplog.text)
    finally:
        watchdog.log.removeHandler(handler)
    first, last = caplog.messages
    # Which line, and in which file: those of the helper; which method: the one that the gateway called.
    assert re.fullmatch(r"the event loop stands still.*: plugin slow, in exchange_ended \(.*slow\.py, line 6\)", first)
    assert re.match(r"the event loop stood still for [01]\.\d s: plugin slow,", last)
    assert named_by[0] < ended
    assert dog._ledger.blocked.keys() == {"slow"}
    assert dog._ledger.blocked["slow"] == pytest.approx(STANDSTILL, abs=0.5)


async def test_of_two_plugins_in_one_file_the_right_one_is_named(
    plugins: tuple[Plugin, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with watching(plugins):
        plugins[1].impls["exchange_ended"].call(STANDSTILL)
        await until(lambda: "stood still for" in caplog.text)
    assert "plugin other, in exchange_ended" in caplog.text
    assert "slow," not in caplog.text


async def test_what_is_no_plugins_code_is_called_so(
    plugins: tuple[Plugin, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with watching(plugins) as dog:
        time.sleep(STANDSTILL)  # noqa: ASYNC251 - that is what is to be found out
        await until(lambda: "stood still for" in caplog.text)
    assert "no plugin, but the gateway or a library, in test_what_is_no" in caplog.text
    assert dog._ledger.blocked.keys() == {None}


async def test_what_another_configuration_blocks_is_named_by_its_own_watchdog_alone(
    plugins: tuple[Plugin, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """While one is prepared beside the one that serves, or one that was replaced ends."""
    before, after = PluginCode(()), PluginCode(plugins)
    with (
        Watchdog(before, Ledger(), others=[before, after]) as old,
        Watchdog(after, Ledger(), others=[before, after]) as new,
    ):
        await asyncio.sleep(0)
        plugins[0].impls["exchange_ended"].call(STANDSTILL)
        await until(lambda: "stood still for" in caplog.text)
    assert old._ledger.blocked.keys() == set()
    assert new._ledger.blocked.keys() == {"slow"}
    assert "no plugin" not in caplog.text


async def test_a_loop_that_only_waits_stands_accused_of_nothing(
    plugins: tuple[Plugin, ...], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that is too slow to run it in time: the note is old, but the loop waits for work."""
    looked: list[object] = []
    with watching(plugins) as dog:
        look = dog._look

        def noted() -> object:
            looked.append(found := look())
            return found

        monkeypatch.setattr(dog, "_look", noted)
        monkeypatch.setattr(watchdog, "BEAT", 3600.0)
        await asyncio.sleep(0.05)  # the beat that is already on its way
        dog._beat_at -= 7200.0
        await until(lambda: len(looked) > 3)
    assert set(looked) == {None}
    assert caplog.messages == []


async def test_a_standstill_that_no_thread_could_watch_is_told_by_the_loop_itself(
    plugins: tuple[Plugin, ...], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "LOOK", 3600.0)
    with watching(plugins):
        time.sleep(STANDSTILL)  # noqa: ASYNC251
        await until(lambda: bool(caplog.messages))
    assert "no thread could see why" in caplog.text


async def test_nothing_is_left_of_it(plugins: tuple[Plugin, ...]) -> None:
    with watching(plugins) as dog:
        pass
    assert not dog._thread.is_alive()
    assert dog._timer is not None
    assert dog._timer.cancelled()


# whose code it is


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An importable package with a plugin in one module and more of its code in another."""
    folder = tmp_path / "acme_routing"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "work.py").write_text("def work():\n    pass\n")
    (folder / "plugin.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("acme_routing.work").work
    for name in [name for name in sys.modules if name.startswith("acme_routing")]:
        del sys.modules[name]


def test_the_rest_of_a_package_belongs_to_its_plugins(package: ModuleType) -> None:
    entry = PluginEntry("acme_routing.plugin:Slow", {}, "plugins.toml:1")
    code = PluginCode(load_plugins([entry]))
    work: Callable[[], None] = package.work
    assert code.owners(work.__code__) == {"slow"}
    assert not code.owners(until.__code__)
    assert not code.owners(load_plugins.__code__)
