"""Which request gets which fault."""

from collections import deque
from dataclasses import dataclass

from herdgate.names import InvalidModelName, ModelName
from herdgate.testing.fault import Fault
from herdgate.testing.faults import ResetOnAccept

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

    def matches(self, path: str, model: str) -> bool:
        return self.path in ("*", path) and (self.model is None or _key(self.model) == _key(model))

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

    def take(self, path: str, model: str) -> tuple[Fault, ...]:
        """What happens to a request; empty: nothing unusual."""
        for rule in self._rules:
            if rule.matches(path, model) and not _on_accept(rule):
                return self._taken(rule)
        return ()

    def take_on_accept(self) -> bool:
        """Whether a connection that just came is to be reset."""
        rule = next(filter(_on_accept, self._rules), None)
        return rule is not None and bool(self._taken(rule))

    def _taken(self, rule: _Rule) -> tuple[Fault, ...]:
        taken = rule.take()
        if not rule.behaviours:
            self._rules.remove(rule)
        return taken


def _on_accept(rule: _Rule) -> bool:
    return any(isinstance(fault, ResetOnAccept) for fault in rule.behaviours[0])
