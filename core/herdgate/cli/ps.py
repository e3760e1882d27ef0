"""`proxyctl ps`: which models are in the memory of which backend."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from herdgate.backend import ModelEntry
from herdgate.cli.discover import configured
from herdgate.cli.managing import NotDone, chosen, tell
from herdgate.cli.options import backend_option, config_option, json_option, settings_of, timeout_option
from herdgate.cli.output import cells, clean, console, print_json, print_table, size, table
from herdgate.config import Settings
from herdgate.loop import run
from herdgate.upstream.client import Upstream


@click.command(name="ps")
@backend_option
@config_option
@timeout_option
@json_option
@click.pass_context
def command(ctx: click.Context, backend: tuple[str, ...], config: str | None, timeout: float, as_json: bool) -> None:
    """Ask every backend, or those that are named, which models it has loaded.

    An Ollama that is loading a model does not say; that is "busy", no failure. Exit code 1 if any backend failed.
    """
    asked = run(_ask(settings_of(config), backend, timeout))
    if as_json:
        print_json({"backends": [each.as_json() for each in asked]})
    else:
        _show(asked)
    ctx.exit(1 if any(each.error for each in asked) else 0)


@dataclass(frozen=True, slots=True)
class _Loaded:
    backend: str
    models: tuple[dict[str, Any], ...] = ()
    busy: bool = False
    error: str | None = None

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.backend,
            "ok": self.error is None,
            "error": self.error,
            "busy": self.busy,
            "models": list(self.models),
        }


async def _ask(settings: Settings, names: tuple[str, ...], timeout: float) -> list[_Loaded]:
    async with configured(settings, timeout) as backends:
        return await asyncio.gather(*(_one(upstream, timeout) for upstream in chosen(backends, names)))


async def _one(upstream: Upstream, timeout: float) -> _Loaded:
    name = upstream.backend.name
    try:
        async with asyncio.timeout(timeout):
            said = json.loads(await tell(upstream, "GET", "/api/ps", None))
        return _Loaded(name, tuple(_row(raw) for raw in said["models"]))
    except TimeoutError:
        return _Loaded(name, busy=True)
    except NotDone as error:
        return _Loaded(name, error=str(error))
    except (ValueError, KeyError, TypeError):
        return _Loaded(name, error="its answer is not that of an Ollama server")


def _row(raw: Any) -> dict[str, Any]:
    entry = ModelEntry.from_tags(raw)
    return {**raw, "name": entry.name.display, "model": entry.name.display}


def _show(asked: list[_Loaded]) -> None:
    rows = table("BACKEND", "MODEL", "SIZE>", "IN GPU>", "CONTEXT>", "UNTIL")
    for each in asked:
        for model in each.models:
            rows.add_row(*cells(each.backend, model["name"], *_numbers(model), _until(model.get("expires_at"))))
        if not each.models and not each.error:
            rows.add_row(*cells(each.backend, "busy (loading a model)" if each.busy else "none", "", "", "", ""))
    print_table(rows)
    for each in asked:
        if each.error:
            console().print(Text(f"{each.backend}: {clean(each.error)}", style="red"))


def _numbers(model: dict[str, Any]) -> tuple[str | None, str | None, object]:
    whole, in_gpu = model.get("size"), model.get("size_vram")
    if not isinstance(whole, int) or not isinstance(in_gpu, int) or whole <= 0:
        return None, None, model.get("context_length")
    return size(whole), f"{100 * in_gpu / whole:.0f} %", model.get("context_length")


def _until(text: object) -> str | None:
    """When it will be unloaded, in minutes from now; Ollama writes a time in the far future for "never"."""
    try:
        left = (datetime.fromisoformat(str(text)) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    if left > 365 * 86_400:
        return "for ever"
    return "now" if left <= 0 else f"{left / 60:.0f} min" if left >= 60 else f"{left:.0f} s"
