"""What is wrong with the settings, in words for the operator, and never with a secret in them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from herdgate.config.schema import PluginEntry
from herdgate.fields import accepted_by

Location = tuple[int | str, ...]
MASK = "********"

_SECRET_NAME = re.compile(r"token|key|secret|passw|credential|auth", re.IGNORECASE)
# A scheme, a host, a port: only such an address is repeated in a message. Even a path may be a secret (/u/TOKEN).
_HARMLESS_URL = re.compile(r"(?:[a-z][a-z0-9+.-]{0,15}://)?[\w.-]*(?::\d{0,6})?/?", re.ASCII)
_LONGEST_SHOWN = 80
_NOT_SHOWN = "a value that is not shown because it may hold a secret"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right: where it is written, which setting it is, what is wrong and what is accepted."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class ConfigError(Exception):
    """The settings cannot be used. `str()` is the complete message for the operator, one line for each problem.

    `plugins` are those that could be read, for whoever wants to look for problems in them, too.
    """

    def __init__(self, problems: Iterable[Problem], plugins: Sequence[PluginEntry] = ()) -> None:
        self.problems: tuple[Problem, ...] = _by_line(tuple(dict.fromkeys(problems)))
        self.plugins = plugins
        count = len(self.problems)
        title = "1 problem in the settings" if count == 1 else f"{count} problems in the settings"
        super().__init__("\n".join([f"{title}:", *(f"  {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        # Exceptions are pickled by their args, which here is the text: a worker's error would not come back whole.
        return ConfigError, (self.problems,)


def _by_line(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return them from the top of each file to its end, so that they can be put right in one go."""
    files = list(dict.fromkeys(problem.where.rpartition(":")[0] for problem in problems))

    def place(problem: Problem) -> tuple[int, int]:
        file, _, line = problem.where.rpartition(":")
        return files.index(file), int(line) if line.isdecimal() else 0

    return tuple(sorted(problems, key=place))


def dotted(path: Sequence[int | str], start: str = "") -> str:
    """Write a path as `backend[1].base_url`, after `start` if that is given."""
    text = start
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def suggestion(unknown: str, known: Iterable[str]) -> str:
    """Return what to do about an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(unknown.lower(), names, n=1) or difflib.get_close_matches(unknown, names, n=1)
    return f'did you mean "{near[0]}"?' if near else f"accepted: {', '.join(names) or 'none'}"


def shown(value: object, name: str = "") -> str:
    """Return what was found, for a message; `name` is the setting's name, which tells when it may be a secret."""
    if isinstance(value, str):
        may_be_url = name.endswith("url") or "://" in value or "@" in value
        if _SECRET_NAME.search(name) or (may_be_url and not _HARMLESS_URL.fullmatch(value.strip())):
            return _NOT_SHOWN
        text = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
        return json.dumps(text, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if _SECRET_NAME.search(name):
        return _NOT_SHOWN
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    try:
        return str(value)
    except ValueError:  # Python refuses to write thousands of digits
        return "a number of too many digits"


def holds_secret(annotation: Any) -> bool:
    """Whether a type is a secret or can have one anywhere inside."""
    waiting, seen = [annotation], set[int]()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:  # models may contain themselves
            continue
        seen.add(id(item))
        if isinstance(item, type) and issubclass(item, SecretStr | SecretBytes | Secret):
            return True
        if isinstance(item, type) and issubclass(item, BaseModel):
            waiting.extend(field.annotation for field in item.model_fields.values())
        waiting.extend(get_args(item))
    return False


@dataclass(frozen=True, slots=True)
class Reading:
    """A mapping that was read with a pydantic model, and where in the settings each part of it is written."""

    model: type[BaseModel]
    values: Mapping[str, object]
    place: Callable[[Location], tuple[str, str]]
    """From a location inside `values` to a problem's `where` and `key`."""

    def problems(self, error: ValidationError) -> list[Problem]:
        """Translate what pydantic found."""
        secrets = sorted(self._secrets(), key=len, reverse=True)
        found = error.errors(include_url=False, include_input=False)
        return [self._problem(detail, secrets) for detail in found]

    def _problem(self, detail: ErrorDetails, secrets: Sequence[str]) -> Problem:
        where, key = self.place(detail["loc"])
        message = self._message(detail)
        for secret in secrets:  # the text may be a plugin author's, who may have quoted the value
            message = message.replace(secret, MASK)
        return Problem(where, key, message)

    def _message(self, detail: ErrorDetails) -> str:
        location, kind = detail["loc"], detail["type"]
        field = self._field(location)
        accepted = accepted_by(field) if field else None
        if kind == "extra_forbidden":
            known = self.model.model_fields if len(location) == 1 else ()
            return f"unknown key; {suggestion(str(location[-1]), known)}" if known else "unknown key"
        if kind == "missing":
            return f"is missing; accepted: {accepted}" if accepted else "is missing"
        own_words = kind in {"value_error", "assertion_error"}
        text = re.sub(r"^(Value error|Assertion failed), ", "", detail["msg"])
        found = f"found {self._shown(location, field)}" if location else ""
        if accepted is None:
            parts = [text, found] if own_words else [found, text.replace("Input should be", "accepted:", 1)]
        else:
            parts = [text if own_words else "", found, f"accepted: {accepted}"]
        return "; ".join(part for part in parts if part)

    def _field(self, location: Location) -> FieldInfo | None:
        return self.model.model_fields.get(str(location[0])) if location else None

    def _shown(self, location: Location, field: FieldInfo | None) -> str:
        value: Any = self.values
        for part in location:
            try:
                value = value[part]
            except (LookupError, TypeError):
                break  # pydantic also puts names of union members into locations
        names = ["", *(part for part in location if isinstance(part, str))]
        secret = field is not None and holds_secret(field.annotation)
        return shown(value, "secret" if secret else next(filter(_SECRET_NAME.search, names), names[-1]))

    def _secrets(self) -> Iterator[str]:
        for name, field in self.model.model_fields.items():
            if holds_secret(field.annotation) or _SECRET_NAME.search(name):
                yield from _texts(self.values.get(name))


def _texts(value: object) -> Iterator[str]:
    """All texts in a value that are long enough to be a secret rather than a coincidence."""
    if isinstance(value, str) and len(value) >= 4:
        yield value
        if len(value.strip()) >= 4:
            yield value.strip()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
