"""How much memory all request bodies together may take.

A body is kept until its request has ended, because another backend may have to be tried. One limit per body does not
bound what many callers can make the gateway hold, so there is one for all of them.
"""

from __future__ import annotations


class OutOfMemory(Exception):  # noqa: N818 - an answer to the caller
    """The bodies of the requests in flight leave no room for this one at the moment."""


class BodyBudget:
    """Counts the bytes of the bodies that are held. `limit` in bytes."""

    __slots__ = ("_held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def take(self, size: int) -> None:
        """Count `size` more bytes. Raises OutOfMemory, and counts nothing, if there is no room for them."""
        held = self._held + size
        if held > self.limit:
            raise OutOfMemory
        self._held = held

    def give_back(self, size: int) -> None:
        """These bytes are held no longer."""
        self._held -= size
