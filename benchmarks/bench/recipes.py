"""All that can be measured, by name: the systems that are compared, and their variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench import variants
from bench.phases import PHASES
from bench.systems import RECIPES, Place, Recipe, System, free_port
from bench.variants import VARIANTS

_ALL: Mapping[str, Recipe] = {**RECIPES, **{name: variant.recipe for name, variant in VARIANTS.items()}}
NAMES = tuple(_ALL)


def prepared(name: str, folder: Path, backend: int) -> System:
    """One of NAMES, ready to start in front of the backend on that port. Raises NotInstalledError."""
    own = folder / name.replace(" ", "")
    own.mkdir(exist_ok=True)
    return replace(_ALL[name](Place(own, free_port(), backend)), name=name)


def phases_of(name: str) -> Sequence[str]:
    """Those of PHASES that are measured of it."""
    return variants.PHASES if name in VARIANTS else tuple(PHASES)


def comparable(names: Sequence[str]) -> list[str]:
    """The names, and what those of them that are variants are compared with: without it they have no figure."""
    wanted = {*names, *(VARIANTS[name].plain for name in names if name in VARIANTS)}
    return [name for name in NAMES if name in wanted]
