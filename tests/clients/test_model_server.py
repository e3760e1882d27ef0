"""A real model server behind a gateway: `transformers serve` with a small Llama of random weights.

Not a part of `make test`: `make modelserver` installs it (with PyTorch, some gigabytes) and runs this. It is no
Ollama: a plugin says which models it has, and it is asked in the dialect of OpenAI.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.stories.conftest import BUILT_IN

from herdgate.testing.gateway import running_gateway, until

pytestmark = [pytest.mark.model_server, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
BIN = HERE.parents[1] / ".venv" / "transformers" / "bin"
MODEL = "tiny-llama"
QUIET = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
LISTS = f"""
from herdgate import ModelEntry, hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    async def list_models(self, client):
        (await client.get("/v1/models")).raise_for_status()
        return [ModelEntry.from_tags({{"name": "{MODEL}"}})]
"""


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[str]:
    """A model server that has the model; it takes the model's name for a folder beside it."""
    if not (BIN / "transformers").exists():
        pytest.fail(f"{BIN} is missing: run this with `make modelserver`")
    made = await asyncio.create_subprocess_exec(
        BIN / "python", HERE / "tiny_llama.py", directory / MODEL, env={**QUIET, "HOME": str(directory)}
    )
    assert await made.wait() == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    server = await asyncio.create_subprocess_exec(
        BIN / "transformers", *command, cwd=directory, env={**QUIET, "HOME": str(directory)}, stdout=-3, stderr=-3
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await until(lambda: answers(url), within=120)
        yield url
    finally:
        server.terminate()
        await server.wait()


async def answers(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url) as client:
        try:
            return (await client.get("/health")).is_success
        except httpx.HTTPError:
            return False


async def read_into(chunks: list[Any], stream: Any) -> None:
    async for chunk in stream:
        chunks.append(chunk)  # noqa: PERF401 - what came before an error counts


async def test_a_real_model_answers_through_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "extra.py").write_text(LISTS)
    listed = BUILT_IN.replace('use = "ollama_discovery"', 'use = "./extra.py:Extra"')
    async with (
        serving(tmp_path) as url,
        running_gateway({"name": "real", "base_url": url}, toml=listed, directory=tmp_path) as gateway,
    ):
        await gateway.knows(f"{MODEL}:latest")
        key = (await gateway.make_key(MODEL))["authorization"].removeprefix("Bearer ")
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            assert [model.id async for model in client.models.list()] == [f"{MODEL}:latest"]
            asking: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 6}
            chat = client.chat.completions.create
            whole = await chat(**asking)
            assert (whole.model, whole.usage.completion_tokens) == (MODEL, 6)
            chunks: list[Any] = []
            # It ends its streams without [DONE], which the gateway cannot tell from an error that was swallowed.
            with pytest.raises(openai.APIError, match="ended before it was complete"):
                await read_into(chunks, await chat(**asking, stream=True))
            assert chunks[-1].choices[0].finish_reason == "length"
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            with pytest.raises(openai.PermissionDeniedError):
                await chat(**{**asking, "model": "no-such-model"})
