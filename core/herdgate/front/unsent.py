"""How much of what was written to a caller it has not taken yet."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that wait in this process, and those that the system holds for the caller.

    The system holds megabytes and takes more only when most of them are gone, so that a caller who reads all the time
    would often seem to take nothing.
    """
    size = transport.get_write_buffer_size()
    with contextlib.suppress(OSError):  # a system, or a kind of socket, that does not tell
        sock = transport.get_extra_info("socket")
        (held,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        size += held
    return size
