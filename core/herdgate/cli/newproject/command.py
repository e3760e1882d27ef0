"""The command: check the names, write the files, say what to do next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import click

from herdgate.cli.failures import BadAnswer, BadUsage
from herdgate.cli.newproject.writing import Names, files_of
from herdgate.cli.options import json_option
from herdgate.cli.output import print_json
from herdgate.config.problems import suggestion
from herdgate.hooks import INFO
from herdgate.pluginsource import GROUP

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z][a-z0-9]*)*")


@click.command()
@click.argument("name")
@click.option("--hook", required=True, metavar="HOOK", help="What it decides: `proxyctl plugins hooks` lists them.")
@click.option("--directory", metavar="DIR", type=Path, help="Where to write it; by default herdgate-NAME, here.")
@json_option
def new(name: str, hook: str, directory: Path | None, as_json: bool) -> None:
    """Start the plugin NAME: write an installable project with one class, its settings, and tests that pass.

    NAME is made of lower-case words with hyphens between them, such as cheapest-first.
    """
    if not _NAME.fullmatch(name):
        raise BadUsage(f"{name!r} is no name for a plugin; write lower-case words, such as cheapest-first")
    if hook not in INFO:
        raise BadUsage(f"there is no hook {hook}; {suggestion(hook, INFO)}")
    names = Names(name.replace("-", "_"))
    for point in entry_points(group=GROUP, name=names.plugin):
        owner = point.dist.name if point.dist else point.value
        raise BadAnswer(f"{owner} already brings a plugin of the name {names.plugin}: choose another one")
    place = directory or Path(names.distribution)
    files = files_of(names, hook)
    _write(place, files)
    if as_json:
        print_json({"plugin": names.plugin, "directory": str(place), "files": list(files)})
        return
    click.echo(f"{place} is written. Next:\n")
    for line in (f"cd {place}", "pip install .", "pytest", f"proxyctl plugins check {names.plugin}"):
        click.echo(f"    {line}")
    click.echo("\nThen add its entry to plugins.toml: README.md says where.")


def _write(place: Path, files: Mapping[str, str]) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise BadAnswer(f"{place} is not empty: choose another --directory")
        for path, text in files.items():
            (place / path).parent.mkdir(exist_ok=True)
            (place / path).write_text(text, "utf-8")
    except OSError as error:
        raise BadAnswer(f"{place} cannot be written: {error.strerror}") from error
