"""The settings for people: what is in effect and why (`proxyctl config show`), and what there is to set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from herdgate.backend import BackendSettings
from herdgate.config.backends import DEFAULT_BASE_URL
from herdgate.config.loading import DEFAULT_FILE
from herdgate.config.problems import MASK, holds_secret, shown
from herdgate.config.schema import (
    ADMIN_KEY_FILE_VARIABLE,
    ADMIN_KEY_VARIABLE,
    AUTH_TOKEN_VARIABLE,
    BACKENDS_VARIABLE,
    BASE_URL_VARIABLE,
    CONFIG_VARIABLE,
    SECTIONS,
    VARIABLES,
    Settings,
)
from herdgate.fields import DURATIONS, SIZES, accepted_by
from herdgate.state.place import parse_place

_STATE_DEFAULT = "an SQLite file `herdgate/herdgate.db` under `$XDG_STATE_HOME` (`~/.local/state`)"
_LOG_FORMAT_DEFAULT = "text on a terminal, else json"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting in effect; `value` is for reading, a secret is masked."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """One setting there is. `environment` and `key` (in `plugins.toml`) are empty where it cannot be given there."""

    environment: str
    key: str
    default: str
    meaning: str
    accepted: str


def describe(settings: Settings, models: Mapping[str, type[BaseModel]] | None = None) -> list[Row]:
    """Return all settings in effect, each with where it comes from.

    `models` are the plugins' own settings models by `use`; without its model a plugin's texts are masked, because any
    of them may be a secret.
    """
    rows: list[Row] = []
    sections: dict[str, BaseModel] = {
        "server": settings.server,
        "discovery": settings.discovery,
        "metrics": settings.metrics,
    }
    for name, section in sections.items():
        rows.extend(_model_rows(name, section, settings.origins))
    rows.append(Row("admin_key", MASK if settings.admin_key else "none", settings.origins.get("admin_key", "default")))
    for index, backend in enumerate(settings.backends):
        rows.extend(_model_rows(f"backend[{index}]", backend, settings.origins))
    for index, entry in enumerate(settings.plugins):
        rows.append(Row(f"plugin[{index}].use", entry.use, entry.origin))
        model = (models or {}).get(entry.use)
        for name, value in entry.settings.items():
            text = _plugin_value(name, value, model)
            rows.append(Row(f"plugin[{index}].{name}", text, entry.origins.get((name,), entry.origin)))
    return rows


def _model_rows(prefix: str, model: BaseModel, origins: Mapping[str, str]) -> Iterator[Row]:
    for name, field in type(model).model_fields.items():
        key = f"{prefix}.{name}"
        yield Row(key, _printable(name, getattr(model, name), field), origins.get(key, "default"))


def _printable(name: str, value: Any, field: FieldInfo) -> str:
    if name == "state":
        return str(parse_place(value.get_secret_value()))
    if name == "log_format" and value is None:
        return _LOG_FORMAT_DEFAULT
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return ", ".join(f"{key}: {MASK}" for key in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return json.dumps(value)
    return _with_unit(value, field)


def _with_unit(value: Any, field: FieldInfo) -> str:
    accepted = accepted_by(field)
    if accepted == DURATIONS:
        return f"{value:g} s"
    if accepted == SIZES:
        for factor, unit in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
            if value % factor == 0:
                return f"{value // factor} {unit}"
        return f"{value} bytes"
    return str(value)


def _plugin_value(name: str, value: object, model: type[BaseModel] | None) -> str:
    field = model.model_fields.get(name) if model is not None else None
    if isinstance(value, bool | int | float) and (field is None or not holds_secret(field.annotation)):
        return MASK if shown(value, name) != shown(value) else shown(value)
    if field is None or holds_secret(field.annotation) or shown(value, name) != shown(value):
        return MASK
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def reference() -> list[ReferenceRow]:
    """Return every setting, in the order of the documentation, from the code that reads them."""
    variables = {place: name for name, place in VARIABLES.items()}
    rows = list(_loose_variables())
    for section, model in SECTIONS.items():
        rows.extend(
            _reference_row(variables.get((section, name), ""), f"[{section}] {name}", name, field)
            for name, field in model.model_fields.items()
        )
    rows.extend(
        _reference_row(BACKENDS_VARIABLE, f"[[backend]] {name}", name, field)
        for name, field in BackendSettings.model_fields.items()
    )
    accepted = 'an entry point, "package.module:Class", or "./file.py:Class" (relative to the file)'
    meaning = (
        "A plugin to run; the other keys of its table are its own settings. The order is the order in which they run."
    )
    rows.append(ReferenceRow("", "[[plugin]] use", "the built-in list", meaning, accepted))
    return rows


def _reference_row(environment: str, key: str, name: str, field: FieldInfo) -> ReferenceRow:
    if name == "state":
        default = _STATE_DEFAULT
    elif field.is_required():
        default = "required"
    else:
        default = _printable(name, field.default, field)
    return ReferenceRow(environment, key, default, field.description or "", accepted_by(field) or "")


def _loose_variables() -> Sequence[ReferenceRow]:
    fields = BackendSettings.model_fields
    url, token = accepted_by(fields["base_url"]) or "", accepted_by(fields["auth_token"]) or ""
    return (
        ReferenceRow(
            CONFIG_VARIABLE, "", f"`{DEFAULT_FILE}` if present", "The file to read.", "the path of a TOML file"
        ),
        ReferenceRow(
            ADMIN_KEY_VARIABLE,
            "",
            "none",
            "An admin key that always exists; it counts as a key for protected mode.",
            token,
        ),
        ReferenceRow(
            ADMIN_KEY_FILE_VARIABLE, "", "none", "A file with that key in it, instead of the key.", "the path of a file"
        ),
        ReferenceRow(
            BACKENDS_VARIABLE,
            "[[backend]]",
            "none",
            "Several backends in order of priority. The variable replaces the file's list, whole; empty means absent.",
            'a JSON array of objects, such as [{"name": "gpu1", "base_url": "http://gpu1:11434"}]',
        ),
        ReferenceRow(
            BASE_URL_VARIABLE,
            "",
            DEFAULT_BASE_URL,
            "The one backend, named `default`, when no list is given anywhere.",
            f"{url}; without a scheme as in OLLAMA_HOST: http, and port 11434 if none is given",
        ),
        ReferenceRow(AUTH_TOKEN_VARIABLE, "", "none", "The token for that one backend.", token),
    )
