from __future__ import annotations

import logging
import random
from collections import Counter

import pytest
from herdgate import Backend, Candidate, ModelEntry
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama
from pydantic import ValidationError

from herdgate_weighted import Weighted

MODEL = ModelEntry.from_tags({"name": "llama3.2"})

TOML = """
[[plugin]]
use = "configured_backends"
[[plugin]]
use = "ollama_discovery"
[[plugin]]
use = "api_keys"
[[plugin]]
use = "model_access"
[[plugin]]
use = "herdgate_weighted:Weighted"
weights = { big = 1, small = 0 }
"""


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(Backend(name, f"http://{name}:11434"), MODEL) for name in names]


def drawn(weights: dict[str, float], names: list[str], times: int = 4000) -> Counter[tuple[str, ...]]:
    """How often each order was drawn."""
    plugin = Weighted(Weighted.Settings(weights=weights), random.Random(1))
    return Counter(
        tuple(candidate.backend.name for candidate in plugin.select_candidates(candidates(*names)))
        for _ in range(times)
    )


def test_the_first_choice_is_in_proportion_to_the_weights() -> None:
    orders = drawn({"big": 3, "small": 1}, ["small", "big"])
    assert orders["big", "small"] / orders.total() == pytest.approx(0.75, abs=0.03)


def test_the_others_stay_for_failover_in_proportion_as_well() -> None:
    orders = drawn({"a": 100, "b": 3, "c": 1}, ["c", "b", "a"])
    after_a = {order: count for order, count in orders.items() if order[0] == "a"}
    assert {frozenset(order) for order in orders} == {frozenset("abc")}
    assert after_a["a", "b", "c"] / sum(after_a.values()) == pytest.approx(0.75, abs=0.03)


def test_a_backend_of_weight_zero_comes_last() -> None:
    assert {order[-1] for order in drawn({"spare": 0}, ["spare", "a", "b"])} == {"spare"}


def test_backends_that_are_not_named_have_the_default_weight() -> None:
    orders = drawn({}, ["a", "b"])
    assert orders["a", "b"] / orders.total() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan")])
def test_what_is_no_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValidationError):
        Weighted.Settings(weights={"a": weight})


async def test_in_a_gateway_the_heavy_backend_answers_and_the_light_one_stands_in() -> None:
    chat = {"model": "llama3.2", "stream": False, "messages": [{"role": "user", "content": "hi"}]}
    async with (
        SimulatedOllama("small") as small,
        SimulatedOllama("big") as big,
        running_gateway(small, big, toml=TOML) as gateway,
    ):
        assert "backend big" in (await gateway.client.post("/api/chat", json=chat)).text
        await big.stop()
        assert "backend small" in (await gateway.client.post("/api/chat", json=chat)).text


async def test_a_misspelt_backend_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with SimulatedOllama("small") as small, running_gateway(small, toml=TOML):
        assert ("herdgate_weighted", logging.WARNING, "weights: there is no backend big") in caplog.record_tuples
