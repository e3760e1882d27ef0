"""The API as an OpenAPI 3.1 document, made from the table of `surface`. Pure.

It describes what the gateway promises of every path: who may call, what a body must say, which replies there are and
of which shape. What a backend's reply holds beyond that is Ollama's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from herdgate.errors import DENIED, JSON
from herdgate.surface import Endpoint, Family, Treatment

Schema = dict[str, Any]

_TITLES = {Family.OLLAMA: "Ollama", Family.OPENAI: "OpenAI", Family.ANTHROPIC: "Anthropic"}
_PARAMETERS = {"model": "model", "blobs": "digest"}
"""What stands behind a prefix; `rest` if this does not say."""
_SECURED: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
_NDJSON, _SSE = "application/x-ndjson", "text/event-stream"

_MEANINGS = {
    400: "What was sent cannot be read, or could be read in two ways.",
    401: "No valid key. The same reply for a missing, a wrong and an expired one.",
    403: f"The generic 403, “{DENIED}”: the same bytes for what does not exist and for what is not allowed.",
    408: "The request was not sent in time.",
    413: "The body is too large.",
    415: "The body has a coding, or a form, that is not supported here.",
    429: "A limit is reached; `Retry-After` says for how long.",
    502: "No backend gave a usable answer.",
    503: "No backend can be asked at the moment.",
    504: "The time allowed for the request is over.",
}
_ALWAYS = (400, 401, 429)
_WITH_BODY = (400, 403, 408, 413, 415, 503)
_ERRORS: Mapping[Treatment, tuple[int, ...]] = {
    Treatment.OPEN: (400,),
    Treatment.LOCAL: _ALWAYS,
    Treatment.UNION: (*_ALWAYS, 503),
    Treatment.COUNTED: (*_ALWAYS, *_WITH_BODY),
    Treatment.ROUTED: (*_ALWAYS, *_WITH_BODY, 502, 504),
    Treatment.REFUSED: (*_ALWAYS, 403),
    Treatment.PLUGIN: (*_ALWAYS, *_WITH_BODY),
}


def document(version: str, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document for these rows; `version` is the gateway's."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths[_path(endpoint)] = _item(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Herdgate",
            "version": version,
            "summary": "A gateway in front of several Ollama servers",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": _SECURED,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
            "schemas": {_error_name(family): schema for family, schema in _ERROR_SCHEMAS.items()},
            "headers": {"X-Request-Id": {"required": True, "schema": _string(pattern="^[A-Za-z0-9._-]{1,64}$")}},
        },
    }


# paths


def _path(endpoint: Endpoint) -> str:
    return f"{endpoint.path}{{{_parameter(endpoint)}}}" if endpoint.prefix else endpoint.path


def _parameter(endpoint: Endpoint) -> str:
    return _PARAMETERS.get(endpoint.name, "rest")


def _item(endpoint: Endpoint) -> dict[str, Any]:
    item: dict[str, Any] = {method.lower(): _operation(endpoint, method) for method in sorted(endpoint.methods)}
    if endpoint.prefix:
        name = _parameter(endpoint)
        item["parameters"] = [{"name": name, "in": "path", "required": True, "schema": _string(minLength=1)}]
    return item


def _operation(endpoint: Endpoint, method: str) -> dict[str, Any]:
    name = endpoint.name.strip("/").replace("/", "_")
    operation: dict[str, Any] = {
        "operationId": f"{name}_{method.lower()}",
        "summary": endpoint.treatment.value.capitalize(),
        "tags": [_TITLES[endpoint.family]],
        "responses": _responses(endpoint, bodiless=method == "HEAD"),
    }
    if endpoint.treatment is Treatment.OPEN:
        operation["security"] = []
    if endpoint.model_fields:
        operation["requestBody"] = {"required": True, "content": _request(endpoint)}
    return operation


# requests


def _request(endpoint: Endpoint) -> dict[str, Any]:
    properties: dict[str, Schema] = {name: _string(description="The model's name.") for name in endpoint.model_fields}
    if endpoint.streams is not None:
        properties["stream"] = {"type": "boolean", "default": endpoint.streams}
    if endpoint.form:
        properties["file"] = {"type": "string", "format": "binary"}
        form = {"type": "object", "properties": properties, "required": ["model", "file"]}
        return {"multipart/form-data": {"schema": form}}
    schema: Schema = {"type": "object", "properties": properties}
    if len(endpoint.model_fields) == 1:
        schema["required"] = list(endpoint.model_fields)
    else:
        schema["anyOf"] = [{"required": [name]} for name in endpoint.model_fields]
    return {JSON: {"schema": schema}}


# replies


def _responses(endpoint: Endpoint, *, bodiless: bool) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if endpoint.treatment is not Treatment.REFUSED:
        responses["200"] = _response("The answer.", {} if bodiless else _answers(endpoint))
    error = {JSON: {"schema": {"$ref": f"#/components/schemas/{_error_name(endpoint.family)}"}}}
    for status in sorted({*_ERRORS[endpoint.treatment], *([403] if endpoint.name == "model" else [])}):
        responses[str(status)] = _response(_MEANINGS[status], {} if bodiless else error)
    if endpoint.name == "readyz":
        responses["503"] = _response("Starting, or about to stop.", {} if bodiless else _answers(endpoint))
    if endpoint.treatment in {Treatment.ROUTED, Treatment.PLUGIN}:
        meaning = "What the last backend that was asked said." if endpoint.treatment is Treatment.ROUTED else "Others."
        responses["default"] = _response(meaning, {} if bodiless else error)
    return responses


def _response(description: str, content: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}},
    }
    if content:
        response["content"] = content
    return response


def _answers(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.name == "root":
        return {"text/plain": {"schema": _string()}}
    if endpoint.treatment is Treatment.PLUGIN:
        return {"*/*": {}}
    schema = _ANSWERS.get(endpoint.name, {"type": "object"})
    content: dict[str, Any] = {JSON: {"schema": schema}}
    if endpoint.streams is not None:
        content[_NDJSON if endpoint.family is Family.OLLAMA else _SSE] = {}  # a schema would be that of an event
    return content


def _string(**more: object) -> Schema:
    return {"type": "string", **more}


def _object(*optional: str, **properties: Schema) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _error_name(family: Family) -> str:
    return f"{_TITLES[family]}Error"


_OPENAI_MODEL = _object(id=_string(), object={"const": "model"}, created={"type": "integer"}, owned_by=_string())
_LISTED = _object(models=_list(_object(name=_string(), model=_string())))
_NULLABLE = {"type": ["string", "null"]}
_ANSWERS: Mapping[str, Schema] = {
    "healthz": _object(status={"const": "ok"}),
    "readyz": _object(status={"enum": ["ready", "degraded", "starting", "draining"]}),
    "version": _object(version=_string()),
    "status": _object(cloud=_object(disabled={"type": "boolean"}, source=_string())),
    "tags": _LISTED,
    "ps": _LISTED,
    "models": _object(object={"const": "list"}, data=_list(_OPENAI_MODEL)),
    "model": _OPENAI_MODEL,
    "count_tokens": _object(input_tokens={"type": "integer", "minimum": 0}),
}
_ERROR_SCHEMAS: Mapping[Family, Schema] = {
    Family.OLLAMA: _object(error=_string(minLength=1)),
    Family.OPENAI: _object(
        error=_object(message=_string(minLength=1), type=_string(), param=_NULLABLE, code=_NULLABLE)
    ),
    Family.ANTHROPIC: _object(
        type={"const": "error"}, error=_object(type=_string(), message=_string(minLength=1)), request_id=_string()
    ),
}
