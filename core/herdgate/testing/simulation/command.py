"""A simulated Ollama as a process of its own: ``python -m herdgate.testing.simulated``."""

import asyncio
import signal

import click

from herdgate.names import InvalidModelName
from herdgate.testing.simulated import SimulatedOllama
from herdgate.testing.simulation.port import Port


@click.command()
@click.option("--name", default="simulated", show_default=True, help="Name that appears in every reply.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port to listen on; 0: any free one.")
@click.option("--model", "models", multiple=True, default=("llama3.2",), help="A model it has; may be repeated.")
@click.option("--pace", default=0.05, show_default=True, help="Seconds between two words of a stream.")
def main(name: str, host: str, port: int, models: tuple[str, ...], pace: float) -> None:
    """Simulate an Ollama server: no model runs, each reply is made up. Stops at SIGTERM or Ctrl-C."""
    try:
        backend = SimulatedOllama(name, models, Port(host, port), pace=pace)
    except InvalidModelName as error:
        raise click.BadParameter(str(error), param_hint="--model") from None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--host") from None
    try:
        asyncio.run(_run(backend))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def run() -> None:
    """Read the command line and do what it says."""
    main()


async def _run(backend: SimulatedOllama) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with backend:
        names = ", ".join(model.display for model in backend.models)
        click.echo(
            f"SIMULATED OLLAMA {backend.name} at {backend.url} (no real model; made-up replies), models: {names}"
        )
        await stop.wait()
