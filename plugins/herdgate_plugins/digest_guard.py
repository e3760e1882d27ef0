"""Backends that hold different models under one name: noticed, and kept apart where mixing them does harm."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel

from herdgate import Candidate, Exchange, hookimpl

log = logging.getLogger("herdgate.digests")

_EMBEDDINGS = frozenset({"embed", "embeddings", "openai_embeddings"})
_SHOWN = 12
"""How much of a digest is shown, as `ollama list` does."""


class DigestGuard:
    """Compares the digests of the backends that a request may be tried at, and says so, once for each change, when
    they differ. Then only those with the digest of the first one are tried, if the settings want that of this request.
    Vectors of two versions of a model look alike and cannot be compared, so that is the default for embeddings; a chat
    with another version is better than none.

    `differing` counts requests, by model, whose backends held different digests.
    """

    herdgate_api = 1

    class Settings(BaseModel):
        """`same_digest`: keep every request to one digest, at the price of fewer backends to fall back on (false).
        `same_digest_embeddings`: the same for requests for embeddings alone (true).
        """

        same_digest: bool = False
        same_digest_embeddings: bool = True

    def __init__(self, settings: Settings) -> None:
        self._always = settings.same_digest
        self._embeddings = settings.same_digest or settings.same_digest_embeddings
        self._told: dict[str, dict[str, str]] = {}
        self._embedding: dict[str, str] = {}
        self.differing: Counter[str] = Counter()

    @hookimpl
    def select_candidates(self, exchange: Exchange, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        """Leave out those with another digest, if this request wants that."""
        if not candidates:
            return None
        first = candidates[0].model
        differ = len(candidates) > 1 and _differ(candidates)
        if (differ or self._told) and not exchange.explaining:
            self._compare(candidates)
        endpoint = exchange.endpoint
        if endpoint is not None and endpoint.name in _EMBEDDINGS:
            if not self._embeddings:
                return None
            self._follow(first.name.display, first.digest)
        elif not self._always:
            return None
        if not differ:
            return None
        exchange.explain("the backends hold different models; only digest %s is tried", first.digest[:_SHOWN])
        return [each for each in candidates if each.model.digest == first.digest]

    def _compare(self, candidates: Sequence[Candidate]) -> None:
        """Note what each backend holds; speak of it if that is news. A digest that nobody told says nothing."""
        held = {each.backend.name: each.model.digest for each in candidates if each.model.digest}
        differ = len(set(held.values())) > 1
        model = candidates[0].model.name.display
        self.differing[model] += differ
        told = self._told.get(model, {})
        if (not differ and not told) or all(told.get(backend) == digest for backend, digest in held.items()):
            return
        self._told[model] = {**told, **held}
        if differ:
            shown = ", ".join(f"{backend} {digest[:_SHOWN]}" for backend, digest in held.items())
            log.warning("the backends hold different models under the name %s: %s", model, shown)
        else:
            log.info("the backends hold the same model under the name %s again", model)

    def _follow(self, model: str, digest: str) -> None:
        """Vectors made before now and from now on cannot be compared any more: whoever keeps them must be told."""
        before = self._embedding.setdefault(model, digest)
        if before != digest:
            self._embedding[model] = digest
            log.warning(
                "embeddings of %s now come from the digest %s, before it was %s: vectors of the two cannot be compared",
                model,
                digest[:_SHOWN],
                before[:_SHOWN],
            )


def _differ(candidates: Sequence[Candidate]) -> bool:
    """For each request, so in the plainest way: a generator would cost three times as much."""
    digest = candidates[0].model.digest
    for candidate in candidates:  # noqa: SIM110
        if candidate.model.digest != digest:
            return True
    return False
