"""Which models are loaded at the moment, on any backend.

`/api/ps` of an Ollama waits while a model loads (0.32.4 and newer), so each backend gets a short deadline and is left
out when it passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import httpx

from herdgate.backend import ModelEntry
from herdgate.catalogue import Catalogue
from herdgate.upstream.client import Upstream

PS_DEADLINE = 2.0


@dataclass(frozen=True, slots=True)
class RunningModel:
    """One row of `/api/ps`, as its backend sent it. The first of `backends` is the one whose row it is."""

    entry: ModelEntry
    raw: dict[str, object]
    backends: tuple[str, ...]
    size: int
    size_vram: int

    def joined(self, other: RunningModel) -> RunningModel:
        """This row, with what another backend has of the model added to the sums."""
        return replace(
            self,
            backends=self.backends + other.backends,
            size=self.size + other.size,
            size_vram=self.size_vram + other.size_vram,
        )

    @property
    def expires(self) -> float:
        """When it will be unloaded, in seconds since the epoch, which backends write in time zones of their own; 0 if
        they do not say.
        """
        try:
            return datetime.fromisoformat(str(self.raw.get("expires_at"))).timestamp()
        except (ValueError, OverflowError):
            return 0.0

    def row(self, *, inside: bool) -> dict[str, object]:
        """The row as callers see it; `inside`: with which backends have it loaded, and how much that is together."""
        if not inside:
            return self.raw
        sums = {"backends": self.backends, "size": self.size, "size_vram": self.size_vram}
        return {**self.raw, "herdgate": sums}


async def running_models(upstreams: Sequence[Upstream], catalogue: Catalogue) -> list[RunningModel]:
    """The loaded models of all backends, those that expire last first. A name on several backends shows the first
    one's row.

    A model that the catalogue does not know of that backend is left out, loaded or not: a plugin may have hidden it.
    """
    listed = await asyncio.gather(*(_known(upstream, catalogue) for upstream in upstreams))
    rows: dict[str, RunningModel] = {}
    for row in (row for rows_of_one in listed for row in rows_of_one):
        earlier = rows.get(row.entry.name.key)
        rows[row.entry.name.key] = row if earlier is None else earlier.joined(row)
    return sorted(rows.values(), key=lambda row: row.expires, reverse=True)


async def _known(upstream: Upstream, catalogue: Catalogue) -> list[RunningModel]:
    holds = upstream.backend.name
    return [
        row
        for row in await _ask(upstream)
        if any(holder.backend.name == holds for holder in catalogue.holders(row.entry.name))
    ]


async def _ask(upstream: Upstream) -> list[RunningModel]:
    try:
        async with asyncio.timeout(PS_DEADLINE):
            answer = (await upstream.client(PS_DEADLINE).get("/api/ps")).raise_for_status().json()
    except (httpx.HTTPError, ValueError, TimeoutError, RecursionError):
        return []
    listed = answer.get("models") if isinstance(answer, dict) else None
    rows = []
    for raw in listed if isinstance(listed, list) else []:
        try:
            entry = ModelEntry.from_tags(raw)
        except ValueError:
            continue
        named = {**entry.raw, "name": entry.name.display, "model": entry.name.display}
        rows.append(
            RunningModel(entry, named, (upstream.backend.name,), entry.size, _bytes(entry.raw.get("size_vram")))
        )
    return rows


def _bytes(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
