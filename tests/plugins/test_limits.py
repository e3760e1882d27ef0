"""A key sends as many requests per minute as it may, and not one more."""

from __future__ import annotations

from herdgate import Identity, Refusal
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.limits import Limits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(name: str, limit: int | None) -> Identity:
    return Identity(name, key_id=f"k_{name}", models=("*",), requests_per_minute=limit)


def test_the_limit_is_let_through_and_the_next_one_is_told_when_to_come_back() -> None:
    clock = Clock()
    limits = Limits(clock)
    for _ in range(3):
        assert limits.admit(key("a", 3)) is None
        clock.now += 10
    refusal = limits.admit(key("a", 3))
    assert isinstance(refusal, Refusal)
    assert refusal.status == 429
    assert refusal.retry_after == 30.0


def test_the_window_slides() -> None:
    clock = Clock()
    limits = Limits(clock)
    assert limits.admit(key("a", 2)) is None
    clock.now += 40
    assert limits.admit(key("a", 2)) is None
    clock.now += 20
    assert limits.admit(key("a", 2)) is None
    assert limits.admit(key("a", 2)) is not None


def test_keys_do_not_share_a_limit_and_a_key_without_one_has_none() -> None:
    limits = Limits(Clock())
    assert limits.admit(key("a", 1)) is None
    assert limits.admit(key("b", 1)) is None
    assert limits.admit(key("a", 1)) is not None
    assert all(limits.admit(key("c", None)) is None for _ in range(100))


def test_a_refused_request_does_not_count() -> None:
    clock = Clock()
    limits = Limits(clock)
    assert limits.admit(key("a", 1)) is None
    clock.now += 59
    assert limits.admit(key("a", 1)) is not None
    clock.now += 1
    assert limits.admit(key("a", 1)) is None


def test_a_changed_limit_keeps_what_was_counted() -> None:
    limits = Limits(Clock())
    for _ in range(3):
        assert limits.admit(key("a", 3)) is None
    assert limits.admit(key("a", 2)) is not None
    assert limits.admit(key("a", 4)) is None


async def test_denied_and_allowed_requests_count_alike() -> None:
    async with SimulatedOllama() as backend, running_gateway(backend) as gateway:
        headers = await gateway.make_key("llama3.2", rpm=2)
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": False}
        statuses = [
            (await gateway.client.post("/api/chat", headers=headers, json={"model": model, **body})).status_code
            for model in ("llama3.2", "nobody-has-this", "llama3.2")
        ]
        assert statuses == [200, 403, 429]
