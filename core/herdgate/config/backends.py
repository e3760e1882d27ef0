"""Which backends there are: a list from the environment, a list from the file, or the single one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from herdgate.backend import BackendSettings
from herdgate.config.problems import Location, Problem, Reading, dotted, shown
from herdgate.config.schema import AUTH_TOKEN_VARIABLE, BACKENDS_VARIABLE, BASE_URL_VARIABLE
from herdgate.config.sources import Given, TomlFile, Variables

DEFAULT_BASE_URL = "http://127.0.0.1:11434"
_OLLAMA_PORT = 11434
_EXAMPLE = '[{"name": "gpu1", "base_url": "http://gpu1:11434"}]'


@dataclass(frozen=True, slots=True)
class Entry:
    """One backend as written, not yet checked."""

    values: object = field(repr=False)
    directory: Path
    """What relative paths in it are relative to."""
    places: dict[str, Given]
    """Where each of its settings is written; under the empty name, where it begins."""

    def place(self, location: Location) -> tuple[str, str]:
        """Return `where` and `key` of a problem."""
        first = str(location[0]) if location else ""
        given = self.places.get(first)
        if given is not None:
            return given.where, dotted(location[1:], given.key)
        begin = self.places[""]
        return begin.where, dotted(location, begin.key)


@dataclass(frozen=True, slots=True)
class Choice:
    """The entries that count, and notices about those that do not."""

    entries: tuple[Entry, ...]
    notices: tuple[str, ...] = ()


def effective_backends(environment: Sequence[Entry], file: Sequence[Entry], variables: Variables, cwd: Path) -> Choice:
    """Decide which backends count: the environment's list whole, else the file's, else the single one."""
    if not environment and not file:
        return Choice((_single(variables, cwd),))
    winner = BACKENDS_VARIABLE if environment else "the file's [[backend]] list"
    notices = [
        f"{name} ({variables[name].origin}) is unused: {winner} says which backends there are"
        for name in (BASE_URL_VARIABLE, AUTH_TOKEN_VARIABLE)
        if name in variables
    ]
    if environment and file:
        notices.append(f"the file's [[backend]] list is unused: {BACKENDS_VARIABLE} takes its place, whole")
    return Choice(tuple(environment or file), tuple(notices))


def _single(variables: Variables, cwd: Path) -> Entry:
    default = Given("default", "default", "backend[0]")
    places = {"": default, "name": default, "base_url": Given(DEFAULT_BASE_URL, "default", "backend[0].base_url")}
    values: dict[str, object] = {"name": "default", "base_url": DEFAULT_BASE_URL}
    if (url := variables.get(BASE_URL_VARIABLE)) is not None:
        values["base_url"], places["base_url"] = _with_scheme(str(url.value)), url
    if (token := variables.get(AUTH_TOKEN_VARIABLE)) is not None:
        values["auth_token"], places["auth_token"] = token.value, token
    return Entry(values, cwd, places)


def _with_scheme(text: str) -> str:
    """Complete `host` and `host:port` as Ollama completes OLLAMA_HOST: http, and port 11434 if none is given."""
    text = text.strip()
    if "://" in text or not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?(/.*)?", text):
        return text
    host, slash, path = text.partition("/")
    has_port = re.search(r":\d+$", host)
    return f"http://{host}{'' if has_port else f':{_OLLAMA_PORT}'}{slash}{path}"


def from_variable(variables: Variables, cwd: Path, problems: list[Problem]) -> list[Entry]:
    """Read the JSON array in OLLAMA_BACKENDS; an empty one counts as absent."""
    given = variables.get(BACKENDS_VARIABLE)
    if given is None:
        return []
    try:
        listed = json.loads(str(given.value), object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        problems.append(given.problem(f"this is not JSON: {error.msg} ({place}); accepted: a list such as {_EXAMPLE}"))
        return []
    except _BadJson as error:
        problems.append(given.problem(f"{error}; accepted: a list such as {_EXAMPLE}"))
        return []
    except ValueError:  # Python refuses to read thousands of digits
        problems.append(given.problem(f"a number in it has too many digits; accepted: a list such as {_EXAMPLE}"))
        return []
    except RecursionError:
        problems.append(given.problem(f"it is nested too deeply; accepted: a list such as {_EXAMPLE}"))
        return []
    if not isinstance(listed, list):
        problems.append(given.problem(f"this is not a list; accepted: a list such as {_EXAMPLE}"))
        return []
    return [
        Entry(values, cwd, {"": Given(values, given.where, f"{BACKENDS_VARIABLE}[{index}]")})
        for index, values in enumerate(listed)
    ]


class _BadJson(Exception):  # noqa: N818 -- never leaves this module
    """Valid JSON that says something twice, or no JSON at all although Python reads it."""


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise _BadJson(f'the key "{key}" is given twice in one object')
        result[key] = value
    return result


def _refuse_constant(name: str) -> object:
    raise _BadJson(f"{name} is no JSON")


def from_file(file: TomlFile | None, problems: list[Problem]) -> list[Entry]:
    """Read `[[backend]]` of the file."""
    listed = file.data.get("backend", []) if file is not None else []
    if file is None or not listed:
        return []
    if not isinstance(listed, list):
        found = shown(listed) if isinstance(listed, dict) else "a value"
        problems.append(Problem(file.at(("backend",)), "backend", f"found {found}; accepted: [[backend]] tables"))
        return []
    entries = []
    for index, values in enumerate(listed):
        path: Location = ("backend", index)
        names = list(values) if isinstance(values, dict) else []
        places = {name: Given(None, file.at((*path, name)), dotted((*path, name))) for name in names}
        places[""] = Given(values, file.at(path), dotted(path))
        entries.append(Entry(values, file.directory, places))
    return entries


def check_backends(entries: Sequence[Entry], problems: list[Problem]) -> tuple[BackendSettings, ...]:
    """Check every entry, and all of them together."""
    backends, names = [], dict[str, str]()
    for entry in entries:
        if not isinstance(entry.values, dict):
            where, key = entry.place(())
            problems.append(Problem(where, key, f"this is not a table; accepted: an object as in {_EXAMPLE}"))
            continue
        try:
            backend = BackendSettings.model_validate(entry.values, context={"directory": entry.directory})
        except ValidationError as error:
            problems.extend(Reading(BackendSettings, entry.values, entry.place).problems(error))
            continue
        where, key = entry.place(("name",))
        first = names.setdefault(backend.name.lower(), f"{entry.place(())[1]}")
        if first != entry.place(())[1]:
            problems.append(Problem(where, key, f"found {shown(backend.name)}, which {first} has already"))
        backends.append(backend)
    if backends and len(backends) == len(entries) and not any(backend.enabled for backend in backends):
        where, key = entries[0].place(("enabled",))
        problems.append(Problem(where, key, "every backend is disabled, so nothing could be served; enable one"))
    return tuple(backends)


def shared_addresses(backends: Sequence[BackendSettings]) -> list[str]:
    """Return notices about enabled backends with one address: no mistake, since their tokens may differ."""
    first: dict[str, str] = {}
    notices = []
    for backend in backends:
        name = first.setdefault(backend.base_url, backend.name)
        if name != backend.name:
            notices.append(f"the backends {name} and {backend.name} have the same base_url")
    return notices
