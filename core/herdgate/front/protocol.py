"""Sanic's HTTP protocol, with what the gateway needs of a connection beside it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from sanic import Request
from sanic.server import HttpProtocol


class GatewayRequest(Request):
    """Sanic's request, which can be made for every refusal.

    To refuse what it could not read, Sanic makes a request of the method NONE, and fails again if what it could not
    read was the address.
    """

    def __init__(self, url_bytes: bytes, headers: Any, version: str, method: str, *rest: Any, **more: Any) -> None:
        super().__init__(b"*" if method == "NONE" else url_bytes, headers, version, method, *rest, **more)


class GatewayProtocol(HttpProtocol):
    """One connection of a caller.

    Requests go straight to the gateway's handler: it answers every path itself, so that Sanic's router, signals and
    middleware would only take their time.
    """

    __slots__ = ("_on_full", "_on_ready")

    def _setup(self) -> None:
        super()._setup()  # type: ignore[no-untyped-call]
        self.request_handler = self.app.ctx.handle
        self.request_class = GatewayRequest
        self._on_full: Callable[[], None] | None = None
        self._on_ready: Callable[[], None] | None = None

    def connection_made(self, transport: Any) -> None:
        """Have every write sent at once: the end of a reply must not wait for the caller to acknowledge its
        beginning.
        """
        super().connection_made(transport)  # type: ignore[no-untyped-call]
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
            with contextlib.suppress(OSError):  # already gone
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def watch_flow(self, on_full: Callable[[], None] | None, on_ready: Callable[[], None] | None) -> None:
        """Be told when the caller does not read what was written, and when it does again; None ends that."""
        self._on_full, self._on_ready = on_full, on_ready
        if on_full is not None and not self._can_write.is_set():
            on_full()

    def pause_writing(self) -> None:
        """The caller's socket is full."""
        super().pause_writing()  # type: ignore[no-untyped-call]
        if self._on_full is not None:
            self._on_full()

    def resume_writing(self) -> None:
        """The caller reads again, or has left."""
        super().resume_writing()  # type: ignore[no-untyped-call]
        if self._on_ready is not None:
            self._on_ready()
