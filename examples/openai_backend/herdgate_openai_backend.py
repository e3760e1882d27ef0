"""Backends that speak OpenAI's API and not Ollama's: vLLM, llama.cpp, LM Studio, … A Herdgate plugin."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
from herdgate import Attempt, Backend, Candidate, Exchange, Family, ModelEntry, UpstreamRequest, hookimpl
from pydantic import BaseModel, Field

log = logging.getLogger("herdgate_openai_backend")


class OpenaiBackend:
    """Lists the models of such backends, keeps requests in Ollama's dialect away from them, and asks each for a model
    by the name that the backend itself has for it.
    """

    herdgate_api = 1

    class Settings(BaseModel):
        """What the entry in plugins.toml may say."""

        tag: str = Field(default="openai", description="The tag that marks such a backend.")

    def __init__(self, settings: Settings) -> None:
        self._tag = settings.tag
        self._refused: set[str] = set()

    @hookimpl
    async def list_models(self, backend: Backend, client: httpx.AsyncClient) -> list[ModelEntry] | None:
        """`GET /v1/models`. A reply that is no such list is an error, so that the last good list stays."""
        if self._tag not in backend.tags:
            return None
        answer = (await client.get("/v1/models")).raise_for_status().json()
        listed = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            raise ValueError("the reply to /v1/models has no list of models")
        return [entry for each in listed if (entry := self._entry(each)) is not None]

    @hookimpl
    def select_candidates(self, exchange: Exchange, candidates: Sequence[Candidate]) -> list[Candidate] | None:
        """Such a backend has the paths below `/v1` only, and not Anthropic's."""
        if exchange.family is Family.OPENAI:
            return None
        kept = [candidate for candidate in candidates if self._tag not in candidate.backend.tags]
        if exchange.explaining and len(kept) < len(candidates):
            exchange.explain("backends with the tag %s do not speak %s's API", self._tag, exchange.family.value)
        return kept

    @hookimpl
    def prepare_upstream(self, attempt: Attempt, request: UpstreamRequest) -> UpstreamRequest | None:
        """The gateway takes a name with or without `:latest`, in any case; the backend knows one spelling only."""
        if self._tag not in attempt.backend.tags or not _is_json(request):
            return None
        body = json.loads(request.body)
        own = attempt.model.raw["id"]
        return None if body.get("model") == own else request.with_body(json.dumps({**body, "model": own}).encode())

    def _entry(self, listed: object) -> ModelEntry | None:
        """One row of the list. One that cannot be called through the gateway is left out, and named in the log once."""
        if not isinstance(listed, dict) or not isinstance(name := listed.get("id"), str):
            return None
        created = listed.get("created")
        known = isinstance(created, int) and 0 < created < 2**32
        when = datetime.fromtimestamp(created, UTC).isoformat() if isinstance(created, int) and known else ""
        try:
            return ModelEntry.from_tags({"id": name, "name": name, "modified_at": when})
        except ValueError as error:
            if name not in self._refused:
                self._refused.add(name)
                log.warning("the model %.100r is left out: %s", name, error)
            return None


def _is_json(request: UpstreamRequest) -> bool:
    return any(name == "content-type" and value.startswith("application/json") for name, value in request.headers)
