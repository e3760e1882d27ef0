"""The simulated backend as a process of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import httpx
import pytest


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "herdgate.testing.simulated", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
async def process() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start("--name", "gpu-7", "--model", "llama3.2", "--model", "qwen3:8b", "--pace", "0")
    yield process
    if process.returncode is None:
        process.kill()
    await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_what_it_is_answers_and_stops(
    process: asyncio.subprocess.Process, number: signal.Signals
) -> None:
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert line.startswith("SIMULATED OLLAMA gpu-7 at http://127.0.0.1:")
    assert line.endswith("models: llama3.2:latest, qwen3:8b\n")
    url = line.split()[4]
    async with httpx.AsyncClient(base_url=url) as client:
        asked = {"model": "qwen3:8b", "prompt": "hi", "stream": False}
        assert "gpu-7" in (await client.post("/api/generate", json=asked)).json()["response"]
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "a b"], b"Invalid value for --model: invalid model name"),
        (["--host", "example.invalid"], b"Invalid value for --host"),
        (["--port", "99999"], b"99999"),
    ],
)
async def test_mistakes_are_told(arguments: list[str], message: bytes) -> None:
    process = await start(*arguments)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert message in err
    assert b"Traceback" not in err


async def test_a_taken_port_is_told() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await start("--port", str(port))
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert err == f"Error: cannot listen on 127.0.0.1, port {port}: Address already in use\n".encode()
    server.close()
    await server.wait_closed()
