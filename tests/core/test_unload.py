"""What counts as evicting a model."""

from __future__ import annotations

import json

import pytest

from herdgate.body import BadBody, read_body
from herdgate.surface import find
from herdgate.unload import unloads


def evicts(path: str, **fields: object) -> bool:
    endpoint = find(path)
    assert endpoint is not None
    return unloads(read_body(json.dumps({"model": "m", **fields}).encode()), endpoint)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, "0", "-0", "0s", "0m0s", "0.0h", 1e-10, "0.1ns", "-0.1ns"])
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/embed", "/api/embeddings"])
def test_an_empty_prompt_with_no_time_to_keep_is_an_unload(path: str, zero: object) -> None:
    assert evicts(path, keep_alive=zero)


@pytest.mark.parametrize("kept", [1, -1, 300, "5m", "1ns", "-1s", "0h1ns", None, True, "soon", "", "1..0s"])
def test_any_other_time_is_a_load(kept: object) -> None:
    assert not evicts("/api/generate", keep_alive=kept)


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/api/generate", {"prompt": "hi"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/api/embed", {"input": ["hi"]}),
        ("/api/embeddings", {"prompt": "hi"}),
    ],
)
def test_with_a_prompt_it_is_inference(path: str, prompt: dict[str, object]) -> None:
    assert not evicts(path, keep_alive=0, **prompt)


@pytest.mark.parametrize(
    ("path", "decoy"),
    [("/api/generate", {"input": "x"}), ("/api/generate", {"messages": ["x"]}), ("/api/chat", {"prompt": "x"})],
)
def test_a_field_that_the_endpoint_does_not_read_is_no_prompt(path: str, decoy: dict[str, object]) -> None:
    assert evicts(path, keep_alive=0, **decoy)


def test_endpoints_without_keep_alive_cannot_unload() -> None:
    assert not evicts("/v1/chat/completions", keep_alive=0)
    assert not evicts("/api/show", keep_alive=0)


def test_a_number_that_nobody_can_read_is_a_bad_body() -> None:
    endpoint = find("/api/generate")
    assert endpoint is not None
    with pytest.raises(BadBody):
        unloads(read_body(b'{"model":"m","keep_alive":1e999}'), endpoint)
