"""Heavy client libraries in front of a gateway, each as a program of its own, with what it installs for itself.

Not a part of `make test`: `make clients` installs them and runs this. Each program asserts what it gets and prints it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from herdgate.testing.faults import Cut, Events
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimModel, SimulatedOllama

pytestmark = [pytest.mark.clients, pytest.mark.timeout(180)]

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv" / "clients" / "bin" / "python"
WITHIN = 150.0
PROGRAMS = {
    "litellm_client.py": (PYTHON, 12),
    "langchain_client.py": (PYTHON, 7),
    "llama_index_client.py": (PYTHON, 6),
    "ollama_client.mjs": (Path(shutil.which("node") or "/no/node"), 7),
}
"""What runs each program, and how many lines it prints at least."""

CALLS = [
    {"id": "call_1", "index": 0, "type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
]
NATIVE_CALL = {
    "model": "tools",
    "created_at": "2026-01-02T03:04:05Z",
    "message": {"role": "assistant", "content": "", "tool_calls": CALLS},
    "done": True,
    "done_reason": "stop",
}
CALLED = [{**CALLS[0], "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}]
OPENAI_CALL = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "tools",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "", "tool_calls": CALLED},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def model_server() -> SimulatedOllama:
    vectors = SimModel("nomic-embed-text", capabilities=("embedding",))
    server = SimulatedOllama(name="first", models=["llama3.2", "tools", "breaks", vectors])
    line = json.dumps(NATIVE_CALL).encode() + b"\n"
    server.script("/api/chat", Events((line,)), times=None, model="tools")
    server.script("/v1/chat/completions", Events((json.dumps(OPENAI_CALL).encode(),)), times=None, model="tools")
    server.script("/api/chat", Cut(after=2), times=None, model="breaks")
    return server


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_client_finds_what_it_expects(program: str) -> None:
    runner, lines = PROGRAMS[program]
    if not runner.exists():
        pytest.fail(f"{runner} is missing: run this with `make clients`")
    async with model_server() as first, running_gateway(first) as gateway:
        key = (await gateway.make_key("*"))["authorization"].removeprefix("Bearer ")
        quiet = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "NO_PROXY": "127.0.0.1"}
        process = await asyncio.create_subprocess_exec(
            runner, HERE / program, gateway.url, key, stdout=-1, stderr=-1, env=quiet, cwd=HERE
        )
        try:
            async with asyncio.timeout(WITHIN):
                said, complained = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    sys.stdout.write(f"\n--- {program}\n{said.decode()}")
    assert process.returncode == 0, complained.decode()[-3000:]
    assert said.count(b"\n") >= lines
