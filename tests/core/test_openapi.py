"""The OpenAPI document has every path of the table, and says of each what the gateway does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from herdgate.access import Action
from herdgate.openapi import document
from herdgate.surface import ENDPOINTS, Endpoint, Family, Treatment

DOCUMENT: dict[str, Any] = document("1.2.3", ENDPOINTS)
METHODS = {"get", "head", "post", "put", "patch", "delete"}
OPERATIONS = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in METHODS
]


def test_every_row_has_its_path_and_every_method_its_operation() -> None:
    paths = {path.partition("{")[0]: METHODS & item.keys() for path, item in DOCUMENT["paths"].items()}
    assert paths == {endpoint.path: {method.lower() for method in endpoint.methods} for endpoint in ENDPOINTS}


def test_it_is_json_of_a_version_that_tools_know() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names)) == sum(len(endpoint.methods) for endpoint in ENDPOINTS)


def test_only_what_is_open_needs_no_key() -> None:
    open_paths = {path for path, _, operation in OPERATIONS if operation.get("security") == []}
    assert open_paths == {endpoint.path for endpoint in ENDPOINTS if endpoint.treatment is Treatment.OPEN}
    assert all(("401" in operation["responses"]) is ("security" not in operation) for _, _, operation in OPERATIONS)


def test_what_nobody_may_do_has_no_other_answer_than_the_generic_403() -> None:
    refused = {endpoint.path for endpoint in ENDPOINTS if endpoint.treatment is Treatment.REFUSED}
    for path, _, operation in OPERATIONS:
        good = {status for status in operation["responses"] if status.startswith("2")}
        assert (good == set()) is (path.partition("{")[0] in refused), path


def test_a_reply_to_head_has_no_body_and_all_have_an_id() -> None:
    for path, method, operation in OPERATIONS:
        for response in operation["responses"].values():
            assert ("content" not in response) is (method == "head"), path
            assert response["description"]
            assert list(response["headers"]) == ["X-Request-Id"]


@pytest.mark.parametrize(
    ("path", "schema"),
    [("/api/chat", "OllamaError"), ("/v1/completions", "OpenAIError"), ("/v1/messages", "AnthropicError")],
)
def test_errors_have_the_shape_of_the_familiy(path: str, schema: str) -> None:
    content = DOCUMENT["paths"][path]["post"]["responses"]["403"]["content"]
    assert content == {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    assert schema in DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize(
    ("path", "kinds", "required", "fields"),
    [
        ("/api/chat", ["application/json"], ["model"], {"model", "stream"}),
        ("/api/embed", ["application/json"], ["model"], {"model"}),
        ("/v1/audio/transcriptions", ["multipart/form-data"], ["model", "file"], {"model", "file"}),
    ],
)
def test_a_body_must_name_the_model(path: str, kinds: list[str], required: list[str], fields: set[str]) -> None:
    body = DOCUMENT["paths"][path]["post"]["requestBody"]
    assert body["required"] is True
    assert list(body["content"]) == kinds
    schema = body["content"][kinds[0]]["schema"]
    assert (schema["required"], set(schema["properties"])) == (required, fields)


def test_an_old_name_of_the_field_is_as_good() -> None:
    schema = DOCUMENT["paths"]["/api/show"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["anyOf"] == [{"required": ["model"]}, {"required": ["name"]}]


def test_what_streams_by_default_says_so() -> None:
    for path, kind, default in (
        ("/api/chat", "application/x-ndjson", True),
        ("/v1/chat/completions", "text/event-stream", False),
    ):
        operation = DOCUMENT["paths"][path]["post"]
        assert kind in operation["responses"]["200"]["content"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["properties"]["stream"]["default"] is default


def test_a_route_of_a_plugin_takes_the_place_of_what_is_refused() -> None:
    pull = Endpoint("/api/pull", "/api/pull", frozenset({"POST"}), Family.OLLAMA, Treatment.PLUGIN, Action.MANAGE)
    operation = document("1", (*ENDPOINTS, pull))["paths"]["/api/pull"]["post"]
    assert operation["operationId"] == "api_pull_post"
    assert {"200", "403", "default"} <= set(operation["responses"])
