"""Backends that hold different models under one name: noticed, and kept apart where mixing them does harm."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from herdgate import Backend, Candidate, Exchange, ModelEntry
from herdgate.testing.faults import Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimModel, SimulatedOllama
from herdgate_plugins.digest_guard import DigestGuard

CHAT, EMBED = "/api/chat", "/api/embed"
EMBEDDINGS = [EMBED, "/api/embeddings", "/v1/embeddings"]
OTHERS = [CHAT, "/api/generate", "/api/show", "/v1/chat/completions", "/v1/completions"]
OLD, NEW = "a" * 64, "b" * 64


def guard(**settings: bool) -> DigestGuard:
    return DigestGuard(DigestGuard.Settings(**settings))


def candidate(backend: str, digest: str, model: str = "llama3") -> Candidate:
    return Candidate(Backend(backend, "http://gpu"), ModelEntry.from_tags({"name": model, "digest": digest}))


def left(plugin: DigestGuard, path: str, *candidates: Candidate) -> Sequence[Candidate]:
    """What the plugin leaves of the candidates."""
    exchange = Exchange("r", method="POST", path=path, client="127.0.0.1")
    chosen = plugin.select_candidates(exchange, candidates)
    return candidates if chosen is None else chosen


ONE, TWO, THREE = candidate("one", OLD), candidate("two", NEW), candidate("three", OLD)


@pytest.mark.parametrize("path", OTHERS)
def test_a_chat_may_go_to_another_version_unless_the_settings_say_no(path: str) -> None:
    assert left(guard(), path, ONE, TWO, THREE) == (ONE, TWO, THREE)
    assert left(guard(same_digest=True), path, ONE, TWO, THREE) == [ONE, THREE]
    assert left(guard(same_digest=True), path, TWO, ONE) == [TWO]


@pytest.mark.parametrize("path", EMBEDDINGS)
def test_embeddings_keep_to_one_version_unless_the_settings_say_otherwise(path: str) -> None:
    assert left(guard(), path, ONE, TWO, THREE) == [ONE, THREE]
    assert left(guard(same_digest_embeddings=False), path, ONE, TWO, THREE) == (ONE, TWO, THREE)
    assert left(guard(same_digest=True, same_digest_embeddings=False), path, ONE, TWO) == [ONE]


@pytest.mark.parametrize("path", [CHAT, EMBED])
def test_where_all_agree_nothing_is_changed(path: str) -> None:
    plugin = guard(same_digest=True)
    assert left(plugin, path, ONE, THREE) == (ONE, THREE)
    assert left(plugin, path) == ()
    assert plugin.differing == {}


def test_a_digest_that_nobody_told_is_not_the_same_and_no_news(caplog: pytest.LogCaptureFixture) -> None:
    unknown = candidate("two", "")
    assert left(guard(), EMBED, ONE, unknown) == [ONE]
    assert left(guard(), EMBED, unknown, ONE, candidate("four", "")) == [unknown, candidate("four", "")]
    assert caplog.text == ""


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return said


def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "herdgate.digests")
    plugin = guard()
    differ = "the backends hold different models under the name llama3:latest: "
    for _ in range(3):
        left(plugin, CHAT, ONE, TWO)
    assert warnings(caplog) == [f"{differ}one {OLD[:12]}, two {NEW[:12]}"]
    left(plugin, CHAT, TWO, ONE)
    left(plugin, CHAT, ONE)
    assert warnings(caplog) == []
    left(plugin, CHAT, ONE, TWO, THREE)
    assert warnings(caplog) == [f"{differ}one {OLD[:12]}, two {NEW[:12]}, three {OLD[:12]}"]
    left(plugin, CHAT, ONE, candidate("four", NEW))
    assert len(warnings(caplog)) == 1
    left(plugin, CHAT, ONE, TWO, THREE)
    assert warnings(caplog) == [], "which of them a request may use is no news"
    left(plugin, CHAT, ONE, candidate("two", OLD), THREE)
    assert warnings(caplog) == ["the backends hold the same model under the name llama3:latest again"]
    left(plugin, CHAT, ONE, TWO, THREE)
    assert len(warnings(caplog)) == 1
    left(plugin, CHAT, candidate("one", OLD, "qwen3"), candidate("three", OLD, "qwen3"))
    assert warnings(caplog) == []


class Question(Exchange):
    """An admin's question."""

    said: tuple[object, ...] = ()
    explaining = True

    def explain(self, reason: str, *values: object) -> None:
        self.said = (reason % values,)


def test_an_admin_learns_why_backends_are_left_out_and_is_not_counted() -> None:
    plugin = guard()
    question = Question("r", method="POST", path=EMBED, client="127.0.0.1")
    assert plugin.select_candidates(question, (ONE, TWO)) == [ONE]
    assert question.said == (f"the backends hold different models; only digest {OLD[:12]} is tried",)
    assert not plugin.differing


def test_requests_that_meet_different_versions_are_counted() -> None:
    plugin = guard()
    for _ in range(3):
        left(plugin, CHAT, ONE, TWO)
    left(plugin, CHAT, ONE, THREE)
    assert plugin.differing == {"llama3:latest": 3}


def test_that_embeddings_come_from_another_version_is_told_every_time(caplog: pytest.LogCaptureFixture) -> None:
    plugin = guard()
    left(plugin, EMBED, ONE)
    left(plugin, CHAT, TWO)
    assert warnings(caplog) == []
    left(plugin, EMBED, TWO)
    left(plugin, EMBED, TWO)
    (said,) = warnings(caplog)
    assert said.startswith(f"embeddings of llama3:latest now come from the digest {NEW[:12]}, before it was {OLD[:12]}")
    left(plugin, EMBED, ONE)
    assert len(warnings(caplog)) == 1


# through a gateway


async def ask(gateway: RunningGateway, path: str) -> int:
    body = {"model": "llama3.2", "input": "hi", "messages": [{"role": "user", "content": "hi"}]}
    return (await gateway.client.post(path, json=body)).status_code


async def test_failover_of_embeddings_stays_within_one_version(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        SimulatedOllama("first") as first,
        SimulatedOllama("second", [SimModel("llama3.2", digest=NEW)]) as second,
        SimulatedOllama("third") as third,
        running_gateway(first, second, third) as gateway,
    ):
        for path in (EMBED, CHAT):
            first.script(path, Status(503), times=None)
            assert await ask(gateway, path) == 200
        assert "hold different models under the name llama3.2:latest: first" in caplog.text
        assert [request.path for request in second.requests if request.method == "POST"] == [CHAT]
        assert [request.path for request in third.requests if request.method == "POST"] == [EMBED]
        third.script(EMBED, Status(503), times=None)
        assert await ask(gateway, EMBED) == 503
        assert [request.path for request in second.requests if request.method == "POST"] == [CHAT]
        await first.stop()
        await until(lambda: "backend first cannot be polled" in caplog.text)
        assert await ask(gateway, EMBED) == 503, "a backend that is away keeps its version, too"
