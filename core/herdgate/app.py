"""What a plugin may know of the gateway it runs in."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from herdgate.backend import Backend, BackendSettings, Candidate
from herdgate.names import ModelName
from herdgate.state import State


class CannotStart(Exception):  # noqa: N818 - a decision
    """The gateway must not start like this. The message tells the operator why, and what to do."""


@dataclass(frozen=True, slots=True)
class App:
    """The gateway as `lifespan` and `backend_sources` see it.

    `backends` are the configured ones, `plugins` the names of what is loaded, in order. `admin_key_hash` is the
    SHA-256 (hex) of the admin key that the environment gives, so that no plugin needs the key itself.

    `memory` lives as long as the process. A reload makes a new instance of each plugin, while requests in flight keep
    the old one; what both must share, such as counters, or what must not be forgotten goes in there, under a key that
    begins with the plugin's name.
    """

    version: str
    host: str
    backends: tuple[BackendSettings, ...]
    plugins: tuple[str, ...]
    state: State
    admin_key_hash: str | None = field(default=None, repr=False)
    memory: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Fleet(Protocol):
    """The backends as they are at the moment, for plugins that have something to ask of them themselves."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All backends in configured order."""

    def holders(self, model: ModelName) -> Sequence[Candidate]:
        """The backends that hold a model, in configured order, those that are gone included."""

    def client(self, backend: Backend, timeout: float, *, apart: bool = False) -> httpx.AsyncClient:
        """A client with the backend's address and credentials built in; `timeout` is the silence allowed, in seconds.

        It shares the connections that requests use; `apart` each question has a new one, which is not kept.
        An answer of more than 32 MiB is an `httpx.ReadError`, unless the request says `extensions={"unbounded": True}`,
        which is for answers that are read as they come.
        Raises LookupError if the backend was just taken out of the configuration.
        """

    def refresh(self, backend: Backend) -> None:
        """Have a backend's models listed anew soon, because they were changed. Returns at once."""
