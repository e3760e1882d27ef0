"""Put the settings together from all their sources, and collect everything that is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from herdgate.backend import BackendSettings
from herdgate.config.adminkey import read_admin_key, weak_key_notices
from herdgate.config.backends import (
    Entry,
    check_backends,
    effective_backends,
    from_file,
    from_variable,
    shared_addresses,
)
from herdgate.config.pluginlist import read_plugins
from herdgate.config.problems import ConfigError, Problem
from herdgate.config.schema import CONFIG_VARIABLE, DiscoverySettings, MetricsSettings, ServerSettings, Settings
from herdgate.config.sections import Sources, check_tables, default_state, read_section
from herdgate.config.sources import Given, TomlFile, Variables, dotenv, environment, near_misses, read_toml
from herdgate.fields import path_of

DEFAULT_FILE = "plugins.toml"


def load(flags: Mapping[str, object], environ: Mapping[str, str], directory: Path) -> Settings:
    """Read and check all settings.

    `flags` are command-line options by the name of their setting (`config`, `host`, …; None: not given);
    `.env` and `plugins.toml` are looked for in `directory`, to which paths in variables are relative, too. Nothing is
    changed, the environment least of all. Raises `ConfigError` with every problem there is.
    """
    problems: list[Problem] = []
    options = _given_flags(flags)
    layers = (environment(environ, problems), dotenv(directory / ".env", problems))
    variables = {**layers[1], **layers[0]}
    file = _find_file(options.pop("config", None) or variables.get(CONFIG_VARIABLE), directory, problems)
    if file is not None:
        check_tables(file, problems)
    origins: dict[str, str] = {}
    sources = Sources(options, variables, file, _machine_defaults(environ))
    server = read_section(sources, "server", ServerSettings, origins, problems)
    discovery = read_section(sources, "discovery", DiscoverySettings, origins, problems)
    metrics = read_section(sources, "metrics", MetricsSettings, origins, problems)
    backends, notices = _backends(file, variables, directory, origins, problems)
    plugins = read_plugins(file, problems)
    admin_key, origins["admin_key"] = read_admin_key(layers, directory, problems)
    if problems or server is None or discovery is None or metrics is None:
        raise ConfigError(problems, plugins)
    return Settings(
        server=server,
        discovery=discovery,
        metrics=metrics,
        backends=backends,
        plugins=plugins,
        admin_key=admin_key,
        file=file.path if file is not None else None,
        file_is_empty=file is not None and not file.data,
        origins=origins,
        notices=(*notices, *weak_key_notices(admin_key, origins["admin_key"]), *near_misses(list(environ))),
    )


def _given_flags(flags: Mapping[str, object]) -> dict[str, Given]:
    return {
        name: Given(value, "command line", f"--{name.replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    }


def _machine_defaults(environ: Mapping[str, str]) -> dict[tuple[str, str], object]:
    state = default_state(environ)
    return {} if state is None else {("server", "state"): state}


def _find_file(given: Given | None, directory: Path, problems: list[Problem]) -> TomlFile | None:
    if given is None:
        path = directory / DEFAULT_FILE
        if not path.exists():
            return None
    else:
        try:
            path = directory / path_of(str(given.value).strip())
        except ValueError as error:
            problems.append(given.problem(str(error)))
            return None
    try:
        return read_toml(path, _name(path, directory))
    except ConfigError as error:
        is_there = os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises where a name is too long
        blamed = f"{given.where}: {given.key}" if given is not None and not is_there else ""
        problems.extend(Problem(blamed, problem.where, problem.message) for problem in error.problems)
        return None


def _name(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)


def _backends(
    file: TomlFile | None, variables: Variables, cwd: Path, origins: dict[str, str], problems: list[Problem]
) -> tuple[tuple[BackendSettings, ...], tuple[str, ...]]:
    before = len(problems)
    environment_list, file_list = from_variable(variables, cwd, problems), from_file(file, problems)
    if len(problems) > before and not (environment_list or file_list):
        return (), ()  # a list that cannot be read must not turn into the single backend
    choice = effective_backends(environment_list, file_list, variables, cwd)
    backends = check_backends(choice.entries, problems)
    for index, entry in enumerate(choice.entries):
        origins.update(_entry_origins(index, entry))
    return backends, (*choice.notices, *shared_addresses(backends))


def _entry_origins(index: int, entry: Entry) -> dict[str, str]:
    written = entry.values if isinstance(entry.values, dict) else {}
    begin = entry.places[""]
    return {
        f"backend[{index}].{name}": entry.places.get(name, begin).origin if name in written else "default"
        for name in BackendSettings.model_fields
    }
