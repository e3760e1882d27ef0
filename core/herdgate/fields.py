"""Field types that settings models share (plugins' too), each with a sentence that says what it accepts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a field accepts, in words for an operator: shown in error messages and in the settings reference."""

    text: str


def accepted_by(field: FieldInfo) -> str | None:
    """Return the `Accepted` text of a field, also when it is inside `X | None` or `tuple[X, ...]`."""
    waiting: list[Any] = [*reversed(field.metadata), field.annotation]  # the outermost text is the last one given
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, Accepted):
            return item.text
        waiting.extend(reversed(getattr(item, "__metadata__", ())))
        waiting.extend(get_args(item))
    return None


def path_of(text: str) -> Path:
    """Return the path that somebody wrote, with `~` and `~user` expanded; `ValueError` if there can be none."""
    if "\0" in text:
        raise ValueError("a path cannot have a NUL character in it")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # it is relative to a home directory, and there is none
        user = Path(text).parts[0].removeprefix("~")
        raise ValueError(
            f"nobody called {user} has a home directory here" if user else "you have no home directory"
        ) from None


def no_boolean(value: object) -> object:
    """Refuse true and false where a number is wanted: pydantic would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
DURATIONS = 'a number of seconds, or a text such as "500ms", "30s", "5m", "1h30m", "30d"'


def parse_duration(value: object) -> float:
    """Return seconds for a number of seconds or a text such as `"30s"` or `"1h30m"`; `ValueError` otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value)
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return _finite(float(text))
        parts = _DURATION_PART.findall(text)
        if parts and _DURATION_PART.sub("", text) == "":
            return _finite(sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))
    raise ValueError("this is not a duration")


def _finite(number: float) -> float:
    try:
        seconds = float(number)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("a duration is a finite number and not negative")
    return seconds


_LONGEST = 366 * 86400.0
_UNIT_BYTES = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
SIZES = 'a number of bytes, or a text such as "512 KiB", "100 MiB", "2 GB"'
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_size(value: object) -> int:
    """Return bytes for a whole number of bytes or a text such as `"100 MiB"`; `ValueError` otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        number, unit = match.groups()
        factor = _UNIT_BYTES.get(unit.lower() or "b")
        if factor is not None and math.isfinite(size := float(number) * factor):
            return int(size)
    raise ValueError("this is not a size")


#: Seconds, more than none and at most a year.
Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=_LONGEST), Accepted(DURATIONS)]
#: Seconds, none allowed.
DurationOrZero = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=_LONGEST), Accepted(DURATIONS)]
#: Bytes, at least one.
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(gt=0, lt=2**63),
    Accepted(SIZES),
]
#: A whole number of at least one.
Count = Annotated[int, BeforeValidator(no_boolean), Field(ge=1, lt=2**31), Accepted("a whole number of at least 1")]
#: A yes or no.
Switch = Annotated[bool, Accepted("true or false")]
