"""Which models the backends hold in different versions under one name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from herdgate.cli.discover import Asked


def differing(asked: Iterable[Asked]) -> dict[str, Mapping[str, str]]:
    """The digest that each backend gives, by the display name of each model on which they do not agree.

    A backend that tells no digest says nothing. Models and backends are in the order in which they were listed.
    """
    held: dict[str, dict[str, str]] = {}
    shown: dict[str, str] = {}
    for backend in asked:
        for entry in backend.entries:
            if entry.digest:
                held.setdefault(entry.name.key, {})[backend.settings.name] = entry.digest
                shown.setdefault(entry.name.key, entry.name.display)
    return {shown[key]: digests for key, digests in held.items() if len(set(digests.values())) > 1}
