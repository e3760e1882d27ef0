"""What becomes of a plugin that fails: it is named, counted and written to the log."""

from __future__ import annotations

import logging
import sysconfig
import traceback
from collections import Counter, defaultdict
from pathlib import Path

from herdgate.quarantine import Quarantine

log = logging.getLogger("herdgate.plugins")


class PluginFault(Exception):  # noqa: N818 - "fault" is the word of the contract
    """A plugin raised, answered something else than its hook allows, or outlasted its deadline."""

    def __init__(self, plugin: str, hook: str, why: str) -> None:
        super().__init__(f"plugin {plugin} failed in {hook}: {why}")
        self.plugin = plugin
        self.hook = hook
        self.why = why


class Ledger:
    """What plugins of one process did wrong.

    `faults` are counted by plugin and hook. `blocked` holds the seconds for which each plugin kept the event loop from
    going on; None is for code that is no plugin's. `quarantine` knows who is left out. While `quiet` is set, only
    debugging sees faults: whoever starts the plugins tells what went wrong, and where, in one message.
    """

    def __init__(self) -> None:
        self.faults: Counter[tuple[str, str]] = Counter()
        self.blocked: defaultdict[str | None, float] = defaultdict(float)
        self.quarantine = Quarantine()
        self.quiet = False

    def record(self, fault: PluginFault) -> None:
        """Count and log a fault, with the traceback that explains it."""
        self.faults[fault.plugin, fault.hook] += 1
        if self.quiet and (place := _place_of(fault.__cause__)):
            fault.args = (f"{fault} ({place})",)
        log.log(logging.DEBUG if self.quiet else logging.ERROR, "%s", fault, exc_info=fault.__cause__)


_OURS = f"{Path(__file__).parent}/"
_PYTHONS = f"{sysconfig.get_path('stdlib')}/"
_INSTALLED = f"{sysconfig.get_path('purelib')}/"  # which may lie below the standard library


def _place_of(error: BaseException | None) -> str | None:
    """The last line of the plugin on the way to an error: its file is the first that is not ours nor Python's."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    theirs = [frame for frame in frames if _may_be_a_plugins(frame.filename)]
    lines = [frame.lineno for frame in theirs if frame.filename == theirs[0].filename]
    return f"{theirs[0].filename}:{lines[-1]}" if lines else None


def _may_be_a_plugins(file: str) -> bool:
    return not file.startswith((_OURS, "<")) and (file.startswith(_INSTALLED) or not file.startswith(_PYTHONS))
