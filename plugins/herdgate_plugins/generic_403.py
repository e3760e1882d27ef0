"""One reply for every denial: nobody learns whether a model exists."""

from __future__ import annotations

from herdgate import Exchange, Family, Reply, denial, hookimpl


class Generic403:
    """The generic 403 in the shape of the caller's family."""

    herdgate_api = 1

    @hookimpl
    def mask_denial(self, exchange: Exchange, family: Family) -> Reply:
        """The same bytes for a model that does not exist, that is hidden, and that is not this caller's."""
        return denial(family, request_id=exchange.id)
