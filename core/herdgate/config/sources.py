"""Where settings come from: the environment, `.env`, and `plugins.toml`. Read here, judged elsewhere."""

from __future__ import annotations

import difflib
import importlib.resources
import io
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from herdgate.config.problems import ConfigError, Location, Problem
from herdgate.config.schema import KNOWN_VARIABLES, SECTIONS
from herdgate.config.tomllines import lines_of

_OWN_PREFIX = "HERDGATE_"
_OLLAMA_PREFIX = "OLLAMA_"
_OUR_LINE = re.compile(r"\s*(export\s+)?(HERDGATE_|OLLAMA_BA|OLLAMA_AUTH)")
# What Kubernetes (and Docker links) put into the environment of every container beside a service called "herdgate".
_SERVICE_LINK = re.compile(r"HERDGATE_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)(_\w+)?)")
_SERVICE_LINK_ADVICE = (
    "Kubernetes sets it for a service called herdgate: "
    "put enableServiceLinks: false into the pod, or rename the service"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody gave, and where."""

    value: object = field(repr=False)
    where: str
    """For messages: `command line`, `environment`, `.env:3`, `plugins.toml:7`."""
    key: str
    """For messages: `--port`, `HERDGATE_PORT`, `server.port`."""

    @property
    def origin(self) -> str:
        """For `proxyctl config show`."""
        return {"command line": f"flag {self.key}", "environment": f"environment {self.key.partition('[')[0]}"}.get(
            self.where, self.where
        )

    def problem(self, message: str) -> Problem:
        """Say what is wrong with it."""
        return Problem(self.where, self.key, message)


Variables = Mapping[str, Given]


def environment(environ: Mapping[str, str], problems: list[Problem]) -> Variables:
    """Return the variables that concern us and are not empty."""
    given = {name: Given(value, "environment", name) for name, value in environ.items()}
    return _concerning(given, problems)


def dotenv(path: Path, problems: list[Problem]) -> Variables:
    """Return the same from a `.env` file, without expanding `$NAME` in values: tokens may well contain a `$`."""
    if not path.exists() or path.is_dir():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(path.name, "", f"cannot be read: {_why(error)}"))
        return {}
    given: dict[str, Given] = {}
    for binding in parse_stream(io.StringIO(text)):
        where = f"{path.name}:{_line(binding)}"
        if _is_ours(binding) and (binding.error or binding.value is None):
            problems.append(Problem(where, binding.key or "", "this is not a line of the form NAME=value"))
        elif binding.key and binding.value is not None:
            given[binding.key] = Given(binding.value, where, binding.key)
    return _concerning(given, problems)


def _is_ours(binding: Binding) -> bool:
    """Whether a line that cannot be read was probably meant for us: the file may serve other programs too."""
    return _OUR_LINE.match(binding.original.string) is not None


def _line(binding: Binding) -> int:
    """The line of a binding itself; python-dotenv counts from the blank lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _concerning(given: Mapping[str, Given], problems: list[Problem]) -> Variables:
    for name, variable in given.items():
        if name.startswith(_OWN_PREFIX) and name not in KNOWN_VARIABLES:
            problems.append(variable.problem(f"unknown variable; {_advice(name)}"))
    return {name: given[name] for name in KNOWN_VARIABLES & given.keys() if str(given[name].value).strip()}


def _advice(name: str) -> str:
    if _SERVICE_LINK.fullmatch(name):
        return _SERVICE_LINK_ADVICE
    key = name.removeprefix(_OWN_PREFIX).lower()
    for section, model in SECTIONS.items():
        for candidate in (key, key.removeprefix(f"{section}_")):
            if candidate in model.model_fields:
                return f"set {candidate} in the table [{section}] of plugins.toml"
    words = {known.partition("_")[2]: known for known in KNOWN_VARIABLES}  # a common prefix would make all alike
    near = difflib.get_close_matches(name.partition("_")[2], words, n=1)
    return f"did you mean {words[near[0]]}?" if near else f"there are {', '.join(sorted(KNOWN_VARIABLES))}"


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A `plugins.toml` that was read."""

    name: str
    """How messages call it."""
    path: Path
    data: Mapping[str, object] = field(repr=False)
    lines: Mapping[Location, int] = field(repr=False)

    @property
    def directory(self) -> Path:
        """What relative paths in the file are relative to."""
        return self.path.parent

    def at(self, path: Location) -> str:
        """Return `plugins.toml:7` for a path; for one that is not in the file, the line of the nearest table above."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(tuple(path[:length]))
            if line is not None:
                return f"{self.name}:{line}"
        return self.name


def read_toml(path: Path, name: str) -> TomlFile:
    """Read a file. Raises ConfigError with its one problem if it is unreadable or no TOML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return TomlFile(name, path, tomllib.loads(text), lines_of(text))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(name, "", f"cannot be read: {_why(error)}")]) from None
    except RecursionError:
        raise ConfigError([Problem(name, "", "its lists or tables are nested too deeply")]) from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        reason = str(error)[: place.start()] if place else str(error)
        if place and place[1]:
            name, reason = f"{name}:{place[1]}", f"{reason} (column {place[2]})"
        elif place:
            name, reason = f"{name}:{text.count(chr(10)) + 1}", f"{reason} (end of file)"
        raise ConfigError([Problem(name, "", f"this is not TOML: {reason}")]) from None
    except ValueError:  # Python refuses to read thousands of digits
        raise ConfigError([Problem(name, "", "a number in it has too many digits")]) from None


def builtin_file() -> Path:
    """Return the `plugins.toml` that Herdgate brings: package data in a wheel, the repository's own in a checkout."""
    packaged = Path(str(importlib.resources.files("herdgate") / "plugins.toml"))
    return packaged if packaged.is_file() else Path(__file__).resolve().parents[3] / "plugins.toml"


def near_misses(names: Sequence[str]) -> list[str]:
    """Return notices for variables that are one slip away from one of ours; other OLLAMA_ names are Ollama's."""
    known = {_squeezed(variable): variable for variable in KNOWN_VARIABLES if variable.startswith(_OLLAMA_PREFIX)}
    return [
        f"the variable {name} has no effect: did you mean {known[_squeezed(name)]}?"
        for name in names
        if name not in KNOWN_VARIABLES and _squeezed(name) in known
    ]


def _squeezed(name: str) -> str:
    return name.upper().replace("_", "").removesuffix("S")


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or "unknown reason") if isinstance(error, OSError) else "it is not UTF-8 text"
