"""Serve callers without a key: the explicit way out of protected mode. List it after the plugins that know keys."""

from __future__ import annotations

from pydantic import BaseModel, field_validator

from herdgate import Credentials, Identity, ModelPattern, hookimpl


class Anonymous:
    """Gives a caller without credentials an identity. Wrong credentials stay wrong: they are rejected before this is
    asked.
    """

    herdgate_api = 1

    class Settings(BaseModel):
        """`models`: patterns of what callers without a key may use; `cloud`: also where it runs in Ollama's cloud."""

        models: tuple[str, ...] = ("*",)
        cloud: bool = False

        @field_validator("models")
        @classmethod
        def _valid(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
            for pattern in patterns:
                ModelPattern.parse(pattern)
            return patterns

    def __init__(self, settings: Settings) -> None:
        self._identity = Identity("anonymous", models=settings.models, anonymous=True, cloud=settings.cloud)

    @hookimpl
    def authenticate(self, credentials: Credentials) -> Identity | None:
        """The anonymous identity for whoever brings no credentials."""
        return None if credentials.present else self._identity

    @hookimpl
    def identify(self, name: str) -> Identity | None:
        """Whoever has no key goes by the name `anonymous`."""
        return self._identity if name == self._identity.name else None
