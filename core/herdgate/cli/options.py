"""Options that several commands have, and the settings that they lead to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from herdgate.config import Settings, load

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """`--config FILE`."""
    return click.option("--config", metavar="FILE", help="The file to read instead of plugins.toml.")(function)


def backend_option(function: F) -> F:
    """`--backend NAME`, as often as wanted."""
    return click.option("--backend", multiple=True, metavar="NAME", help="Only this backend; may be given again.")(
        function
    )


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def timeout_option(function: F) -> F:
    """`--timeout SECONDS`."""
    seconds = click.FloatRange(min=0, min_open=True, max=3600)
    return click.option(
        "--timeout",
        type=seconds,
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Time that a backend has for an answer.",
    )(function)


def settings_of(config: str | None, **flags: str | None) -> Settings:
    """The settings for this command line, environment and working directory. Raises ConfigError."""
    return load({"config": config, **flags}, os.environ, Path.cwd())
