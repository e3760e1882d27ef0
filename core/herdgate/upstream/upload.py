"""Sending a request whose body is large or comes piece by piece."""

import asyncio
from collections.abc import AsyncGenerator

import httpx

from herdgate.upstream.connection import Connection
from herdgate.upstream.request import OutgoingRequest
from herdgate.upstream.stream import BodyStream


async def upload(connection: Connection, stream: BodyStream, request: OutgoingRequest, seconds: float | None) -> None:
    """Send the request; ``seconds`` bounds how long the backend may refuse to take more of it.

    Returns early when the backend answers, or breaks the connection, before it has the whole body: what it said
    is for ``stream`` to tell. Raises ``httpx.WriteTimeout``, ``httpx.LocalProtocolError`` if the body is not as
    long as it was declared, and whatever the body's iterator raises.
    """
    connection.write_part(request.head)
    try:
        async with asyncio.timeout(None) as until_answer:
            stream.when_answered(lambda: until_answer.reschedule(0))
            await _send_body(connection, request, seconds)
    except TimeoutError:
        if not until_answer.expired():
            raise
    finally:
        stream.when_answered(None)


async def _send_body(connection: Connection, request: OutgoingRequest, seconds: float | None) -> None:
    sent = 0
    parts = aiter(httpx.ByteStream(request.body) if isinstance(request.body, bytes) else request.body)
    try:
        async for part in parts:
            sent += len(part)
            if request.length is not None and sent > request.length:
                raise httpx.LocalProtocolError(f"the body is longer than its Content-Length of {request.length}")
            for piece in request.frame(part):
                connection.write_part(piece)
                await connection.drain(seconds)
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
    if request.length is not None and sent < request.length:
        raise httpx.LocalProtocolError(f"the body has {sent} bytes, its Content-Length says {request.length}")
    if not connection.is_closing():
        connection.write(request.last_bytes)
