"""The settings of a plugin, from its own pydantic model: types, values, defaults, meanings; no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from herdgate.config import MASK, PluginEntry
from herdgate.config.problems import holds_secret, shown


class SettingRow(NamedTuple):
    """One setting; `value` and `default` are texts for reading."""

    name: str
    type: str
    value: str
    default: str
    meaning: str


def settings_rows(cls: type, entry: PluginEntry) -> list[SettingRow]:
    """The settings of a plugin class, with the values that its entry in plugins.toml gives them."""
    model: type[BaseModel] | None = getattr(cls, "Settings", None)
    if model is None:
        return []
    values = model.model_validate(dict(entry.settings))
    return [
        SettingRow(
            name,
            _type_of(field),
            _printable(name, getattr(values, name), field),
            "required"
            if field.is_required()
            else _printable(name, field.get_default(call_default_factory=True), field),
            field.description or "",
        )
        for name, field in model.model_fields.items()
    ]


def _type_of(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    return annotation.__name__ if type(annotation) is type else str(annotation).replace("typing.", "")


def _printable(name: str, value: Any, field: FieldInfo) -> str:
    if value is None:
        return "none"
    return MASK if holds_secret(field.annotation) else _without_secrets(name, value)


def _without_secrets(name: str, value: object) -> str:
    """Texts whose name says that they are secret are masked, wherever they stand."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_without_secrets(str(key), each)}" for key, each in value.items()) or "none"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_without_secrets(name, each) for each in value) or "none"
    text = str(value)
    return MASK if shown(text, name) != shown(text) else text
