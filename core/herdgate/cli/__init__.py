"""The command `proxyctl`. Each command is a module of its own, imported when it is asked for."""

import gc
import sys
from typing import Any, cast

import click

import herdgate
from herdgate.cli.lazy import LazyGroup

# A start makes a hundred thousand objects, hardly any of them in cycles: looking for those takes a tenth of its time.
gc.set_threshold(100_000)

# Both go without what they cannot import. httpx brings a command line of its own into every process: rich and pygments,
# 60 ms and 5 MB. Sanic brings trustme, where developers have it, for certificates that nobody here asks it to make:
# 50 ms and 8 MB.
for unwanted in ("httpx._main", "trustme"):
    cast("dict[str, Any]", sys.modules).setdefault(unwanted, None)

_COMMANDS = {
    "serve": ("serve", "Run the gateway."),
    "demo": ("demo", "Try the gateway with two simulated backends."),
    "list-models": ("models", "Ask every backend now which models it has."),
    "probe": ("probe", "Check each backend as routing would reach it."),
    "ps": ("ps", "Ask every backend which models it has loaded."),
    "show": ("show", "Ask every backend what it knows of a model."),
    "pull": ("pull", "Have backends pull a model."),
    "rm": ("rm", "Delete a model from the backends that have it."),
    "keys": ("keys", "Make, list and revoke API keys."),
    "plugins": ("plugins", "See what is loaded, learn the hooks, check a plugin."),
    "explain": ("explain", "Ask the running gateway what would become of a request, and why."),
    "config": ("config", "Check the settings, or show them."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(herdgate.__version__, prog_name="herdgate", message="%(prog)s %(version)s")
def main() -> None:
    """Herdgate: one door to several Ollama servers.

    Settings come from the command line, the environment, .env and plugins.toml; `proxyctl config show` tells which.
    Exit codes: 0 good, 1 the answer is bad, 2 bad usage or configuration. Plugins may add commands of their own:
    `proxyctl plugins commands` lists them.
    """
