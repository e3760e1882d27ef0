"""Opening a connection, and leaving no socket behind when that fails or is cancelled."""

import asyncio
import ssl

import httpx

from herdgate.upstream.connection import Connection
from herdgate.upstream.errors import connect_error


async def connect(connection: Connection, tls: ssl.SSLContext | None, seconds: float | None) -> None:
    """Open ``connection`` within this time, TLS handshake included.

    TCP and TLS are two steps so that the lower transport is at hand to be cut when the handshake is cancelled: an
    event loop that closes the upper one waits for the server's farewell if the handshake had just succeeded. Raises
    ``httpx.ConnectError`` or ``httpx.ConnectTimeout``.
    """
    origin = connection.origin
    try:
        async with asyncio.timeout(seconds) as deadline:
            transport, _ = await connection.loop.create_connection(lambda: connection, origin.host, origin.port)
            if tls is not None:
                transport = await _secure(connection, transport, tls)
    except TimeoutError as error:
        within = f" within {seconds:g} s" if deadline.expired() else ": the system gave up"
        raise httpx.ConnectTimeout(f"no connection to {origin}{within}") from error
    except (OSError, UnicodeError) as error:
        raise connect_error(origin, error) from error
    if not connection.opened(transport):
        raise httpx.ConnectError(f"{origin} accepted the connection and closed it, or spoke first")


async def _secure(connection: Connection, lower: asyncio.Transport, tls: ssl.SSLContext) -> asyncio.Transport:
    name = connection.origin.tls_name
    try:
        secured = await connection.loop.start_tls(lower, connection, tls, server_hostname=name)
        if secured is None:
            raise ConnectionResetError
    except ConnectionError as error:
        lower.abort()
        raise ssl.SSLEOFError("closed during the handshake") from error
    except BaseException:
        lower.abort()
        raise
    return secured
