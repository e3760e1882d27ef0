"""`proxyctl demo`: two simulated backends and the gateway in front of them, to be tried out."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from herdgate import logs
from herdgate.app import CannotStart
from herdgate.config import Settings, load
from herdgate.descriptors import fill_standard
from herdgate.listening import listen
from herdgate.loop import run
from herdgate.process import STOP_SIGNALS
from herdgate.server import Gateway

MODEL = "llama3.2"
"""The model that both backends have."""
_BACKENDS = {"sim-one": (MODEL, "qwen3:8b"), "sim-two": (MODEL, "gemma3:4b")}
_PACE = 0.1
"""Seconds between two words of a reply, so that one sees it stream."""
_START_WITHIN = 20.0
_STOP_WITHIN = 3.0


@click.command(name="demo")
@click.option("--port", default="11435", show_default=True, metavar="PORT", help="Port for the gateway.")
def command(port: str) -> None:
    """Start two simulated Ollama backends and the gateway on 127.0.0.1, and print what to try.

    No model runs and nothing is kept; your own .env and plugins.toml are left alone. Ctrl-C stops everything.
    """
    fill_standard()
    with tempfile.TemporaryDirectory(prefix="herdgate-demo-") as directory:
        run(_until_signalled(port, Path(directory)))


@dataclass(frozen=True)
class _Simulated:
    name: str
    models: tuple[str, ...]
    url: str
    process: Process


async def _until_signalled(port: str, directory: Path) -> None:
    demo = asyncio.create_task(_demo(port, directory))
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, demo.cancel)
    await asyncio.wait([demo])
    if demo.cancelled():
        click.echo("\nStopped.")
    else:
        demo.result()


async def _demo(port: str, directory: Path) -> None:
    """Run until cancelled. Raises what a gateway's start raises."""
    listener = listen("127.0.0.1", _settings(port, directory, ()).server.port)  # before anything else is started
    async with AsyncExitStack() as scope:
        scope.callback(listener.close)
        backends = [await scope.enter_async_context(_simulated(*entry)) for entry in _BACKENDS.items()]
        settings = _settings(port, directory, backends)
        logs.configure(settings)
        gateway = await scope.enter_async_context(Gateway(settings, listener))
        await gateway.runtime.discovery.first_round_over.wait()
        click.echo(_what_to_try(gateway.url, backends))
        await asyncio.gather(*map(_tell_end, backends))
        await asyncio.Event().wait()  # without backends there is still something to see


def _settings(port: str, directory: Path, backends: list[_Simulated] | tuple[()]) -> Settings:
    """Settings from nowhere but here: the directory is empty, and the environment of the user is not looked at."""
    listed = [{"name": backend.name, "base_url": backend.url} for backend in backends]
    environ = {
        "OLLAMA_BACKENDS": json.dumps(listed) if listed else "",
        "HERDGATE_STATE": f"sqlite://{directory / 'herdgate.db'}",
        "HERDGATE_DISCOVERY_INTERVAL": "2",
        "HERDGATE_LOG_FORMAT": "text",
    }
    return load({"port": port}, environ, directory)


@asynccontextmanager
async def _simulated(name: str, models: tuple[str, ...]) -> AsyncIterator[_Simulated]:
    """A simulated backend in a process of its own, so that it can be killed."""
    arguments = [argument for model in models for argument in ("--model", model)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "herdgate.testing.simulated", "--name", name, "--pace", str(_PACE), *arguments),
        stdin=DEVNULL,
        stdout=PIPE,
    )
    try:
        yield _Simulated(name, models, await _address(name, process), process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_WITHIN):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _address(name: str, process: Process) -> str:
    """Where the backend listens: the first line that it prints says so. Raises CannotStart."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        async with asyncio.timeout(_START_WITHIN):
            line = (await process.stdout.readline()).decode()
    except TimeoutError:
        raise CannotStart(f"the simulated backend {name} said nothing within {_START_WITHIN:g} s") from None
    address = re.search(r"http://[\w.:]+", line)
    if address is None:
        raise CannotStart(f"the simulated backend {name} did not start")
    return address[0]


async def _tell_end(backend: _Simulated) -> None:
    await backend.process.wait()
    click.echo(f"\n*** the simulated backend {backend.name} has stopped ***\n")


def _what_to_try(url: str, backends: list[_Simulated]) -> str:
    rows = [
        f"  {backend.name}  {backend.url}  pid {backend.process.pid}  models: {', '.join(backend.models)}"
        for backend in backends
    ]
    message = {"model": MODEL, "messages": [{"role": "user", "content": "Are you there?"}]}
    chat = f"curl -sN {url}/api/chat -d '{json.dumps(message)}'"
    openai = f"curl -s {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{json.dumps(message)}'"
    first, second = backends
    return f"""
Herdgate is ready at {url}, with two SIMULATED backends behind it (no model runs, replies are made up):
{chr(10).join(rows)}

1. The models of both, each once:
   curl -s {url}/api/tags

2. A streamed chat, as Ollama clients ask for it. {first.name} answers:
   {chat}

3. The same as OpenAI clients ask for it:
   {openai}

4. Stop the backend that answered:
   kill {first.process.pid}

5. The same chat again. Now {second.name} answers, and the client has noticed nothing:
   {chat}

Each request is a line in the log below; backend= says who answered, attempts= how many were tried.
Ctrl-C stops everything.
"""
