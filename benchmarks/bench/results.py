"""What was measured, as it is kept in JSON, and the medians and ratios that are read off it. Pure but for the file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

NOISE = 0.15
"""Cores kept busy by other programs, above which a measurement counts as disturbed."""


@dataclass(frozen=True)
class Measurement:
    """One phase of one system in one round. Figures are by name; the name ends in the unit where there is one."""

    figures: Mapping[str, float]
    foreign: float = 0.0
    """Cores that other programs kept busy meanwhile."""
    error: str = ""
    """Why there are no figures."""

    @property
    def overrun(self) -> bool:
        """Whether the system was cut off or failed, so that it may still be at work on what nobody waits for."""
        return bool(self.error) or self.figures.get("complete", 1) < 1


Round = Mapping[str, Mapping[str, Measurement]]
"""By system, then by phase."""


@dataclass(frozen=True)
class Results:
    """All rounds of one run, and where and when they were made."""

    date: str
    machine: str
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    notes: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = field(default=())

    def systems(self) -> list[str]:
        """In the order in which they were given."""
        return list(dict.fromkeys(name for each in self.rounds for name in each))

    def measurements(self, system: str, phase: str) -> list[Measurement]:
        """That phase of that system in every round that has it."""
        return [each[system][phase] for each in self.rounds if phase in each.get(system, {})]

    def median(self, system: str, phase: str, figure: str) -> float | None:
        """None if no round has the figure."""
        values = [m.figures[figure] for m in self.measurements(system, phase) if figure in m.figures]
        return statistics.median(values) if values else None

    def ratio(self, system: str, other: str, phase: str, figure: str) -> float | None:
        """The median of the quotients within one round; None if no round has both figures."""
        quotients = []
        for each in self.rounds:
            above, below = (each.get(name, {}).get(phase) for name in (system, other))
            if above and below and figure in above.figures and below.figures.get(figure):
                quotients.append(above.figures[figure] / below.figures[figure])
        return statistics.median(quotients) if quotients else None

    def added(self, system: str, phase: str, base: str, figure: str) -> float | None:
        """The median of the differences between two phases of one round; None if no round has both figures."""
        differences = []
        for each in self.rounds:
            with_it, without = (each.get(system, {}).get(name) for name in (phase, base))
            if with_it and without and figure in with_it.figures and figure in without.figures:
                differences.append(with_it.figures[figure] - without.figures[figure])
        return statistics.median(differences) if differences else None

    def disturbed(self, system: str, phase: str) -> bool:
        """Whether at least half of the rounds were disturbed, so that the median is doubtful."""
        measured = self.measurements(system, phase)
        return bool(measured) and 2 * sum(m.foreign > NOISE for m in measured) >= len(measured)

    def failure(self, system: str, phase: str) -> str:
        """Why there is no figure of that phase; empty if there is one."""
        measured = self.measurements(system, phase)
        return next((m.error for m in measured if m.error), "") if not any(m.figures for m in measured) else ""

    def all_measurements(self) -> Iterator[Measurement]:
        """Every one there is."""
        for each in self.rounds:
            for phases in each.values():
                yield from phases.values()

    def save(self, path: Path) -> None:
        """Write it as JSON; the medians are added for readers."""
        medians = {
            system: {
                phase: {figure: self.median(system, phase, figure) for figure in measurement.figures}
                for each in self.rounds
                for phase, measurement in each.get(system, {}).items()
            }
            for system in self.systems()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self) | {"medians": medians}, indent=1) + "\n")


def load(path: Path) -> Results:
    """Read what `save` has written."""
    content = json.loads(path.read_text())
    content.pop("medians", None)
    rounds = tuple(
        {
            system: {phase: Measurement(**measurement) for phase, measurement in phases.items()}
            for system, phases in each.items()
        }
        for each in content.pop("rounds")
    )
    return Results(**content | {"rounds": rounds, "notes": tuple(content["notes"])})
