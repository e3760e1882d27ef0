"""`proxyctl config`: are the settings right, and what is in effect?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
from pydantic import BaseModel

from herdgate.cli.options import config_option, json_option, settings_of
from herdgate.cli.output import cells, count, print_json, print_table, table
from herdgate.config import ConfigError, PluginEntry, Problem, Settings, describe
from herdgate.plugins import Plugin, impls_of, load_plugins
from herdgate.startup import EXIT_CODE

_NEEDED = {
    "backend_sources": "no plugin says which backends there are (backend_sources), as configured_backends does",
    "list_models": "no plugin asks backends for their models (list_models), as ollama_discovery does",
    "authenticate": "no plugin says who a caller is (authenticate), as api_keys does: everybody gets 401",
    "authorise": "no plugin allows anything (authorise), as model_access does: everybody is refused",
}
"""Hooks without which a gateway serves nothing, and what to say where nobody implements them."""
_CONFIGURED = "configured_backends"


@click.group(name="config")
def command() -> None:
    """Check the settings, or show them with where each comes from."""


@command.command()
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, config: str | None, as_json: bool) -> None:
    """Find every mistake in the settings and in the plugins that they list, without starting anything.

    Exit code 2 if there is one.
    """
    settings, plugins, problems = _checked(config)
    notices = (*(settings.notices if settings else ()), *([] if problems else _missing(plugins)))
    if as_json:
        print_json(
            {
                "ok": not problems,
                "problems": [{"where": each.where, "key": each.key, "message": each.message} for each in problems],
                "notices": list(notices),
            }
        )
    elif problems:
        click.echo(f"Error: {ConfigError(problems)}", err=True)
    elif settings:
        click.echo(f"ok: {_summary(settings, plugins)}")
    if not as_json:
        for notice in notices:
            click.echo(f"notice: {notice}")
    ctx.exit(EXIT_CODE if problems else 0)


def _checked(config: str | None) -> tuple[Settings | None, Sequence[Plugin], tuple[Problem, ...]]:
    """The settings and the plugins, if they can be read and loaded, and all problems."""
    settings: Settings | None = None
    entries: Sequence[PluginEntry]
    plugins: Sequence[Plugin] = ()
    problems: list[Problem] = []
    try:
        settings = settings_of(config)
        entries = settings.plugins
    except ConfigError as error:
        problems.extend(error.problems)
        entries = error.plugins
    try:
        plugins = load_plugins(entries)
    except ConfigError as error:
        problems.extend(error.problems)
    return settings, plugins, ConfigError(problems).problems


def _missing(plugins: Sequence[Plugin]) -> list[str]:
    return [notice for hook, notice in _NEEDED.items() if not impls_of(plugins, hook)]


def _backends(settings: Settings, plugins: Sequence[Plugin]) -> str:
    """The backends that the plugins give. What others than the configured ones are, is not known before a start."""
    givers = [impl.plugin for impl in impls_of(plugins, "backend_sources")]
    others = ", ".join(name for name in givers if name != _CONFIGURED)
    if others and _CONFIGURED not in givers:
        return f"the backends of {others}"
    enabled = sum(backend.enabled for backend in settings.backends) if givers else 0
    return count(enabled, "backend") + (f" and those of {others}" if others else "")


def _summary(settings: Settings, plugins: Sequence[Plugin]) -> str:
    source = settings.file or "no plugins.toml"
    return (
        f"{_backends(settings, plugins)}, {count(len(settings.plugins), 'plugin')}, "
        f"listening on {settings.server.host} port {settings.server.port} ({source})"
    )


@command.command()
@config_option
@json_option
def show(config: str | None, as_json: bool) -> None:
    """Show every setting in effect, and where it comes from. Secrets are masked."""
    settings = settings_of(config)
    listed = describe(settings, _models(settings))
    if as_json:
        print_json({"settings": [{"key": row.key, "value": row.value, "origin": row.origin} for row in listed]})
        return
    rows = table("SETTING", "FROM", "VALUE")
    for row in listed:
        rows.add_row(*cells(row.key, row.origin, row.value, style="dim" if row.origin == "default" else ""))
    print_table(rows)


def _models(settings: Settings) -> Mapping[str, type[BaseModel]]:
    """The plugins' own settings models, which know what is secret. A plugin that cannot be loaded has none to ask."""
    models = {}
    for entry in settings.plugins:
        try:
            (plugin,) = load_plugins([entry])
        except ConfigError as error:
            click.echo(f"Warning: {error}", err=True)
            continue
        model = getattr(type(plugin.instance), "Settings", None)
        if model is not None:
            models[entry.use] = model
    return models
