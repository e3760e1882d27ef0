"""`proxyctl show`: what the backends say of a model, and whether they all have the same one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from herdgate.backend import ModelEntry
from herdgate.cli.discover import Asked, configured
from herdgate.cli.managing import Holder, NotDone, asked_who_has, chosen, model_name, tell
from herdgate.cli.options import backend_option, config_option, json_option, settings_of, timeout_option
from herdgate.cli.output import cells, clean, console, print_json, print_table, size, table
from herdgate.config import Settings
from herdgate.loop import run
from herdgate.names import ModelName


@click.command(name="show")
@click.argument("model")
@backend_option
@config_option
@timeout_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, model: str, backend: tuple[str, ...], config: str | None, timeout: float, as_json: bool
) -> None:
    """Ask every backend, or those that are named, what it knows of MODEL.

    Exit code 1 if no backend has the model, or if one could not be asked.
    """
    name = model_name(model)
    shown, failed = run(_ask(settings_of(config), name, model, backend, timeout))
    if as_json:
        print_json(
            {
                "model": name.display,
                "backends": [each.as_json() for each in shown],
                "failed": [{"name": each.settings.name, "error": each.problem.text} for each in failed if each.problem],
            }
        )
    else:
        _print(name, shown, failed)
    ctx.exit(0 if shown and not failed and not any(each.error for each in shown) else 1)


@dataclass(frozen=True, slots=True)
class _Shown:
    backend: str
    entry: ModelEntry
    said: dict[str, Any]
    error: str | None = None

    def detail(self, key: str) -> object:
        details = self.said.get("details") or self.entry.raw.get("details")
        return details.get(key) if isinstance(details, dict) else None

    @property
    def context(self) -> object:
        """The longest context that the model was made for."""
        info = self.said.get("model_info")
        found = (
            [value for key, value in info.items() if key.endswith(".context_length")] if isinstance(info, dict) else []
        )
        return found[0] if found else None

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.backend,
            "digest": self.entry.digest,
            "size": self.entry.size,
            "modified_at": self.entry.modified_at,
            "error": self.error,
            "show": self.said,
        }


async def _ask(
    settings: Settings, name: ModelName, text: str, names: tuple[str, ...], timeout: float
) -> tuple[list[_Shown], list[Asked]]:
    async with configured(settings, timeout) as backends:
        holders, failed = await asked_who_has(backends, chosen(backends, names), name)
        return await asyncio.gather(*(_one(holder, name, text, timeout) for holder in holders)), failed


async def _one(holder: Holder, name: ModelName, text: str, timeout: float) -> _Shown:
    backend = holder.upstream.backend.name
    entry = next(entry for entry in holder.asked.entries if entry.name.key == name.key)
    try:
        async with asyncio.timeout(timeout):
            said = json.loads(await tell(holder.upstream, "POST", "/api/show", {"model": text}))
        return _Shown(backend, entry, said if isinstance(said, dict) else {})
    except (NotDone, TimeoutError, ValueError) as error:
        return _Shown(backend, entry, {}, str(error) or f"no answer within {timeout:g} s")


def _print(name: ModelName, shown: list[_Shown], failed: list[Asked]) -> None:
    out = console()
    if shown:
        rows = table("BACKEND", "DIGEST", "SIZE>", "PARAMETERS>", "QUANTISATION", "CONTEXT>", "CAPABILITIES")
        for each in shown:
            rows.add_row(
                *cells(
                    each.backend,
                    each.entry.digest[:12],
                    size(each.entry.size),
                    each.detail("parameter_size"),
                    each.detail("quantization_level"),
                    each.context,
                    each.said.get("capabilities"),
                )
            )
        print_table(rows)
    else:
        out.print(f"no backend has {name.display}")
    if len({each.entry.digest for each in shown}) > 1:
        out.print(Text("the backends do not have the same version of it: their digests differ", style="yellow"))
    for each in shown:
        if each.error:
            out.print(Text(f"{each.backend}: {clean(each.error)}", style="red"))
    for asked in failed:
        if asked.problem:
            out.print(Text(f"{asked.settings.name}: {clean(asked.problem.text)}", style="red"))
