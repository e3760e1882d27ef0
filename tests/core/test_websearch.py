import json

import pytest

from herdgate.body import read_body
from herdgate.websearch import without_web_search

OTHER = {"type": "function", "name": "web_searcher", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        {"type": "web_search_preview"},
        {"Type": "web_search"},
        {"name": "x", "type": "namespace", "tools": [{"TYPE": "web_search"}]},
    ],
)
def test_a_web_search_is_taken_out_and_the_rest_stays_as_it_was_written(tool: dict[str, object]) -> None:
    raw = b'{"model": "m",  "temperature":1.50,"tools":%b,"input":"\\u00e4"}' % json.dumps([OTHER, tool]).encode()
    body = without_web_search(read_body(raw))
    assert body.value("tools") == [OTHER]
    again = read_body(body.raw)
    assert list(again.fields) == ["model", "temperature", "tools", "input"]
    assert bytes(again.fields["temperature"]) == b"1.50"
    assert bytes(again.fields["input"]) == b'"\\u00e4"'


def test_a_web_search_written_with_escapes_is_one() -> None:
    raw = b'{"model":"m","tools":[{"type":"\\u0077eb_search"}]}'
    assert read_body(without_web_search(read_body(raw)).raw).value("tools") == []


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"m"}',
        b'{"model":"m","tools":null}',
        b'{"model":"m","tools":"web_search"}',
        b'{"model":"m","tools":[{"type":"function","name":"web_search","parameters":{"type":"object"}}]}',
        b'{"model":"m","tools":[{"type":"function","name":"search","description":"\\u00e4"}]}',
    ],
)
def test_anything_else_goes_on_byte_for_byte(raw: bytes) -> None:
    body = read_body(raw)
    assert without_web_search(body) is body
