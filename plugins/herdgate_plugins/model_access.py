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
        if action is not Action.USE and action is not Action.SEE:
            return [_of_gateway(identity, action)] * len(resources)
        patterns = _compiled(identity.models)
        verdicts: list[Verdict] = []
        for resource in resources:
            verdict = _matched(patterns, resource.model)
            verdicts.append(verdict if identity.cloud or not resource.cloud else None)
        return verdicts


def _of_gateway(identity: Identity, action: Action) -> Verdict:
    if action is Action.OBSERVE and identity.unprotected:
        return Allow("no key was ever made")
    return Allow("an admin key") if identity.admin and action is not Action.MANAGE else None


_Patterns = tuple[tuple[ModelPattern, Allow], ...]


def _matched(patterns: _Patterns, model: ModelName | None) -> Verdict:
    """Not cached: the time of an answer must not tell which models were asked about before, or stood in a listing."""
    if model is not None:
        for pattern, allow in patterns:
            if pattern.matches(model):
                return allow
    return None


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> _Patterns:
    return tuple((ModelPattern.parse(text), Allow(f"pattern {text}")) for text in patterns)
