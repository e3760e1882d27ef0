"""Ask an Ollama server what it hosts: `GET /api/tags`."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from herdgate import ModelEntry, hookimpl


class OllamaDiscovery:
    """Lists the models of every backend that speaks Ollama's own API. List plugins for other kinds of backends before
    it.
    """

    herdgate_api = 1

    @hookimpl
    async def list_models(self, client: httpx.AsyncClient) -> Sequence[ModelEntry]:
        """All models of one backend.

        Entries that name no model are left out: one broken manifest must not hide a whole server. A reply that is no
        list of models at all is an error, so that the last good list stays.
        """
        reply = (await client.get("/api/tags")).raise_for_status()
        try:
            answer = reply.json()
        except RecursionError:
            raise ValueError("the reply to /api/tags is nested too deeply") from None
        listed = answer.get("models") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            raise ValueError("the reply to /api/tags has no list of models")
        return [entry for entry in map(_entry, listed) if entry is not None]


def _entry(listed: object) -> ModelEntry | None:
    try:
        return ModelEntry.from_tags(listed)
    except ValueError:
        return None
