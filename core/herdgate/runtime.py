"""What requests share. A request keeps the runtime it began with, whatever is reloaded meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from herdgate.config import Settings
from herdgate.discovery import Discovery
from herdgate.origins import OriginRules
from herdgate.plugincode import PluginCode
from herdgate.points import HookPoints
from herdgate.routetable import RouteTable
from herdgate.state import State
from herdgate.state.watch import StateWatch
from herdgate.tasks import Tasks
from herdgate.waits import Waits


class Phase(IntEnum):
    """How welcome requests are. It only ever moves forward."""

    SERVING = 0
    LEAVING = 1
    """Told to stop: `/readyz` says so, requests are still taken, and every connection ends with its reply."""
    REFUSING = 2
    """New requests get a 503; those in flight go on."""


@dataclass(slots=True)
class Process:
    """What there is once in a process, however often its configuration is reloaded.

    `memory` is what plugins keep beyond a reload, see `App.memory`. `plugin_code` is that of every configuration at
    work: prepared, serving, or replaced with requests still in flight.
    """

    state: State
    watch: StateWatch
    memory: dict[str, Any] = field(default_factory=dict)
    plugin_code: list[PluginCode] = field(default_factory=list)
    waits: Waits = field(default_factory=Waits)
    phase: Phase = Phase.SERVING


@dataclass(slots=True, eq=False)
class Runtime:
    """One configuration at work: its compiled hooks, catalogue and clients. `requests` are those it serves now."""

    settings: Settings
    process: Process
    points: HookPoints
    discovery: Discovery
    origins: OriginRules
    tasks: Tasks
    routes: RouteTable
    requests: int = 0

    @property
    def state(self) -> State:
        """Where keys and the like are kept."""
        return self.process.state

    @property
    def watch(self) -> StateWatch:
        """Who knows whether the state is away."""
        return self.process.watch

    @property
    def draining(self) -> bool:
        """Whether the process was told to stop."""
        return self.process.phase is not Phase.SERVING

    @property
    def ready(self) -> bool:
        """Whether requests are welcome: the first discovery round has ended and nobody told us to stop."""
        return self.discovery.first_round_over.is_set() and not self.draining
