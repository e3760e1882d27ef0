"""Tell backends who asks: the caller's address and the request's id. Not in the built-in list.

For backends that write logs of their own. Mind that an Ollama copies the headers that it gets to ollama.com when a
model runs there.
"""

from __future__ import annotations

from pydantic import BaseModel

from herdgate import Attempt, Exchange, UpstreamRequest, hookimpl


class ForwardClient:
    """Adds `X-Forwarded-For`, with the one address that the gateway believes, and `X-Request-Id`."""

    herdgate_api = 1

    class Settings(BaseModel):
        """`address`, `request_id`: what is told; `backends`: the names of those that are told, all by default."""

        address: bool = True
        request_id: bool = True
        backends: tuple[str, ...] | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @hookimpl
    def prepare_upstream(self, exchange: Exchange, attempt: Attempt, request: UpstreamRequest) -> UpstreamRequest:
        """The request with what its backend may know."""
        told = self._settings
        if told.backends is not None and attempt.backend.name not in told.backends:
            return request
        if told.address and exchange.client:
            request = request.with_header("x-forwarded-for", exchange.client)
        return request.with_header("x-request-id", exchange.id) if told.request_id else request
