"""Which request gets which fault."""

from collections import deque
from dataclasses import dataclass

from herdgate.names import InvalidModelName, ModelName
from herdgate.testing.simulation.fault import Fault, Moment

Scripted = Fault | tuple[Fault, ...]
"""One fault, or several that bend the same reply together."""


def _together(behaviour: Scripted) -> tuple[Fault, ...]:
    return behaviour if isinstance(behaviour, tuple) else (behaviour,)


@dataclass
class _Rule:
    path: str
    model: str | None
    behaviours: deque[tuple[Fault, ...]]
    for_ever: bool

    def matches(self, moment: Moment, path: str, model: str) -> bool:
        if self.moment != moment or moment == "accept":
            return self.moment == moment
        any_model = self.model is None or moment == "head"
        return self.path in ("*", path) and (any_model or _key(self.model or "") == _key(model))

    @property
    def moment(self) -> Moment:
        """When the next behaviour strikes."""
        moments = {fault.moment for fault in self.behaviours[0]}
        return "accept" if "accept" in moments else "head" if "head" in moments else "request"

    def take(self) -> tuple[Fault, ...]:
        taken = self.behaviours.popleft()
        if self.for_ever:
            self.behaviours.append(taken)
        return taken


def _key(name: str) -> str:
    try:
        return ModelName.parse(name).key
    except InvalidModelName:
        return name


class Script:
    """Rules in the order in which they were written; the first that matches and has anything left decides."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def add(self, path: str, behaviours: tuple[Scripted, ...], times: int | None, model: str | None) -> None:
        """Append a rule; see `SimulatedOllama.script`."""
        queue = deque(_together(behaviour) for behaviour in behaviours for _ in range(1 if times is None else times))
        if queue:
            self._rules.append(_Rule(path, model, queue, times is None))

    def clear(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    def take(self, moment: Moment, path: str = "", model: str = "") -> tuple[Fault, ...]:
        """What happens now; empty: nothing unusual. See `Fault.moment`."""
        for rule in self._rules:
            if rule.matches(moment, path, model):
                taken = rule.take()
                if not rule.behaviours:
                    self._rules.remove(rule)
                return taken
        return ()
