"""The first backend in configured order gets the request; the next ones are tried when it fails."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from herdgate import Exchange, GiveUp, hookimpl


class PriorityFailover:
    """Strict priority: candidates come in configured order, and that order stays. This limits how many are tried.

    What may be tried again after which failure is the core's table, see `docs/operating.md`.
    """

    herdgate_api = 1

    class Settings(BaseModel):
        """`max_attempts`: how many backends one request may try; without it every candidate is tried once."""

        max_attempts: Annotated[int, Field(ge=1)] | None = None

    def __init__(self, settings: Settings) -> None:
        self._max_attempts = settings.max_attempts

    @hookimpl
    def judge_failure(self, exchange: Exchange) -> GiveUp | None:
        """Stop once as many backends were really tried as the operator allows; skipped ones do not count."""
        if self._max_attempts is None:
            return None
        tried = sum(not attempt.skipped for attempt in exchange.attempts)
        return GiveUp(f"{tried} backends were tried") if tried >= self._max_attempts else None
