"""What the pipeline needs of the HTTP server: the caller's body, and a way to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from herdgate.access import Credentials
from herdgate.outbox import Delivery


class BodyTooLarge(Exception):  # noqa: N818 - an answer to the caller
    """The request's body is larger than the limit."""


class Responder(Protocol):
    """The caller's side of one exchange. A caller that leaves cancels the task that waits here."""

    @property
    def credentials(self) -> Credentials:
        """What the caller brought to prove who it is."""

    @property
    def query(self) -> str:
        """What follows the path's `?`, as it was sent."""

    @property
    def length(self) -> int | None:
        """Bytes of the body as the head gives them; None if it does not, 0 if there is no body."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the request by lower-case name, those with credentials among them."""

    def body_at_hand(self, limit: int) -> bytes | None:
        """What `body` would give, if it would not have to wait for any of it. Raises BodyTooLarge."""

    async def body(self, limit: int) -> bytes:
        """The whole request body. Raises BodyTooLarge past `limit` bytes."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The request body as it comes, however large. Only what is asked for is read."""

    def hold(self, size: int) -> None:
        """Count so many bytes more as held for this request. Ends it with 503 if there is no room for them."""

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a complete reply in one packet. Header names are in lower case."""

    def begin(self, status: int, headers: Mapping[str, str], first: bytes) -> None:
        """Send status, headers and the first bytes of a reply whose end is not known yet, in one packet."""

    async def write(self, data: bytes) -> None:
        """Send more of it; waits while the caller does not read."""

    def push(self, data: bytes) -> None:
        """Send more of it without waiting; `watch_flow` tells when to stop pushing."""

    def delivery_of_chunks(self) -> Delivery | None:
        """What `push` does, for chunks that have their frame already; None if this caller is sent none."""

    def watch_flow(self, on_full: Callable[[], None] | None, on_ready: Callable[[], None] | None) -> None:
        """Be told when the caller does not read what was pushed, and when it does again. None ends that."""

    async def end(self, last: bytes = b"") -> None:
        """End a begun reply cleanly, with these as its last bytes."""

    def cut(self) -> None:
        """Break the connection, so that the caller sees that the reply is not complete."""
