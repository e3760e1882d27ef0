"""The order of the checks, which is a part of the contract: what is asked first tells nothing of what comes after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stories.conftest import CHAT, MODEL, Chat, plugin_of, with_plugin
from tests.stories.raw import connected

from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

ASK = Chat(CHAT, stream=False)
LIMITED = """
from herdgate import Refusal, hookimpl

class Extra:
    herdgate_api = 1
    full = False

    @hookimpl
    def admit(self):
        return Refusal("too many", retry_after=1) if self.full else None
"""
BIG = b'{"model":"no-such-model","padding":"' + b"x" * 3000 + b'"}'


@pytest.fixture
async def limited(first: SimulatedOllama, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    toml = f"{with_plugin(tmp_path, LIMITED)}\n[server]\nmax_body = 2000\n"
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        # no route, no such method: before limits and everything after them
        ("GET", "/nothing", None, [401, 404, 404]),
        ("GET", CHAT, None, [401, 405, 405]),
        ("POST", "/api/tags", BIG, [401, 405, 405]),
        # rights to the operation: before size and body
        ("POST", "/api/pull", BIG, [401, 429, 403]),
        ("POST", "/api/pull", b"no JSON", [401, 429, 403]),
        # size: before the body, and the body: before the model
        ("POST", CHAT, BIG, [401, 429, 413]),
        ("POST", CHAT, b"no JSON", [401, 429, 400]),
        ("POST", CHAT, {"model": "no such model"}, [401, 429, 400]),
        ("POST", CHAT, {"model": "no-such-model", "stream": "yes"}, [401, 429, 400]),
        ("POST", CHAT, {"model": "no-such-model"}, [401, 429, 403]),
        ("GET", "/v1/models/no-such-model", None, [401, 429, 403]),
        ("GET", "/v1/models/%20", None, [401, 429, 400]),
        ("GET", "/api/tags", None, [401, 429, 200]),
        # capacity comes last
        ("POST", CHAT, ASK.body(), [401, 429, 502]),
        ("POST", CHAT, ASK.body("only-first"), [401, 429, 403]),
    ],
)
async def test_checks_come_in_the_order_of_the_contract(
    limited: RunningGateway,
    first: SimulatedOllama,
    method: str,
    path: str,
    body: object,
    expected: list[int],
) -> None:
    key = await limited.make_key(MODEL)
    await first.stop()
    extra = plugin_of(limited, "extra")
    answered = []
    for headers, extra.full in (({}, True), (key, True), (key, False)):
        async with connected(limited) as connection:
            answered.append((await connection.ask(method, path, body, headers)).status)
    assert answered == expected
