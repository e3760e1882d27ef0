"""Bodies compressed with zstd: read here, because what is decided on must be what the backend reads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from herdgate.body import BadBody

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

LIMIT = 20 * 1024 * 1024
"""The largest body after decompression, in bytes: Ollama takes no more either."""
_STEP = 1024 * 1024
_WINDOW: dict[int, int] = {DecompressionParameter.window_log_max: 23}  # 8 MiB, what RFC 9659 allows on the web


class TooMuch(Exception):  # noqa: N818 - an answer to the caller
    """The body is larger than the limit once it is decompressed."""


async def inflated(raw: bytes, limit: int, hold: Callable[[int], None]) -> bytes:
    """The content of one zstd frame.

    Made in steps, so that a body that grows without measure is noticed early and nobody else waits for it. `hold` is
    told of each step's bytes and may raise. Raises TooMuch past `limit` bytes, BadBody for anything but one frame.
    """
    decompressor = ZstdDecompressor(options=_WINDOW)
    parts: list[bytes] = []
    size = 0
    data = raw
    try:
        while not decompressor.eof:
            part = decompressor.decompress(data, max_length=_STEP)
            data = b""
            size += len(part)
            if size > limit:
                raise TooMuch
            if not part and decompressor.needs_input:
                raise BadBody("the compressed request body ends too early")
            hold(len(part))
            parts.append(part)
            await asyncio.sleep(0)
    except ZstdError:
        raise BadBody("the request body is not valid zstd") from None
    if decompressor.unused_data:
        raise BadBody("the request body has more than one zstd frame")
    return b"".join(parts)
