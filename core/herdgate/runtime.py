"""What every request of one gateway process shares. Made once; a request keeps the one it began with."""

from __future__ import annotations

from dataclasses import dataclass, field

from herdgate.config import Settings
from herdgate.discovery import Discovery
from herdgate.origins import OriginRules
from herdgate.points import HookPoints
from herdgate.routetable import RouteTable
from herdgate.state import State
from herdgate.state.watch import StateWatch
from herdgate.tasks import Tasks


@dataclass(slots=True)
class Runtime:
    """Configuration, compiled hooks, catalogue and clients of one process. `draining` is set once, when it is told to
    stop.
    """

    settings: Settings
    points: HookPoints
    discovery: Discovery
    state: State
    watch: StateWatch
    origins: OriginRules
    tasks: Tasks = field(default_factory=Tasks)
    routes: RouteTable = field(default_factory=RouteTable)
    draining: bool = False

    @property
    def ready(self) -> bool:
        """Whether requests are welcome: the first discovery round has ended and nobody told us to stop."""
        return self.discovery.first_round_over.is_set() and not self.draining
