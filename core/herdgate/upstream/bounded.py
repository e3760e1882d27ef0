"""A transport for questions whose answers are read as a whole: no backend can fill the memory with one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

ANSWER_LIMIT = 32 * 1024 * 1024
"""Bytes; a list of models takes about one KiB for each."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Another transport, whose answers break off past the limit, unless the request has the extension `unbounded`.

    Closing it leaves that one open for its owner.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`. Reading the answer raises `httpx.ReadError` past the limit.

        A compressed answer, which nobody asked for, is refused: a few bytes of it can be more than fits into memory.
        """
        response = await self._transport.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - what async transports give
        coding = response.headers.get("content-encoding", "identity")
        if coding.strip().lower() not in {"", "identity"}:
            await response.stream.aclose()
            raise httpx.ReadError(f"a compressed answer ({coding:.40}), which was not asked for")
        if not request.extensions.get("unbounded"):
            response.stream = _Bounded(response.stream)
        return response


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = ANSWER_LIMIT
        async for data in self._stream:
            left -= len(data)
            if left < 0:
                raise httpx.ReadError(f"an answer of more than {ANSWER_LIMIT} bytes")
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()
