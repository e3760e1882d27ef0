"""`proxyctl config`: are the settings right, and what is in effect?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
from pydantic import BaseModel

from herdgate.cli.options import config_option, json_option, settings_of
from herdgate.cli.output import cells, count, print_json, print_table, table
from herdgate.config import ConfigError, PluginEntry, Problem, Settings, describe
from herdgate.plugins import load_plugins
from herdgate.startup import EXIT_CODE


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
    settings, problems = _checked(config)
    notices = settings.notices if settings else ()
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
        click.echo(f"ok: {_summary(settings)}")
    if not as_json:
        for notice in notices:
            click.echo(f"notice: {notice}")
    ctx.exit(EXIT_CODE if problems else 0)


def _checked(config: str | None) -> tuple[Settings | None, tuple[Problem, ...]]:
    """The settings, if they can be read, and all problems, those of the plugins included."""
    settings: Settings | None = None
    plugins: Sequence[PluginEntry]
    problems: list[Problem] = []
    try:
        settings = settings_of(config)
        plugins = settings.plugins
    except ConfigError as error:
        problems.extend(error.problems)
        plugins = error.plugins
    try:
        load_plugins(plugins)
    except ConfigError as error:
        problems.extend(error.problems)
    return settings, ConfigError(problems).problems


def _summary(settings: Settings) -> str:
    backends = count(sum(backend.enabled for backend in settings.backends), "backend")
    source = settings.file or "no plugins.toml"
    return (
        f"{backends}, {count(len(settings.plugins), 'plugin')}, "
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
