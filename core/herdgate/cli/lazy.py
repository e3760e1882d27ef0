"""A click group that imports a command when it is run, and turns known errors into one message."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

INTERRUPTED = 130
"""The exit code of a program that ended by Ctrl-C, as shells give it."""


class LazyGroup(click.Group):
    """Commands by name, each with its module in `herdgate.cli` and one line of help.

    A module has a click command named `command`.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """All names, in the order in which one gets to know them."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command; one that is not known here may be a plugin's."""
        if cmd_name not in self._lazy:
            return self._of_a_plugin(cmd_name)
        module, _ = self._lazy[cmd_name]
        command: click.Command = import_module(f"herdgate.cli.{module}").command
        return command

    def _of_a_plugin(self, name: str) -> click.Command | None:
        from herdgate.cli.plugincommands import plugin_commands  # loads all plugins
        from herdgate.config import ConfigError

        try:
            found = plugin_commands(self._lazy)
        except ConfigError:
            click.echo(
                "No plugin is asked for commands, for the configuration has mistakes: proxyctl config check", err=True
            )
            return None
        for problem in found.problems:
            click.echo(problem, err=True)
        return found.commands.get(name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands for `--help`, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Ctrl-C ends it quietly, an error that is for people with its message alone."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from herdgate.cli.failures import for_people  # the error's module is loaded already

            failed = for_people(error)
            if failed is None:
                raise
            raise failed from error
