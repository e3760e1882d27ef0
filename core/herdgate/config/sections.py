"""The tables of single settings: for each key the highest source that gives it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from herdgate.config.problems import Location, Problem, Reading, dotted, shown, suggestion
from herdgate.config.schema import TABLES, VARIABLES
from herdgate.config.sources import Given, TomlFile, Variables

_Model = TypeVar("_Model", bound=BaseModel)
_LISTS = ("backend", "plugin")


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that was given, highest first."""

    flags: Mapping[str, Given]
    variables: Variables
    file: TomlFile | None
    defaults: Mapping[tuple[str, str], object] = field(default_factory=dict)
    """Defaults that depend on the machine."""

    def given(self, section: str) -> dict[str, Given]:
        """Return what counts for the keys of a section; unknown keys of the file are among them."""
        found = {
            key: Given(value, "default", dotted((table, key)))
            for (table, key), value in self.defaults.items()
            if table == section
        }
        table = self.file.data.get(section) if self.file is not None else None
        if self.file is not None and isinstance(table, dict):
            for key, value in table.items():
                found[key] = Given(value, self.file.at((section, key)), dotted((section, key)))
        for name, (owner, key) in VARIABLES.items():
            if owner == section and name in self.variables:
                found[key] = self.variables[name]
        if section == "server":
            found.update(self.flags)
        return found


def read_section(
    sources: Sources, name: str, model: type[_Model], origins: dict[str, str], problems: list[Problem]
) -> _Model | None:
    """Read one table; None if there are problems, which are added to `problems`. Notes in `origins` who gave what."""
    given = sources.given(name)
    values = {key: value.value for key, value in given.items()}
    for key in model.model_fields:
        origins[f"{name}.{key}"] = given[key].origin if key in given else "default"

    def place(location: Location) -> tuple[str, str]:
        owner = given.get(str(location[0])) if location else None
        if owner is None:
            return _nowhere(name, location)
        in_file = sources.file is not None and owner.where.startswith(f"{sources.file.name}:")
        where = sources.file.at((name, *location)) if sources.file is not None and in_file else owner.where
        return where, dotted(location[1:], owner.key)

    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems.extend(Reading(model, values, place).problems(error))
        return None


def _nowhere(section: str, location: Location) -> tuple[str, str]:
    """Where something could be given that is missing."""
    variable = next((variable for variable, place in VARIABLES.items() if place == (section, *location)), None)
    return ("environment", variable) if variable else ("", dotted((section, *location)))


def check_tables(file: TomlFile, problems: list[Problem]) -> None:
    """Refuse top-level keys nobody knows, and values where a table belongs."""
    for name, value in file.data.items():
        where = file.at((name,))
        if name not in TABLES:
            problems.append(Problem(where, name, f"unknown key; {suggestion(name, TABLES)}"))
        elif name not in _LISTS and not isinstance(value, dict):
            problems.append(Problem(where, name, f"found {shown(value, name)}; accepted: a table [{name}]"))


def default_state(environ: Mapping[str, str]) -> str | None:
    """Return the URL of the state's default place; None if this user has no home directory."""
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):  # the XDG specification: a relative path counts as not set
        home = environ.get("HOME") or _home_in_passwd()  # a service often runs without HOME
        if not home.startswith("/"):
            return None
        base = f"{home}/.local/state"
    return f"sqlite://{quote(str(Path(base) / 'herdgate' / 'herdgate.db'))}"


def _home_in_passwd() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container may run as a number without an entry
        return ""
