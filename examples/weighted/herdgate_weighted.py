"""Spread requests over backends in proportion to weights. A Herdgate plugin."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Annotated

from herdgate import App, Candidate, hookimpl
from pydantic import BaseModel, Field

log = logging.getLogger("herdgate_weighted")

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Weighted:
    """Draws the order in which backends are tried, anew for each request."""

    herdgate_api = 1

    class Settings(BaseModel):
        """What the entry in plugins.toml may say."""

        weights: dict[str, Weight] = Field(description="Weight of each backend, by name; 0: only after all others.")
        default: Weight = Field(default=1.0, description="Weight of a backend that is not named.")

    def __init__(self, settings: Settings, source: random.Random | None = None) -> None:
        self._weights = settings.weights
        self._default = settings.default
        self._random = source or random.Random()

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """A name that no backend has is probably misspelt. No more than a warning: a source may add backends later."""
        for name in self._weights.keys() - {backend.name for backend in app.backends}:
            log.warning("weights: there is no backend %s", name)
        yield

    @hookimpl
    def select_candidates(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """All candidates; the first one with the probability that its weight gives it, and so on with the rest.

        A race does that: each runs for an exponentially distributed time, the heavier the shorter.
        """
        return sorted(candidates, key=self._time)

    def _time(self, candidate: Candidate) -> float:
        weight = self._weights.get(candidate.backend.name, self._default)
        return self._random.expovariate(weight) if weight else inf
