"""The backends as plugins with routes may ask them."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from herdgate.backend import Backend, Candidate
from herdgate.discovery import Discovery
from herdgate.names import ModelName


class LiveFleet:
    """`herdgate.Fleet` on top of discovery."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All backends in configured order."""
        return self._discovery.backends

    def holders(self, model: ModelName) -> Sequence[Candidate]:
        """The backends that hold a model, in configured order, those that are gone included."""
        return self._discovery.catalogue.holders(model)

    def client(self, backend: Backend, timeout: float, *, apart: bool = False) -> httpx.AsyncClient:
        """A client of this backend. Raises LookupError if it was just taken out of the configuration."""
        upstream = self._discovery.upstream(backend)
        if upstream is None:
            raise LookupError(f"the backend {backend.name} was just taken out of the configuration")
        return upstream.client(timeout, apart=apart)

    def refresh(self, backend: Backend) -> None:
        """Have a backend's models listed anew soon. Returns at once."""
        self._discovery.refresh(backend)
