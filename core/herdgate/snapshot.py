"""What the backends hosted when they were last asked, kept in the state, so that a restart or a replica starts warm."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from herdgate.backend import BackendSettings, ModelEntry
from herdgate.catalogue import ModelList
from herdgate.state import State, StateUnavailable

log = logging.getLogger("herdgate.discovery")

SPACE = "catalogue"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What some process learned of a backend; `at` is in seconds since 1970, which all processes share."""

    listed: ModelList
    at: float
    version: str | None = None


class Snapshot:
    """The shared catalogue cache: one record per backend. A state that is away costs warmth, never a poll."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._away = False

    async def load(self, backends: Iterable[BackendSettings]) -> dict[str, Remembered]:
        """The last known lists of these backends. A record of another address under the same name is not theirs."""
        try:
            records = await self._state.items(SPACE)
        except StateUnavailable as error:
            self._miss(error)
            return {}
        found = {}
        for settings in backends:
            remembered = _decode(settings, records.get(settings.name))
            if remembered is not None:
                found[settings.name] = remembered
        return found

    async def save(self, settings: BackendSettings, found: Remembered) -> None:
        """Store what a poll of one backend has found."""
        record = {
            "base_url": settings.base_url,
            "fetched_at": found.at,
            "version": found.version,
            "models": [entry.raw for entry in found.listed.entries],
        }
        try:
            await self._state.put(SPACE, settings.name, json.dumps(record, separators=(",", ":")).encode())
            self._away = False
        except StateUnavailable as error:
            self._miss(error)

    async def entries(self) -> int:
        """How many models of how many backends the cache holds, added up. Raises StateUnavailable."""
        return sum(len(_models(record)) for record in (await self._state.items(SPACE)).values())

    def _miss(self, error: StateUnavailable) -> None:
        if not self._away:  # once per outage, not once per poll
            log.warning("the catalogue is neither shared nor remembered at the moment: %s", error)
        self._away = True


def _models(record: bytes) -> list[object]:
    try:
        return list(json.loads(record)["models"])
    except (ValueError, KeyError, TypeError):
        return []


def _decode(settings: BackendSettings, record: bytes | None) -> Remembered | None:
    if record is None:
        return None
    try:
        said = json.loads(record)
        if said["base_url"] != settings.base_url:
            return None
        entries = tuple(ModelEntry.from_tags(listed) for listed in said["models"])
        version = said.get("version")
        at = float(said["fetched_at"])
        listed = ModelList(settings.name, entries, time.monotonic() - max(0.0, time.time() - at))
        return Remembered(listed, at, version if isinstance(version, str) else None)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("the stored list of backend %s cannot be read: %s", settings.name, error)
        return None
