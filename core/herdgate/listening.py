"""A listening socket, and how a server leaves it without losing who has just come."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress

from herdgate.app import CannotStart

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel lowers it to its own limit."""
_UNPRIVILEGED = 1024


def listen(host: str, port: int, *, company: bool = False) -> socket.socket:
    """A listening socket, bound here so that a port in use is one clear message. Raises CannotStart.

    `company` lets further sockets of this user that say so, too, have the same port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The protocol must be named: asyncio switches Nagle's algorithm off only on sockets that say that they are TCP.
        listener = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if company:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotStart(f"cannot listen on {host} port {port}: {error.strerror}.{_hint(error, port)}") from error
    return listener


def _hint(error: OSError, port: int) -> str:
    other_port = "HERDGATE_PORT or --port chooses another one."
    match error.errno:
        case errno.EADDRINUSE:
            return f" Is another program using it? {other_port}"
        case errno.EACCES if port < _UNPRIVILEGED:
            return f" Ports below {_UNPRIVILEGED} need a privilege. {other_port}"
        case errno.EADDRNOTAVAIL:
            return " No interface here has this address. HERDGATE_HOST or --host chooses another one."
        case _:
            return ""


async def stop_accepting(server: asyncio.Server) -> None:
    """Close a server of the running loop, once the protocols of all whom it had accepted know of their connections.

    asyncio's own loop makes a connection in the turn after it was accepted, and tells its protocol in the next one. A
    server that is closed by then fails to make it, and nobody closes the socket: the caller would wait for ever
    (CPython 3.11 to 3.13, `_SelectorTransport.__init__`).
    """
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError):  # a loop without selectors accepts in another way
        for listener in server.sockets:
            loop.remove_reader(listener)
    try:
        for _ in range(2):
            await asyncio.sleep(0)
    finally:
        server.close()
