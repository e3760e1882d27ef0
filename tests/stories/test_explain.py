"""An admin asks what would become of a request: the plugins decide as about a real one, and nothing comes of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stories.conftest import ANONYMOUS, CHAT, MODEL, Chat, with_plugin

from herdgate.names import ModelName
from herdgate.quarantine import FAULTS
from herdgate.testing.faults import Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

ADMIN_KEY = "an-admin-key-for-these-stories"
ENV = {"HERDGATE_ADMIN_KEY": ADMIN_KEY}
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
EXPLAIN = "/herdgate/explain"

CHOOSERS = """
import asyncio
from herdgate import hookimpl

class Extra:
    herdgate_api = 1
    advisory = {advisory}
    seen = []

    @hookimpl
    {how} select_candidates(self, exchange, candidates):
        self.seen.append(exchange)
        {body}
"""


def chooser(directory: Path, body: str, *, how: str = "def", advisory: bool = False) -> str:
    return with_plugin(directory, CHOOSERS.format(body=body, how=how, advisory=advisory))


async def ask(gateway: RunningGateway, key: str = "alice", model: str = MODEL, **headers: str) -> httpx.Response:
    body = {"key": key, "model": model}
    return await gateway.client.post(EXPLAIN, json=body, headers=headers or ADMIN)


async def explained(gateway: RunningGateway, key: str = "alice", model: str = MODEL) -> Any:
    reply = await ask(gateway, key, model)
    assert reply.status_code == 200, reply.text
    return reply.json()


def asked(*backends: SimulatedOllama) -> list[str]:
    """What was sent to backends, polls aside."""
    return [request.path for backend in backends for request in backend.requests if request.method == "POST"]


def last(told: Any) -> Any:
    return told["steps"][-1]


def catalogue(told: Any) -> Any:
    (step,) = (step for step in told["steps"] if step["hook"] == "catalogue")
    return step


# what would be tried


async def test_an_explanation_says_who_knows_the_caller_who_allows_the_model_and_where_it_would_go(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    async with running_gateway(first, second, env=ENV) as gateway:
        key = await gateway.make_key("llama3*", name="alice")
        told = await explained(gateway)

        assert told["candidates"] == ["first", "second"]
        assert told["refused"] is None
        assert (told["key"], told["model"], told["path"]) == ("alice", "llama3.2:latest", CHAT)
        assert told["caller"]["name"] == "alice"
        assert told["caller"]["models"] == ["llama3*"]
        assert [(step["hook"], step["plugin"], step["said"], step["reasons"]) for step in told["steps"][:3]] == [
            ("identify", "api_keys", "knows alice", []),
            ("authorise", "model_access", "allows", ["pattern llama3*"]),
            ("catalogue", None, "2 of 2 usable", []),
        ]
        assert set(told["not_asked"]) == {"admit", "around_attempt"}
        assert "limits" in told["not_asked"]["admit"]
        assert await explained(gateway, told["caller"]["key_id"]) == {**told, "key": told["caller"]["key_id"]}
        assert key["authorization"].removeprefix("Bearer ") not in str(told)
    assert asked(first, second) == []


@pytest.mark.parametrize("how", ["def", "async def"])
async def test_what_a_plugin_did_shows_even_if_it_says_nothing_and_why_if_it_does(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path, how: str
) -> None:
    body = 'exchange.explain("%s is %.1f times as dear", "first", 2.5); return [candidates[1], candidates[0]]'
    toml = chooser(tmp_path, body, how=how)
    (tmp_path / "drops.py").write_text(CHOOSERS.format(body="return candidates[1:]", how=how, advisory=False))
    toml += '[[plugin]]\nuse = "./drops.py:Drops"\n'
    (tmp_path / "drops.py").write_text((tmp_path / "drops.py").read_text().replace("Extra", "Drops"))
    async with running_gateway(first, second, env=ENV, toml=toml, directory=tmp_path) as gateway:
        told = await explained(gateway, "admin")
    extra, drops = told["steps"][-2:]
    assert extra == {
        "hook": "select_candidates",
        "plugin": "extra",
        "said": "reorders",
        "given": ["first", "second"],
        "left": ["second", "first"],
        "reasons": ["first is 2.5 times as dear"],
    }
    assert (drops["said"], drops["left"], drops["reasons"]) == ("drops second", ["first"], [])
    assert told["candidates"] == ["first"]


async def test_a_plugin_can_tell_a_question_from_a_request(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    toml = chooser(tmp_path, 'exchange.explain("for %s", exchange.identity.name)')
    async with running_gateway(first, second, env=ENV, toml=toml, directory=tmp_path) as gateway:
        await Chat(CHAT, stream=False).ask(gateway, **ADMIN)
        told = await explained(gateway, "admin")
        plugin = gateway.gateway.runtime.points.plugins[-1].instance
    assert [exchange.explaining for exchange in vars(type(plugin))["seen"]] == [False, True]
    assert last(told)["said"] == "unchanged"
    assert last(told)["reasons"] == ["for admin"]


async def test_reasons_have_an_end(first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path) -> None:
    toml = chooser(tmp_path, 'for _ in range(1000): exchange.explain("x" * 10_000)')
    async with running_gateway(first, second, env=ENV, toml=toml, directory=tmp_path) as gateway:
        reply = await ask(gateway, "admin")
    assert len(reply.content) < 50_000
    assert reply.json()["candidates"] == ["first", "second"]


async def test_the_plugin_health_says_who_is_not_sound(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, env=ENV) as gateway:
        first.script("/api/chat", Status(502), times=None)
        for _ in range(3):
            assert (await Chat(CHAT, stream=False).ask(gateway, **ADMIN)).status_code == 200
        told = await explained(gateway, "admin")
    (health,) = (step for step in told["steps"] if step["plugin"] == "health")
    assert (health["said"], health["reasons"]) == ("reorders", ["first is failing", "second is sound"])
    assert told["candidates"] == ["second", "first"]


# what would be refused, and by whom


async def test_a_model_that_the_key_may_not_use(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, env=ENV) as gateway:
        await gateway.make_key("qwen3", name="alice")
        told = await explained(gateway)
    assert told["candidates"] == []
    assert told["refused"] == {
        "status": 403,
        "hook": "authorise",
        "plugin": None,
        "reason": "no plugin allowed it",
    }


async def test_a_model_that_a_plugin_denies(first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path) -> None:
    code = """
from herdgate import Deny, hookimpl
class Extra:
    herdgate_api = 1
    @hookimpl
    async def authorise(self, resources):
        return [Deny("closed on Sundays") if resource.model else None for resource in resources]
"""
    toml = with_plugin(tmp_path, code)
    async with running_gateway(first, second, env=ENV, toml=toml, directory=tmp_path) as gateway:
        told = await explained(gateway, "admin")
    assert [(step["plugin"], step["said"]) for step in told["steps"][1:3]] == [
        ("model_access", "allows"),
        ("extra", "denies"),
    ]
    assert told["refused"] == {
        "status": 403,
        "hook": "authorise",
        "plugin": "extra",
        "reason": "closed on Sundays",
    }


async def test_a_model_that_nobody_has(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, env=ENV) as gateway:
        told = await explained(gateway, "admin", "nothing")
    assert told["refused"] == {
        "status": 403,
        "hook": "catalogue",
        "plugin": None,
        "reason": "no backend has this model",
    }
    assert catalogue(told)["said"] == "no backend has it"


@pytest.mark.parametrize("others", [True, False])
async def test_a_backend_that_has_been_away_for_long(
    first: SimulatedOllama, second: SimulatedOllama, others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(first, second, env=ENV) as gateway:
        model = MODEL if others else "only-first"
        await first.stop()
        monkeypatch.setattr("herdgate.catalogue.GONE_AFTER", 1.0)
        await until(lambda: gateway.gateway.runtime.discovery.catalogue.holders(ModelName.parse(model))[0].gone)
        told = await explained(gateway, "admin", model)
    assert catalogue(told)["reasons"] == ["first has not answered for too long"]
    assert told["candidates"] == (["second"] if others else [])
    if not others:
        assert catalogue(told)["said"] == "0 of 1 usable"
        assert (told["refused"]["status"], told["refused"]["hook"]) == (503, "catalogue")


async def test_before_anything_is_known_of_any_backend() -> None:
    async with running_gateway({"name": "nowhere", "base_url": "http://127.0.0.1:1"}, env=ENV) as gateway:
        told = await explained(gateway, "admin")
    assert told["refused"]["status"] == 503
    assert "does not know its models yet" in told["refused"]["reason"]


async def test_a_model_name_that_is_none(first: SimulatedOllama) -> None:
    async with running_gateway(first, env=ENV) as gateway:
        told = await explained(gateway, "admin", "a b")
    assert told["refused"]["status"] == 400
    assert told["refused"]["hook"] == "request"
    assert "invalid model name" in told["refused"]["reason"]


@pytest.mark.parametrize(
    ("body", "advisory", "said", "left", "refused"),
    [
        ('exchange.explain("closed"); return []', False, "drops first, second", [], (503, "closed")),
        ("return []", True, "drops first, second", [], (503, "left no backend to try")),
        ('raise RuntimeError("boom")', False, "fails", None, (503, "RuntimeError: boom")),
        ('raise RuntimeError("boom")', True, "fails", ["first", "second"], None),
        ("return [*candidates, candidates[0]]", False, "answers what is not accepted", None, (503, "ValueError")),
        ("return [*candidates, candidates[0]]", True, "answers what is not accepted", ["first", "second"], None),
        ("return [7]", True, "answers what is not accepted", ["first", "second"], None),
        ("return 7", True, "answers what is not accepted", ["first", "second"], None),
    ],
)
@pytest.mark.parametrize("how", ["def", "async def"])
async def test_a_plugin_that_leaves_nothing_or_fails(
    first: SimulatedOllama,
    second: SimulatedOllama,
    tmp_path: Path,
    body: str,
    advisory: bool,
    said: str,
    left: list[str] | None,
    refused: tuple[int, str] | None,
    how: str,
) -> None:
    toml = chooser(tmp_path, body, how=how, advisory=advisory)
    async with running_gateway(first, second, env=ENV, toml=toml, directory=tmp_path) as gateway:
        told = await explained(gateway, "admin")
    assert (last(told)["said"], last(told)["left"]) == (said, left)
    if refused is None:
        assert told["refused"] is None
        assert told["candidates"] == left
    else:
        assert told["refused"]["plugin"] == "extra"
        assert told["refused"]["status"] == refused[0]
        assert told["refused"]["reason"].startswith(refused[1])
        assert told["candidates"] == []


async def test_questions_leave_nobody_out_of_requests_and_show_who_is(
    first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path
) -> None:
    toml = chooser(tmp_path, 'raise RuntimeError("boom")', advisory=True)
    async with running_gateway(first, second, env=ENV, toml=toml, directory=tmp_path) as gateway:
        ledger = gateway.gateway.runtime.points.ledger
        for _ in range(FAULTS + 1):
            told = await explained(gateway, "admin")
            assert (last(told)["plugin"], told["left_out"]) == ("extra", [])
        assert not ledger.faults
        for _ in range(FAULTS):
            assert (await Chat(CHAT, stream=False).ask(gateway, **ADMIN)).status_code == 200
        told = await explained(gateway, "admin")
    assert last(told)["plugin"] != "extra"
    assert told["left_out"] == ["extra"]
    assert told["candidates"] == ["first", "second"]


async def test_a_key_that_is_revoked(first: SimulatedOllama) -> None:
    async with running_gateway(first, env=ENV) as gateway:
        await gateway.make_key("*", name="alice")
        await gateway.keys.revoke("alice")
        told = await explained(gateway)
    assert told["caller"] is None
    assert told["refused"] == {
        "status": 401,
        "hook": "identify",
        "plugin": "api_keys",
        "reason": "the key is revoked",
    }


async def test_callers_without_a_key_have_a_name(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, env=ENV, toml=ANONYMOUS) as gateway:
        told = await explained(gateway, "anonymous")
        refused = await explained(gateway, "anonymous", "only-first")
    assert told["caller"]["anonymous"] is True
    assert told["candidates"] == ["first", "second"]
    assert refused["refused"]["status"] == 403


async def test_somebody_whom_nobody_knows(first: SimulatedOllama) -> None:
    async with running_gateway(first, env=ENV) as gateway:
        reply = await ask(gateway, "nobody")
    assert reply.status_code == 404
    assert reply.json() == {"error": "no plugin knows a caller with the name or id nobody"}


# nothing comes of it


async def test_it_is_what_a_request_would_meet(first: SimulatedOllama, second: SimulatedOllama, tmp_path: Path) -> None:
    toml = chooser(tmp_path, "return candidates[::-1]")
    async with running_gateway(first, second, env=ENV, toml=toml, directory=tmp_path) as gateway:
        told = await explained(gateway, "admin")
        reply = await Chat(CHAT, stream=False).ask(gateway, **ADMIN)
    assert told["candidates"][0] == reply.headers["x-herdgate-backend"] == "second"


async def test_nothing_counts_against_the_limits_of_the_key(first: SimulatedOllama) -> None:
    async with running_gateway(first, env=ENV) as gateway:
        headers = await gateway.make_key("*", name="alice", rpm=1)
        for _ in range(3):
            assert (await explained(gateway))["refused"] is None
        assert [(await Chat(CHAT, stream=False).ask(gateway, **headers)).status_code for _ in "12"] == [200, 429]


async def test_the_audit_log_says_who_asked(first: SimulatedOllama, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "herdgate.audit")
    async with running_gateway(first, env=ENV) as gateway:
        await explained(gateway, "admin", "no\nline")
    (line,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith("explained"))
    assert "caller=admin key='admin' model='no\\nline'" in line


# who may ask


async def test_only_admins_may_ask(first: SimulatedOllama) -> None:
    async with running_gateway(first, env=ENV) as gateway:
        headers = await gateway.make_key("*", name="alice")
        forbidden = await ask(gateway, **headers)
        denied = await Chat(CHAT, stream=False).ask(gateway, **await gateway.make_key("qwen3", name="bob"))
        assert (await ask(gateway, authorization="Bearer nonsense")).status_code == 401
        admin = await gateway.make_key(name="carol", admin=True)
        assert (await ask(gateway, **admin)).status_code == 200
    assert (forbidden.status_code, forbidden.content) == (denied.status_code, denied.content) == (403, denied.content)


async def test_while_no_key_was_ever_made_nobody_is_an_admin(gateway: RunningGateway) -> None:
    assert (await ask(gateway, authorization="Bearer anything")).status_code == 403


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"key":"admin"}', 400),
        (b'{"model":"llama3.2"}', 400),
        (b'{"key":7,"model":"llama3.2"}', 400),
        (b'{"key":"admin","model":"llama3.2","MODEL":"x"}', 400),
        (b" " * 70_000, 413),
    ],
)
async def test_a_question_that_cannot_be_read(first: SimulatedOllama, content: bytes, status: int) -> None:
    async with running_gateway(first, env=ENV) as gateway:
        reply = await gateway.client.post(EXPLAIN, content=content, headers=ADMIN)
    assert reply.status_code == status
    assert reply.json().keys() == {"error"}
