"""What a plugin may know of the gateway it runs in."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from herdgate.backend import BackendSettings
from herdgate.state import State


class CannotStart(Exception):  # noqa: N818 - a decision
    """The gateway must not start like this. The message tells the operator why, and what to do."""


@dataclass(frozen=True, slots=True)
class App:
    """The gateway as `lifespan` and `backend_sources` see it.

    `backends` are the configured ones, `plugins` the names of what is loaded, in order. `admin_key_hash` is the
    SHA-256 (hex) of the admin key that the environment gives, so that no plugin needs the key itself.
    """

    version: str
    host: str
    backends: tuple[BackendSettings, ...]
    plugins: tuple[str, ...]
    state: State
    admin_key_hash: str | None = field(default=None, repr=False)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
