"""An address fails to authenticate as often as it may, and then nothing that it sends is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from herdgate import Exchange, Outcome, Refusal, Summary
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.authentication_limits import REMEMBERED, AuthenticationLimits

WRONG = {"authorization": "Bearer hg_wrong"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> AuthenticationLimits:
    return AuthenticationLimits(AuthenticationLimits.Settings(failures_per_minute=3), clock)


@dataclass
class AppWith:
    """As much of an `App` as the plugin looks at."""

    memory: dict[str, Any]


@contextmanager
def limits_of(failures: int, clock: Clock, app: AppWith) -> Iterator[AuthenticationLimits]:
    made = AuthenticationLimits(AuthenticationLimits.Settings(failures_per_minute=failures), clock)
    with made.lifespan(app):  # type: ignore[arg-type]
        yield made


def asked(client: str) -> Exchange:
    return Exchange("id", method="GET", path="/api/tags", client=client)


def end(limits: AuthenticationLimits, client: str, status: int = 401) -> None:
    limits.exchange_ended(Summary(asked(client), Outcome.REFUSED, status, 0.0))


def test_an_address_is_refused_after_its_last_allowed_failure_and_told_when_to_come_back(
    limits: AuthenticationLimits, clock: Clock
) -> None:
    for _ in range(3):
        assert limits.authenticate(asked("192.0.2.1")) is None
        end(limits, "192.0.2.1")
        clock.now += 10
    refusal = limits.authenticate(asked("192.0.2.1"))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.retry_after) == (429, 30.0)
    assert limits.authenticate(asked("192.0.2.2")) is None


def test_the_window_slides_and_refusals_do_not_prolong_it(limits: AuthenticationLimits, clock: Clock) -> None:
    for _ in range(3):
        end(limits, "192.0.2.1")
        clock.now += 10
    end(limits, "192.0.2.1", 429)
    clock.now += 29.9
    assert limits.authenticate(asked("192.0.2.1")) is not None
    clock.now += 0.2
    assert limits.authenticate(asked("192.0.2.1")) is None
    end(limits, "192.0.2.1")
    assert limits.authenticate(asked("192.0.2.1")) is not None


@pytest.mark.parametrize("status", [0, 200, 400, 403, 404, 429, 503])
def test_nothing_but_a_failed_authentication_counts(limits: AuthenticationLimits, status: int) -> None:
    for _ in range(10):
        end(limits, "192.0.2.1", status)
    assert limits.authenticate(asked("192.0.2.1")) is None


def test_one_user_of_an_ipv6_network_is_one_user(limits: AuthenticationLimits) -> None:
    for number in range(3):
        end(limits, f"2001:db8:0:1::{number}")
    assert limits.authenticate(asked("2001:db8:0:1:ffff::9")) is not None
    assert limits.authenticate(asked("2001:db8:0:2::1")) is None


def test_an_ipv4_address_is_the_same_whatever_the_listener_calls_it(limits: AuthenticationLimits) -> None:
    for _ in range(3):
        end(limits, "::ffff:192.0.2.1")
    assert limits.authenticate(asked("192.0.2.1")) is not None
    assert limits.authenticate(asked("::ffff:192.0.2.2")) is None


def test_what_is_no_address_has_a_count_too(limits: AuthenticationLimits) -> None:
    for client in ("", "unix:"):
        for _ in range(3):
            end(limits, client)
        assert limits.authenticate(asked(client)) is not None


def test_memory_is_bounded_and_who_failed_last_is_remembered(limits: AuthenticationLimits) -> None:
    for _ in range(3):
        end(limits, "192.0.2.1")
    for number in range(REMEMBERED + 10):
        end(limits, f"host-{number}")
        end(limits, "192.0.2.1")
    assert len(limits._failed) == REMEMBERED
    assert max(len(times) for times in limits._failed.values()) == 3
    assert limits.authenticate(asked("192.0.2.1")) is not None
    assert "host-0" not in limits._failed


async def test_a_reload_gives_nobody_new_attempts() -> None:
    rest = ("configured_backends", "ollama_discovery", "api_keys", "model_access")
    others = "".join(f'[[plugin]]\nuse = "{name}"\n' for name in rest)

    def limited(failures: int) -> str:
        return f'[[plugin]]\nuse = "authentication_limits"\nfailures_per_minute = {failures}\n{others}'

    async with SimulatedOllama() as backend, running_gateway(backend, toml=limited(50)) as gateway:
        await gateway.make_key("*")
        await gateway.reload(backend, toml=limited(1))
        assert (await gateway.client.get("/api/tags", headers=WRONG)).status_code == 429


def test_a_changed_limit_keeps_what_was_counted(clock: Clock) -> None:
    memory = AppWith({})
    with limits_of(2, clock, memory) as before:
        for _ in range(2):
            end(before, "192.0.2.1")
            clock.now += 10
        with limits_of(1, clock, memory) as fewer:
            refusal = fewer.authenticate(asked("192.0.2.1"))
            assert refusal is not None
            assert refusal.retry_after == 50.0
        with limits_of(3, clock, memory) as more:
            assert more.authenticate(asked("192.0.2.1")) is None
            end(more, "192.0.2.1")
            assert more.authenticate(asked("192.0.2.1")) is not None


async def test_a_caller_who_guesses_learns_nothing_from_the_refusal() -> None:
    toml = '[[plugin]]\nuse = "authentication_limits"\nfailures_per_minute = 5\n'
    rest = ("configured_backends", "ollama_discovery", "api_keys", "model_access", "generic_403")
    toml += "".join(f'[[plugin]]\nuse = "{name}"\n' for name in rest)
    async with SimulatedOllama() as backend, running_gateway(backend, toml=toml) as gateway:
        right = await gateway.make_key("*")  # one request of it, and more, got a 401
        statuses = [(await gateway.client.get("/api/tags", headers=WRONG)).status_code for _ in range(5)]
        assert sorted(set(statuses)) == [401, 429]
        for path in ("/api/tags", "/v1/models", "/v1/messages", "/nothing"):
            replies = [await gateway.client.get(path, headers=headers) for headers in (WRONG, right, {})]
            assert {reply.status_code for reply in replies} == {429}
            assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in replies)
            bodies = {reply.content.replace(reply.headers["x-request-id"].encode(), b"ID") for reply in replies}
            names = {tuple(reply.headers) for reply in replies}
            assert (len(bodies), len(names)) == (1, 1)
        assert (await gateway.client.get("/healthz")).status_code == 200
