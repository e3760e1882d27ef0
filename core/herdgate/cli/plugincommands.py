"""Commands of `proxyctl` that come from plugins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import click

from herdgate.cli.options import settings_of
from herdgate.faults import PluginFault
from herdgate.logs import faults_untold
from herdgate.plugins import load_plugins
from herdgate.points import HookPoints


@dataclass(slots=True)
class PluginCommands:
    """What the listed plugins offer, by name; `owners` are the names of their plugins, `problems` what was left out."""

    commands: dict[str, click.Command] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def take(self, plugin: str, command: click.Command, reserved: Collection[str]) -> None:
        """Add one command, unless something else has its name already."""
        name = command.name
        owner = "proxyctl itself" if name in reserved else self.owners.get(name or "")
        if not name or owner:
            why = f"its command {name} is that of {owner} already" if name else "one of its commands has no name"
            self.problems.append(f"plugin {plugin} failed in register_commands: {why}")
            return
        self.commands[name] = command
        self.owners[name] = plugin


def plugin_commands(reserved: Collection[str], config: str | None = None) -> PluginCommands:
    """Ask every listed plugin for its commands. Raises ConfigError."""
    found = PluginCommands()
    with faults_untold():
        point = HookPoints(load_plugins(settings_of(config).plugins)).register_commands
        for impl in point.impls:
            try:
                for command in point.ask(impl, ()) or ():
                    found.take(impl.plugin, command, reserved)
            except PluginFault as fault:
                found.problems.append(str(fault))
    return found
