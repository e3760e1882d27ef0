"""What becomes of a plugin that fails: it is named, counted and written to the log."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict

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
    debugging sees faults: whoever starts the plugins tells what went wrong in one message.
    """

    def __init__(self) -> None:
        self.faults: Counter[tuple[str, str]] = Counter()
        self.blocked: defaultdict[str | None, float] = defaultdict(float)
        self.quarantine = Quarantine()
        self.quiet = False

    def record(self, fault: PluginFault) -> None:
        """Count and log a fault, with the traceback that explains it."""
        self.faults[fault.plugin, fault.hook] += 1
        log.log(logging.DEBUG if self.quiet else logging.ERROR, "%s", fault, exc_info=fault.__cause__)
