"""What the plugins said about one request that is only asked about, step by step: the record behind `explain`.

The implementations are wrapped, not the points that call them: answers are checked, combined and refused by the very
code that a request goes through, and an ordinary request pays nothing for it.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import isawaitable
from typing import Any, TypeVar

from herdgate.access import Allow, Deny, Identity, Rejected
from herdgate.backend import Candidate
from herdgate.exchange import Exchange
from herdgate.faults import Ledger
from herdgate.point import Impl, Point
from herdgate.points import HookPoints

MOST_REASONS = 50
"""Reasons kept of one plugin: one that explains in a loop must not fill the reply."""
LONGEST_REASON = 500

P = TypeVar("P", bound=Point)


@dataclass(slots=True)
class Step:
    """What one plugin, or the catalogue when `plugin` is None, contributed. `left` are the backends it left, in order.

    `given` is what it was asked about; both are None where the hook is not about backends. `answer` is what a plugin
    returned of candidates, which the gateway need not have accepted.
    """

    hook: str
    plugin: str | None
    said: str = ""
    reasons: list[str] = field(default_factory=list)
    given: tuple[str, ...] | None = None
    left: tuple[str, ...] | None = None
    answer: object = None

    def because(self, reason: str) -> None:
        """Add a reason."""
        if reason and len(self.reasons) < MOST_REASONS:
            self.reasons.append(reason[:LONGEST_REASON])

    def as_json(self) -> dict[str, object]:
        """The step as the admin API shows it."""
        shown: dict[str, object] = {"hook": self.hook, "plugin": self.plugin, "said": self.said}
        if self.given is not None:
            shown |= {"given": list(self.given), "left": None if self.left is None else list(self.left)}
        return {**shown, "reasons": self.reasons}


class Hypothetical(Exchange):
    """A request that nobody sent: it is decided about like any other, and goes nowhere."""

    __slots__ = ("_recorder",)

    def __init__(self, identifier: str, path: str, client: str, recorder: Recorder) -> None:
        super().__init__(identifier, method="POST", path=path, client=client)
        self._recorder = recorder

    @property
    def explaining(self) -> bool:
        """Yes."""
        return True

    def explain(self, reason: str, *values: object) -> None:
        """Keep the reason with the plugin that is being asked."""
        self._recorder.note(reason % values if values else reason)


class Recorder:
    """Writes down who was asked, and what each of them said."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def watch(self, points: HookPoints) -> HookPoints:
        """The same points, whose plugins are watched while they decide."""
        watched = copy.copy(points)
        watched.identify = self._watched(points.identify)
        watched.authorise = self._watched(points.authorise)
        watched.select_candidates = self._watched(points.select_candidates)
        return watched

    def note(self, reason: str) -> None:
        """Keep a reason that the plugin being asked gives."""
        if self.steps:
            self.steps[-1].because(reason)

    def of(self, hook: str) -> list[Step]:
        """The steps of one hook, in order."""
        return [step for step in self.steps if step.hook == hook]

    def settle(self, chosen: Sequence[Candidate] | None) -> None:
        """Work out what each plugin did to the candidates, now that it is known what the last of them left; None if
        that one ended the request.

        The lists compared are those that the gateway passed on, so what it did not accept of an answer shows as such.
        """
        steps = self.of("select_candidates")
        for step, following in zip(steps, [*steps, None][1:], strict=True):
            last = None if chosen is None else backends(chosen)
            step.left = following.given if following else last
            if not step.said:
                step.said = _did(step)

    def _watched(self, point: P) -> P:
        watched = copy.copy(point)
        watched.ledger = Ledger()  # a fault is logged, but nobody is left out of requests for it
        watched.impls = tuple(replace(impl, call=partial(self._ask, point.hook, impl)) for impl in point.impls)
        return watched

    def _ask(self, hook: str, impl: Impl, *args: Any) -> Any:
        step = Step(hook, impl.plugin)
        if hook == "select_candidates":
            step.given = backends(args[-1])
        self.steps.append(step)
        try:
            answer = impl.call(*args)
        except Exception as error:
            _failed(step, error)
            raise
        if isawaitable(answer):
            return self._awaited(step, answer)
        _heard(step, answer)
        return answer

    async def _awaited(self, step: Step, answer: Awaitable[Any]) -> Any:
        try:
            value = await answer
        except asyncio.CancelledError:
            step.said = "did not answer in time"
            raise
        except Exception as error:
            _failed(step, error)
            raise
        _heard(step, value)
        return value


def backends(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The names of the backends, in order."""
    return tuple(candidate.backend.name for candidate in candidates)


def _did(step: Step) -> str:
    if step.left is None or (step.answer is not None and _names(step.answer) != step.left):
        return "answers what is not accepted"
    return change(step.given or (), step.left)


def _names(answer: object) -> tuple[object, ...] | None:
    """The names in what a plugin returned, which may be anything."""
    if not isinstance(answer, list | tuple):
        return None
    return tuple(each.backend.name if isinstance(each, Candidate) else None for each in answer)


def change(given: Sequence[str], left: Sequence[str]) -> str:
    """What a plugin did to the candidates, in words."""
    dropped = [name for name in given if name not in left]
    moved = [name for name in given if name in left] != list(left)
    did = [*([f"drops {', '.join(dropped)}"] if dropped else []), *(["reorders"] if moved else [])]
    return " and ".join(did) or "unchanged"


def _failed(step: Step, error: Exception) -> None:
    step.said = "fails"
    step.because(f"{type(error).__name__}: {error}")


def _heard(step: Step, answer: object) -> None:
    """Write down an answer. What a plugin did to candidates shows only in what it left of them: see `settle`."""
    if step.hook == "select_candidates":
        step.answer = answer
        return
    match answer[0] if isinstance(answer, list | tuple) and len(answer) == 1 else answer:
        case Identity(name):
            step.said = f"knows {name}"
        case Allow(reason):
            step.said = "allows"
            step.because(reason)
        case Deny(reason):
            step.said = "denies"
            step.because(reason)
        case Rejected(reason):
            step.said = "rejects"
            step.because(reason)
        case None:
            step.said = "abstains"
        case other:
            step.said = f"answers {type(other).__name__}, which this hook does not allow"
