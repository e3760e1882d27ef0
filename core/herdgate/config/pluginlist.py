"""The list of plugins, in the order in which they run."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from herdgate.config.problems import Location, Problem, Reading, dotted, shown
from herdgate.config.schema import PluginEntry
from herdgate.config.sources import TomlFile, builtin_file, read_toml

_ACCEPTED = 'use = an entry point, "package.module:Class", or "./file.py:Class"'
_BUILTIN_NAME = "built-in plugins.toml"


def read_plugins(file: TomlFile | None, problems: list[Problem]) -> tuple[PluginEntry, ...]:
    """Return the file's `[[plugin]]` list; without one, the list that Herdgate brings."""
    if file is None or not file.data.get("plugin"):
        file = read_toml(builtin_file(), _BUILTIN_NAME)
    listed = file.data["plugin"]
    if not isinstance(listed, list):
        found = "a table" if isinstance(listed, dict) else "a value"
        problems.append(Problem(file.at(("plugin",)), "plugin", f"found {found}; accepted: [[plugin]] tables"))
        return ()
    return tuple(
        entry
        for index, values in enumerate(listed)
        if (entry := _read_entry(file, index, values, problems)) is not None
    )


def builtin_plugins() -> tuple[PluginEntry, ...]:
    """The list that Herdgate brings."""
    return read_plugins(None, [])


def _read_entry(file: TomlFile, index: int, values: object, problems: list[Problem]) -> PluginEntry | None:
    path: Location = ("plugin", index)
    if not isinstance(values, dict):
        problems.append(Problem(file.at(path), dotted(path), f"this is not a table; accepted: {_ACCEPTED}"))
        return None
    use = values.get("use")
    if not isinstance(use, str) or not use.strip():
        found = f"found {shown(use, 'use')}" if "use" in values else "use is missing"
        problems.append(Problem(file.at((*path, "use")), dotted((*path, "use")), f"{found}; accepted: {_ACCEPTED}"))
        return None
    if "\0" in use:
        message = f"it cannot have a NUL character in it; accepted: {_ACCEPTED}"
        problems.append(Problem(file.at((*path, "use")), dotted((*path, "use")), message))
        return None
    return PluginEntry(
        use=_absolute(use.strip(), file),
        settings={key: value for key, value in values.items() if key != "use"},
        origin=file.at(path),
        origins={place[2:]: file.at(place) for place in file.lines if place[:2] == path and place[2:]},
    )


def _absolute(use: str, file: TomlFile) -> str:
    if not use.startswith(("./", "../")):
        return use
    location, colon, name = use.rpartition(":")
    return f"{(file.directory / (location or name)).resolve()}{colon}{name if colon else ''}"


def settings_problems(error: ValidationError, entry: PluginEntry, model: type[BaseModel]) -> list[Problem]:
    """Say what a plugin's own `Settings` model found wrong with its entry, with file and line, without secrets."""

    def place(location: Location) -> tuple[str, str]:
        for length in range(len(location), 0, -1):
            if tuple(location[:length]) in entry.origins:
                return entry.origins[tuple(location[:length])], key(location)
        return entry.origin, key(location)

    def key(location: Location) -> str:
        name = f'plugin "{entry.use}"'
        return f"{name}: {dotted(location)}" if location else name

    return Reading(model, entry.settings, place).problems(error)
