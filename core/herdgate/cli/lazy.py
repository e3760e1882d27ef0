"""A click group that imports a command when it is run, and turns known errors into one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from traceback import walk_tb
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

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program. Output that cannot be written is one message, too; click sees to readers that are gone."""
        try:
            return super().main(*args, **options)
        except OSError as error:
            if not _gave_up_output() and not _is_of_output(error):
                raise
            click.echo(f"Error: the output cannot be written: {error.strerror or error}", err=True)
            sys.exit(1)

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


def _gave_up_output() -> bool:
    """Whether stdout or stderr takes nothing more, such as on a full disk. What is left for it then goes nowhere:
    Python would try once more at its end, and fail with words of its own.
    """
    given_up = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            given_up = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return given_up


def _is_of_output(error: OSError) -> bool:
    """Whether it comes from a write of those that commands print with; if nothing is buffered, nothing is left."""
    *_, innermost = (frame for frame, _ in walk_tb(error.__traceback__))
    return innermost.f_globals["__name__"].partition(".")[0] in {"click", "rich"}
