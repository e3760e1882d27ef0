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


def chat_evicts(fields: str) -> bool:
    endpoint = find("/api/chat")
    assert endpoint is not None
    return unloads(read_body(f'{{"model":"m",{fields}}}'.encode()), endpoint)


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


@pytest.mark.parametrize("empty", ["[]", "[ \n]", "{}", "{ }", '""', "null", "0", "false"])
def test_what_says_nothing_is_an_empty_prompt(empty: str) -> None:
    assert chat_evicts(f'"keep_alive": 0, "messages" :  {empty} ')


def test_a_conversation_is_not_decoded_to_see_that_it_is_one() -> None:
    assert not chat_evicts('"keep_alive":0,"messages":[1e999]')


def test_a_keep_alive_that_is_longer_than_any_duration_is_refused_without_a_look_at_it() -> None:
    digits = "1" * 1_000_000
    with pytest.raises(BadBody, match="too long"):
        chat_evicts(f'"keep_alive":"{digits}"')
    assert not chat_evicts(f'"keep_alive":"{digits}","messages":["hi"]')


def test_endpoints_without_keep_alive_cannot_unload() -> None:
    assert not evicts("/v1/chat/completions", keep_alive=0)
    assert not evicts("/api/show", keep_alive=0)


def test_a_number_that_nobody_can_read_is_a_bad_body() -> None:
    endpoint = find("/api/generate")
    assert endpoint is not None
    with pytest.raises(BadBody):
        unloads(read_body(b'{"model":"m","keep_alive":1e999}'), endpoint)
