"""The admin key that exists before any key was made: from a variable, or from a file that a variable names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from herdgate.config.problems import Problem
from herdgate.config.schema import ADMIN_KEY_FILE_VARIABLE, ADMIN_KEY_VARIABLE
from herdgate.config.sources import Given, Variables
from herdgate.fields import path_of
from herdgate.wirevalues import check_token

_SHORTEST = 16


def read_admin_key(layers: Sequence[Variables], cwd: Path, problems: list[Problem]) -> tuple[SecretStr | None, str]:
    """Return the key and its origin; the first layer that gives one counts."""
    for layer in layers:
        direct, file = layer.get(ADMIN_KEY_VARIABLE), layer.get(ADMIN_KEY_FILE_VARIABLE)
        if direct is not None and file is not None:
            problems.append(file.problem(f"{ADMIN_KEY_VARIABLE} is given too; keep one of the two"))
        given = direct or file
        if given is not None:
            text = str(given.value) if direct is not None else _content(given, cwd, problems)
            return _checked(text, given, problems), given.origin
    return None, "default"


def weak_key_notices(key: SecretStr | None, origin: str) -> list[str]:
    """Return a notice about a key short enough to be guessed."""
    if key is None or len(key.get_secret_value()) >= _SHORTEST:
        return []
    return [f"the admin key ({origin}) has fewer than {_SHORTEST} characters and might be guessed"]


def _content(given: Given, cwd: Path, problems: list[Problem]) -> str | None:
    try:
        path = cwd / path_of(str(given.value).strip())
    except ValueError as error:
        problems.append(given.problem(str(error)))
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problems.append(given.problem(f"cannot read {path}: {error.strerror}"))
    except UnicodeDecodeError:
        problems.append(given.problem(f"{path} is not a text file"))
    else:
        if text.strip():
            return text
        problems.append(given.problem(f"{path} is empty; accepted: a file with the key in it"))
    return None


def _checked(text: str | None, given: Given, problems: list[Problem]) -> SecretStr | None:
    if text is None:
        return None
    try:
        return check_token(SecretStr(text))
    except ValueError as error:
        problems.append(given.problem(f"{error}; accepted: a key of visible ASCII characters"))
        return None
