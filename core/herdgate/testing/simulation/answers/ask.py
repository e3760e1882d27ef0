"""A request as Ollama's handlers see it: JSON read as Go reads it, the model looked up, refusals as exceptions."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from herdgate.names import InvalidModelName, ModelName
from herdgate.testing.simulation.http1 import RequestHead
from herdgate.testing.simulation.models import SimModel
from herdgate.testing.simulation.wire.generation import Generation
from herdgate.testing.simulation.world import World


class Refused(Exception):  # noqa: N818
    """The handler answers with an error: a status and a text; the path's dialect gives it a shape."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def read_json(body: bytes) -> dict[str, Any]:
    """Read the first JSON value of a body, with every key folded.

    As Go does: keys match whatever their case and the last one wins (U+017F is an ``s``); what follows the first value
    is ignored; a byte order mark, ``NaN`` and ``Infinity`` are errors. Raises ValueError.
    """
    text = body.decode("utf-8", "replace")
    try:
        value, _ = json.JSONDecoder(object_pairs_hook=_fold, parse_constant=_no_constant).raw_decode(
            text.lstrip(" \t\r\n")
        )
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {_kind(value)} into Go value")
    return value


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key.casefold(): value for key, value in pairs}


def _no_constant(text: str) -> None:
    raise ValueError(f"invalid character {text[0]!r} looking for beginning of value")


def _kind(value: object) -> str:
    names: dict[type, str] = {
        bool: "bool",
        int: "number",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return names.get(type(value), "null")


_GO_TYPES: dict[type, str] = {bool: "bool", int: "int", str: "string", list: "[]interface {}", dict: "map"}


def model_of(head: RequestHead, body: bytes) -> str:
    """The model name a request means, as written; empty if none can be read. For the record and for scripts."""
    if head.path.startswith("/v1/models/"):
        return head.path.removeprefix("/v1/models/")
    if not body.lstrip().startswith(b"{"):
        return ""
    try:
        fields = read_json(body)
    except ValueError:
        return ""
    name = fields.get("model") or fields.get("name") or fields.get("source")
    return name if isinstance(name, str) else ""


@dataclass(frozen=True)
class Ask:
    """One request to one backend."""

    head: RequestHead
    body: bytes
    world: World

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The body's JSON object, ``null`` fields left out. Raises Refused."""
        if not self.body.strip():
            raise Refused(400, "EOF" if self.head.path.startswith("/v1/") else "missing request body")
        try:
            value = read_json(self.body)
        except ValueError as error:
            raise Refused(400, str(error)) from None
        return {key: field for key, field in value.items() if field is not None}

    def typed(self, name: str, kind: type, default: Any) -> Any:
        """A field that has to be of one JSON type. Raises Refused."""
        value = self.fields.get(name, default)
        if not isinstance(value, kind):
            where = f"Go struct field Request.{name} of type {_GO_TYPES[kind]}"
            raise Refused(400, f"json: cannot unmarshal {_kind(value)} into {where}")
        return value

    def text(self, name: str) -> str:
        """A field that has to be a string; empty if absent."""
        return str(self.typed(name, str, ""))

    def streams(self, default: bool) -> bool:
        """The field ``stream``."""
        return bool(self.typed("stream", bool, default))

    def model(self, name: str, unknown: str = "model '{name}' not found") -> SimModel:
        """The installed model of that name, or whatever stands for a cloud model. Raises Refused."""
        try:
            parsed = ModelName.parse(name) if name.strip() else None
        except InvalidModelName:
            raise Refused(400, "invalid model name") from None
        if parsed is not None and parsed.source == "cloud":
            return self._cloud(name)
        found = self.world.models.find(name) if parsed else None
        if found is None or (parsed and parsed.source == "local" and found.remote_host):
            raise Refused(404, unknown.format(name=name, display=parsed.display if parsed else ""))
        return found

    def _cloud(self, name: str) -> SimModel:
        if not self.world.behaviour.cloud:
            raise Refused(403, "ollama cloud is disabled: remote model is unavailable")
        return SimModel(name.strip(), remote_host="https://ollama.com:443", remote_model=name.strip())

    def generation(self, model: SimModel, echo: str, prompt: str, thinks: bool = False) -> Generation:
        """The reply of the simulated model; ``echo`` is the last user message, ``prompt`` everything it read."""
        self.world.served += 1
        return Generation(
            model=self.text("model"),
            words=self.world.words(echo),
            prompt_tokens=len(prompt.split()),
            created=datetime.now(UTC),
            number=self.world.served,
            thinking=("Let ", "me ", "think.") if thinks else (),
            remote_model=model.remote_model,
            remote_host=model.remote_host,
        )

    def needs(self, model: SimModel, capability: str, deed: str) -> None:
        """Refuse what the model cannot do; unknown capabilities are no reason."""
        if model.capabilities and capability not in model.capabilities:
            raise Refused(400, f'"{self.text("model")}" does not support {deed}')
