"""`proxyctl rm`: delete a model from the backends that have it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import click

from herdgate.cli.discover import configured
from herdgate.cli.managing import Holder, NotDone, asked_who_has, chosen, model_name, tell
from herdgate.cli.options import backend_option, config_option, json_option, settings_of, timeout_option
from herdgate.cli.output import clean, print_json
from herdgate.config import Settings
from herdgate.loop import run
from herdgate.names import ModelName


@click.command(name="rm")
@click.argument("model")
@backend_option
@config_option
@timeout_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, model: str, backend: tuple[str, ...], config: str | None, timeout: float, as_json: bool
) -> None:
    """Delete MODEL from the backends that have it, or from those that are named.

    The backends are asked directly; no gateway needs to run. Exit code 1 if no backend has the model, if one could not
    be asked, or if one did not delete it.
    """
    name = model_name(model)
    ends = run(_remove(settings_of(config), name, model, backend, timeout))
    good = any(end.removed for end in ends) and not any(end.error for end in ends)
    if as_json:
        print_json({"model": name.display, "ok": good, "backends": [end.as_json() for end in ends]})
    else:
        for end in ends:
            said = "deleted" if end.error is None else f"failed: {clean(end.error)}"
            click.echo(f"{end.backend}: {said}")
        if not ends:
            click.echo(f"no backend has {name.display}")
    ctx.exit(0 if good else 1)


@dataclass(frozen=True, slots=True)
class _End:
    backend: str
    error: str | None = None

    @property
    def removed(self) -> bool:
        return self.error is None

    def as_json(self) -> dict[str, object]:
        return {"name": self.backend, "removed": self.removed, "error": self.error}


async def _remove(settings: Settings, name: ModelName, text: str, names: tuple[str, ...], timeout: float) -> list[_End]:
    async with configured(settings, timeout) as backends:
        holders, failed = await asked_who_has(backends, chosen(backends, names), name)

        async def one(holder: Holder) -> _End:
            try:
                await tell(holder.upstream, "DELETE", "/api/delete", {"model": text})
            except NotDone as error:
                return _End(holder.upstream.backend.name, str(error))
            return _End(holder.upstream.backend.name)

        ends = await asyncio.gather(*map(one, holders))
        return [*ends, *(_End(asked.settings.name, asked.problem.text) for asked in failed if asked.problem)]
