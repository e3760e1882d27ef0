"""`proxyctl pull`: have backends fetch a model, all at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from herdgate.cli.discover import Backends, configured
from herdgate.cli.failures import BadUsage
from herdgate.cli.managing import NotDone, asked_who_has, chosen, model_name, work
from herdgate.cli.options import backend_option, config_option, json_option, settings_of, timeout_option
from herdgate.cli.output import clean, console, print_json
from herdgate.config import Settings
from herdgate.loop import run
from herdgate.names import ModelName
from herdgate.upstream.client import Upstream


@click.command(name="pull")
@click.argument("model")
@backend_option
@click.option("--all", "everywhere", is_flag=True, help="Pull to every backend.")
@click.option("--insecure", is_flag=True, help="Let the backends fetch it without TLS.")
@config_option
@timeout_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    backend: tuple[str, ...],
    everywhere: bool,
    insecure: bool,
    config: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Have backends pull MODEL: those that are named, else those that have it already, else the first one.

    The backends are asked directly; no gateway needs to run. Ctrl-C ends the pull, the next one goes on from there.
    Exit code 1 if any backend failed.
    """
    if backend and everywhere:
        raise BadUsage("give --backend or --all, not both")
    wanted = _Wanted(model_name(model), model, backend, everywhere, insecure)
    pulls = run(_pull(settings_of(config), wanted, timeout, quiet=as_json))
    if as_json:
        print_json({"model": wanted.name.display, "ok": _good(pulls), "backends": [each.as_json() for each in pulls]})
    ctx.exit(0 if _good(pulls) else 1)


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: ModelName
    text: str
    backends: tuple[str, ...]
    everywhere: bool
    insecure: bool


@dataclass(slots=True)
class Pull:
    """How far one backend is. `layers` are bytes to come and bytes that are there, by digest."""

    backend: str
    status: str = "waiting"
    error: str | None = None
    done: bool = False
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def hear(self, said: Mapping[str, object]) -> None:
        """Take in one line of what the backend says."""
        self.status = str(said.get("status", self.status))
        digest, total, completed = said.get("digest"), said.get("total"), said.get("completed", 0)
        if isinstance(digest, str) and isinstance(total, int) and isinstance(completed, int):
            self.layers[digest] = total, completed

    @property
    def total(self) -> int:
        """Bytes of all layers that the backend has spoken of."""
        return sum(total for total, _ in self.layers.values())

    @property
    def completed(self) -> int:
        """Bytes that are there."""
        return sum(completed for _, completed in self.layers.values())

    def as_json(self) -> dict[str, object]:
        """The end of it, for programs."""
        return {"name": self.backend, "ok": self.done, "error": self.error, "bytes": self.completed}


class Display(Protocol):
    """Where a pull is shown."""

    def __enter__(self) -> object: ...

    def __exit__(self, *raised: object) -> None: ...

    def show(self, pull: Pull) -> None:
        """One backend has come further."""


class Nowhere:
    """For programs, which read the end of it."""

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, *raised: object) -> None:
        """Nothing to take down."""

    def show(self, pull: Pull) -> None:
        """Nothing to show."""


class Lines(Nowhere):
    """For what is no terminal: one line for each new status of a backend."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def show(self, pull: Pull) -> None:
        """Print what is new."""
        text = f"failed: {clean(pull.error)}" if pull.error else clean(pull.status)
        if self._shown.get(pull.backend) != text:
            self._shown[pull.backend] = text
            click.echo(f"{pull.backend}: {text}")


class Bars:
    """For a terminal: a bar for each backend, with its speed and the time that is left."""

    def __init__(self, pulls: Sequence[Pull]) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[backend]}", style="bold"),
            TextColumn("{task.fields[status]}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console(),
        )
        self._tasks = {
            pull.backend: self._progress.add_task("", total=None, backend=pull.backend, status=pull.status)
            for pull in pulls
        }

    def __enter__(self) -> None:
        """Take the terminal's last lines."""
        self._progress.start()

    def __exit__(self, *raised: object) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def show(self, pull: Pull) -> None:
        """Move one bar."""
        task = self._tasks[pull.backend]
        self._progress.update(task, total=pull.total or None, completed=pull.completed, status=clean(pull.status))
        if pull.error:
            self._progress.update(task, status="failed")
            self._progress.console.print(Text(f"{pull.backend}: {clean(pull.error)}", style="red"))


async def _pull(settings: Settings, wanted: _Wanted, timeout: float, *, quiet: bool) -> list[Pull]:
    async with configured(settings, timeout) as backends:
        upstreams = await _targets(backends, wanted)
        pulls = [Pull(upstream.backend.name) for upstream in upstreams]
        display: Display = Nowhere() if quiet else Bars(pulls) if console().is_terminal else Lines()
        with display:
            await asyncio.gather(
                *(_one(upstream, wanted, each, display) for upstream, each in zip(upstreams, pulls, strict=True))
            )
        return pulls


async def _targets(backends: Backends, wanted: _Wanted) -> list[Upstream]:
    upstreams = chosen(backends, wanted.backends)
    if wanted.backends or wanted.everywhere:
        return upstreams
    holders, _ = await asked_who_has(backends, upstreams, wanted.name)
    return [holder.upstream for holder in holders] or upstreams[:1]


async def _one(upstream: Upstream, wanted: _Wanted, pull: Pull, display: Display) -> None:
    body: dict[str, object] = {"model": wanted.text, "insecure": wanted.insecure, "stream": True}
    try:
        async with aclosing(work(upstream, "/api/pull", body)) as steps:
            async for said in steps:
                pull.hear(said)
                display.show(pull)
        pull.done = True
    except NotDone as error:
        pull.error = str(error)
        display.show(pull)


def _good(pulls: Sequence[Pull]) -> bool:
    return bool(pulls) and all(pull.done for pull in pulls)
