"""The backends that `OLLAMA_BACKENDS`, `[[backend]]` or `OLLAMA_BASE_URL` name, in the order in which they stand
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from herdgate import App, BackendSettings, BackendSource, hookimpl


@dataclass(frozen=True)
class _Fixed:
    backends: Sequence[BackendSettings]

    def list(self) -> Sequence[BackendSettings]:
        """The same backends every time: another configuration has another source."""
        return self.backends


class ConfiguredBackends:
    """Offers the configured backends to discovery."""

    herdgate_api = 1

    @hookimpl
    def backend_sources(self, app: App) -> BackendSource:
        """One source: what the operator configured."""
        return _Fixed(app.backends)
