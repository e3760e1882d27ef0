"""What a fault is: a pure change of the steps by which a reply goes out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from herdgate.testing.simulation.parts import Part, Parts
from herdgate.testing.simulation.reply import Reply

Moment: TypeAlias = Literal["accept", "head", "request"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The reply that would be given without faults, and the steps as left by the faults applied so far."""

    reply: Reply
    pace: float
    parts: Parts


@dataclass(frozen=True)
class Fault:
    """The base of all faults. A fault of your own overrides ``_apply``."""

    benign: ClassVar[bool] = False
    """True: the reply is still right and whole, only slower or cut up differently."""
    moment: ClassVar[Moment] = "request"
    """When it strikes: at the connection's arrival, after a request's head, or when the whole request is in."""

    def _apply(self, plan: Plan) -> list[Part]:
        """The steps that replace ``plan.parts``."""
        return list(plan.parts)


def bend(reply: Reply, pace: float, faults: Iterable[Fault]) -> Parts:
    """The steps of ``reply`` after all ``faults``, from left to right; ``pace`` as in `Reply.parts`."""
    parts: Parts = reply.parts(pace)
    for fault in faults:
        parts = fault._apply(Plan(reply, pace, parts))
    return parts
