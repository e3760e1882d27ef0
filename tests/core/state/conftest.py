import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from herdgate.state import State, open_state
from herdgate.testing.redis_server import RedisServer

RunPython = Callable[..., Awaitable[str]]


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest.fixture
async def redis_state(redis_server: RedisServer) -> AsyncIterator[State]:
    state = await open_state(redis_server.url)
    yield state
    await state.close()


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on the way" / "herdgate.db"


@pytest.fixture
async def sqlite_state(sqlite_path: Path) -> AsyncIterator[State]:
    state = await open_state(f"sqlite://{sqlite_path}")
    yield state
    await state.close()


@pytest.fixture
def run_python() -> RunPython:
    """Run a program in a process of its own and return what it printed."""

    async def run(code: str, *arguments: object) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, *map(str, arguments), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode()

    return run
