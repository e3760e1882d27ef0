"""`proxyctl probe`: does routing reach each backend, and what does it find there?"""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.text import Text

from herdgate.cli.digests import differing
from herdgate.cli.discover import Asked, configured
from herdgate.cli.options import config_option, json_option, settings_of, timeout_option
from herdgate.cli.output import cells, clean, console, count, print_json, print_table, table
from herdgate.config import Settings
from herdgate.loop import run

_SHOWN = 12
"""How much of a digest is shown, as `ollama list` does."""


@click.command(name="probe")
@config_option
@timeout_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: str | None, timeout: float, as_json: bool) -> None:
    """Ask each backend with exactly the headers that routing would send.

    Exit code 1 if any backend failed. One that is loading a model cannot say which models are loaded: that is "busy",
    no failure. Nor is it one that backends hold different models under one name, which is marked.
    """
    probed = run(_probe(settings_of(config), timeout))
    if as_json:
        good = all(backend.problem is None for backend in probed)
        versions = [{"model": model, "digests": dict(digests)} for model, digests in differing(probed).items()]
        print_json({"ok": good, "backends": [_as_json(backend) for backend in probed], "differing": versions})
    else:
        _show(probed)
    ctx.exit(1 if any(backend.problem for backend in probed) else 0)


async def _probe(settings: Settings, timeout: float) -> Sequence[Asked]:
    async with configured(settings, timeout) as backends:
        return await backends.each(backends.probe)


def _as_json(backend: Asked) -> dict[str, object]:
    problem = backend.problem
    return {
        "name": backend.settings.name,
        "base_url": backend.settings.base_url,
        "ok": problem is None,
        "cause": problem.cause if problem else None,
        "error": problem.text if problem else None,
        "version": backend.version,
        "latency_ms": None if backend.latency is None else round(backend.latency * 1000, 1),
        "models": None if problem else len(backend.entries),
        "loaded": None if backend.loaded is None else list(backend.loaded),
        "busy": backend.busy,
    }


def _show(probed: Sequence[Asked]) -> None:
    out = console()
    rows = table("BACKEND", "ADDRESS", "STATUS", "VERSION", "LATENCY>", "MODELS>", "LOADED")
    for backend in probed:
        latency = None if backend.latency is None else f"{backend.latency * 1000:.1f} ms"
        models = None if backend.problem else len(backend.entries)
        name, address, *rest = cells(
            backend.settings.name, backend.settings.base_url, backend.version, latency, models, _loaded(backend)
        )
        status = Text("failed", style="red") if backend.problem else Text("ok", style="green")
        rows.add_row(name, address, status, *rest)
    print_table(rows)
    failed = [backend for backend in probed if backend.problem]
    for backend in failed:
        assert backend.problem is not None  # noqa: S101 - that is how they were chosen
        out.print(Text(f"{backend.settings.name}: {clean(backend.problem.text)}", style="red"))
    for model, digests in differing(probed).items():
        held = ", ".join(f"{backend} {digest[:_SHOWN]}" for backend, digest in digests.items())
        out.print(Text(clean(f"{model}: the backends hold different models under this name: {held}"), style="yellow"))
    if failed:
        out.print(f"{len(failed)} of {count(len(probed), 'backend')} failed")


def _loaded(backend: Asked) -> str | None:
    if backend.busy:
        return "busy (loading a model)"
    if backend.loaded is None:
        return None
    return ", ".join(backend.loaded) or "none"
