"""An address that neither takes nor refuses connections."""

import asyncio

import httpx
import pytest

from herdgate.testing.unreachable import Unreachable


async def test_connecting_takes_until_the_deadline_every_time() -> None:
    async with Unreachable() as nowhere, httpx.AsyncClient(timeout=httpx.Timeout(5, connect=0.2)) as client:
        for _ in range(3):
            started = asyncio.get_running_loop().time()
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(nowhere.url)
            assert asyncio.get_running_loop().time() - started >= 0.2
        url = nowhere.url
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
