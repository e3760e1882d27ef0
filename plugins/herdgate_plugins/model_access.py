"""A caller may use and see the models that its key's patterns match."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from herdgate import Action, Allow, Identity, ModelName, ModelPattern, Resource, Verdict, hookimpl


class ModelAccess:
    """Matches patterns on canonical names; models in the cloud need the caller's `cloud` as well. Says nothing of
    managing models, so that this stays denied until a plugin allows it.
    """

    herdgate_api = 1

    @hookimpl
    def authorise(self, identity: Identity, action: Action, resources: Sequence[Resource]) -> list[Verdict]:
        """Allow what a pattern matches, abstain from everything else."""
        if action is Action.ADMINISTER:
            return [Allow("an admin key") if identity.admin else None for _ in resources]
        if action is Action.MANAGE:
            return [None for _ in resources]
        return [
            None if resource.cloud and not identity.cloud else _matched(identity.models, resource.model)
            for resource in resources
        ]


@lru_cache(maxsize=65_536)
def _matched(patterns: tuple[str, ...], model: ModelName | None) -> Verdict:
    """Pure, and the same few keys ask for the same few models."""
    if model is None:
        return None
    for pattern in patterns:
        if ModelPattern.parse(pattern).matches(model):
            return Allow(f"pattern {pattern}")
    return None
