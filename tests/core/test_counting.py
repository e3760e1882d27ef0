import json

import pytest

from herdgate.body import BadBody, read_body
from herdgate.counting import estimated_tokens


def tokens(**fields: object) -> int:
    return estimated_tokens(read_body(json.dumps({"model": "m", **fields}).encode()))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0),
        ({"messages": [{"role": "user", "content": "x" * 400}]}, 100),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 401}]}]}, 101),
        ({"system": "x" * 40, "messages": []}, 10),
        ({"system": [{"type": "text", "text": "x" * 40}]}, 10),
        ({"tools": [{"name": "abcd", "input_schema": {"properties": {"p": {"description": "x" * 36}}}}]}, 10),
        ({"messages": [{"content": [{"type": "image", "source": {"data": "x" * 10**6}}]}]}, 1500),
        ({"max_tokens": 10**6, "metadata": {"user_id": "x" * 1000}}, 0),
    ],
)
def test_text_is_counted_and_nothing_else(fields: dict[str, object], expected: int) -> None:
    assert tokens(**fields) == expected


def test_what_cannot_be_read_is_refused() -> None:
    body = read_body(b'{"messages":[{"content":1e999}]}')
    with pytest.raises(BadBody):
        estimated_tokens(body)
