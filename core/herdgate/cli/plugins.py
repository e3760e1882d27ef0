"""`proxyctl plugins`: what runs and in which order, what a hook is, whether a plugin is sound."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import click

from herdgate.cli.failures import BadAnswer, BadUsage
from herdgate.cli.newproject.command import new
from herdgate.cli.options import config_option, json_option, settings_of
from herdgate.cli.output import cells, count, print_json, print_table, table
from herdgate.cli.plugincommands import plugin_commands
from herdgate.cli.pluginfindings import findings
from herdgate.cli.pluginsettings import settings_rows
from herdgate.cli.pluginsleftout import as_json_of, left_out_now, print_left_out
from herdgate.config import ConfigError, PluginEntry
from herdgate.config.problems import suggestion
from herdgate.hooks import INFO, Kind, described, signature_of
from herdgate.loop import run
from herdgate.plugins import Plugin, load_plugins


@click.group(name="plugins")
def command() -> None:
    """See what is loaded and in which order it is asked, learn the hooks, start a plugin, check one."""


command.add_command(new)


@command.command(name="list")
@config_option
@json_option
def list_plugins(config: str | None, as_json: bool) -> None:
    """List the plugins that a gateway with these settings loads, and who is asked in which order.

    Plugins that a running gateway leaves out for a while, because they keep failing, are listed, too.
    """
    settings = settings_of(config)
    plugins = load_plugins(settings.plugins)
    left_out = run(left_out_now(settings))
    order = {hook: [plugin for plugin in plugins if hook in plugin.impls] for hook in INFO}
    if as_json:
        print_json(
            {
                "plugins": [_as_json(plugin) for plugin in plugins],
                "hooks": {hook: [plugin.name for plugin in asked] for hook, asked in order.items()},
                "order": {hook: [_source(plugin) for plugin in asked] for hook, asked in order.items()},
                "quarantine": as_json_of(left_out),
            }
        )
        return
    rows = table("#>", "NAME", "FROM", "VERSION", "LISTED AT", "HOOKS")
    for number, plugin in enumerate(plugins, 1):
        name = f"{plugin.name} (advisory)" if plugin.advisory else plugin.name
        rows.add_row(*cells(number, name, plugin.distribution, plugin.version or None, plugin.origin, _hooks(plugin)))
    print_table(rows)
    click.echo()
    _print_order(order)
    print_left_out(left_out)


@command.command()
@click.argument("name")
@config_option
@json_option
def show(name: str, config: str | None, as_json: bool) -> None:
    """Show one loaded plugin: what it is for, its settings, its hooks. Secrets are masked."""
    loaded = _loaded(config)
    found = [(plugin, entry) for plugin, entry in loaded if plugin.name == name]
    if not found:
        names = [plugin.name for plugin, _ in loaded]
        raise BadAnswer(f"no plugin {name} is loaded; {suggestion(name, names)}")
    plugin, entry = found[0]
    settings = settings_rows(type(plugin.instance), entry)
    about = inspect.getdoc(type(plugin.instance)) or ""
    if as_json:
        print_json(
            {**_as_json(plugin), "use": entry.use, "doc": about, "settings": [row._asdict() for row in settings]}
        )
        return
    click.echo(f"{plugin.name} {plugin.version}".rstrip())
    click.echo(f"from {plugin.distribution}, listed at {plugin.origin} as {entry.use}\n")
    click.echo(f"{about}\n" if about else "(its class has no docstring)\n")
    if settings:
        rows = table("SETTING", "TYPE", "VALUE", "DEFAULT", "MEANING")
        for row in settings:
            rows.add_row(*cells(*row))
        print_table(rows)
    else:
        click.echo("It has no settings.")
    click.echo()
    _print_hooks(_hooks(plugin))


@command.command()
@click.argument("name", required=False)
@json_option
def hooks(name: str | None, as_json: bool) -> None:
    """Explain the hook NAME, or list all of them in the order of a request's way."""
    if name is not None and name not in INFO:
        raise BadUsage(f"there is no hook {name}; {suggestion(name, INFO)}")
    if as_json:
        print_json([_hook_as_json(hook) for hook in INFO] if name is None else _hook_as_json(name))
    elif name is None:
        _print_hooks(list(INFO))
    else:
        _explain(name)


@command.command()
@click.argument("plugin")
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, plugin: str, config: str | None, as_json: bool) -> None:
    """Check one plugin: PLUGIN is a file, ./file.py:Class, package.module:Class, or the name of an entry point.

    A plugin that plugins.toml lists is checked with its settings. Exit code 1 if anything is wrong.
    """
    found = findings(plugin, _listed(config))
    if as_json:
        print_json({"ok": not found.problems, "problems": found.problems, "notes": found.notes})
    else:
        for problem in found.problems:
            click.echo(f"problem: {problem}")
        for note in found.notes:
            click.echo(f"note: {note}")
        click.echo(count(len(found.problems), "problem") if found.problems else "ok")
    ctx.exit(1 if found.problems else 0)


@command.command(name="commands")
@config_option
@json_option
@click.pass_context
def list_commands(ctx: click.Context, config: str | None, as_json: bool) -> None:
    """List the commands that plugins add to proxyctl. Exit code 1 if one had to be left out."""
    group = ctx.find_root().command
    reserved = group.list_commands(ctx) if isinstance(group, click.Group) else ()
    found = plugin_commands(reserved, config)
    listed = [(name, found.owners[name], each.get_short_help_str(80)) for name, each in found.commands.items()]
    if as_json:
        rows = [{"name": name, "plugin": owner, "help": text} for name, owner, text in listed]
        print_json({"commands": rows, "problems": found.problems})
    else:
        lines = table("COMMAND", "PLUGIN", "DOES")
        for row in listed:
            lines.add_row(*cells(*row))
        print_table(lines)
        for problem in found.problems:
            click.echo(problem)
    ctx.exit(1 if found.problems else 0)


def _listed(config: str | None) -> Sequence[PluginEntry]:
    """What plugins.toml lists. Mistakes in it are no reason not to check a plugin, unless it was named."""
    try:
        return settings_of(config).plugins
    except ConfigError as error:
        if config is not None:
            raise
        return error.plugins


def _loaded(config: str | None) -> list[tuple[Plugin, PluginEntry]]:
    entries = settings_of(config).plugins
    return list(zip(load_plugins(entries), entries, strict=True))


def _hooks(plugin: Plugin) -> list[str]:
    return [hook for hook in INFO if hook in plugin.impls]


def _print_order(order: Mapping[str, Sequence[Plugin]]) -> None:
    """Who is asked for each hook, and whose that plugin is: one row each."""
    rows = table("HOOK", "ASKED>", "PLUGIN", "FROM", "VERSION")
    for hook, asked in order.items():
        if not asked:
            rows.add_row(*cells(hook, None, None, None, None))
        for number, plugin in enumerate(asked, 1):
            rows.add_row(
                *cells(hook if number == 1 else "", number, plugin.name, plugin.distribution, plugin.version or None)
            )
    print_table(rows)


def _source(plugin: Plugin) -> dict[str, object]:
    return {"plugin": plugin.name, "distribution": plugin.distribution, "version": plugin.version or None}


def _as_json(plugin: Plugin) -> dict[str, object]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version or None,
        "origin": plugin.origin,
        "advisory": plugin.advisory,
        "hooks": _hooks(plugin),
    }


def _hook_as_json(name: str) -> dict[str, object]:
    info = INFO[name]
    return {
        "name": name,
        "kind": info.kind.name.lower(),
        "arguments": list(signature_of(name)),
        "sync": _must_be_sync(name),
        "advisory": info.advisory,
        "deadline": info.deadline,
        **described(name),
    }


def _must_be_sync(name: str) -> bool:
    return INFO[name].sync or INFO[name].kind in {Kind.CONTEXTS, Kind.GATHER}


def _print_hooks(names: Sequence[str]) -> None:
    rows = table("HOOK", "KIND", "ASKED TO")
    for name in names:
        rows.add_row(*cells(name, INFO[name].kind.name.lower(), described(name)["summary"]))
    print_table(rows)


def _explain(name: str) -> None:
    parts, info = described(name), INFO[name]
    click.echo(f"{name}({', '.join(signature_of(name))})\n\n{parts['summary']}\n")
    rows = table("", "")
    rows.show_header = False
    for label, value in (
        ("Kind", info.kind.value),
        ("When", parts.get("when")),
        ("Returns", parts.get("returns")),
        ("None", parts.get("none")),
        ("On a fault", parts["on_fault"]),
        ("Deadline", f"{info.deadline:g} s"),
        ("async def", "no" if _must_be_sync(name) else "yes"),
    ):
        rows.add_row(*cells(label, value))
    print_table(rows)
    click.echo("\nExample:\n")
    for line in parts["example"].splitlines():
        click.echo(f"    {line}".rstrip())
