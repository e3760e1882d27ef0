"""What plugins are told of a request when it has ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.stories.conftest import Chat

from herdgate.relay import TAIL
from herdgate.testing.faults import Status
from herdgate.testing.gateway import running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

NAMES = ["configured_backends", "ollama_discovery", "api_keys", "model_access", "opening_check", "./diary.py:Diary"]
DIARY = """
import json
from pathlib import Path
from herdgate import hookimpl

class Diary:
    herdgate_api = 1

    @hookimpl
    def exchange_ended(self, summary):
        line = [summary.backend, summary.status, summary.outcome.value, summary.tail.decode(), summary.sent]
        with Path(__file__).with_name("diary").open("a") as diary:
            diary.write(json.dumps(line) + "\\n")
"""


async def told(place: Path) -> list[object]:
    diary = place / "diary"
    await until(lambda: diary.exists() and diary.read_text().endswith("\n"))
    line: list[object] = json.loads(diary.read_text().splitlines()[-1])
    return line


@pytest.fixture
def toml(tmp_path: Path) -> str:
    (tmp_path / "diary.py").write_text(DIARY)
    return "\n".join(f'[[plugin]]\nuse = "{name}"' for name in NAMES)


async def test_the_backend_and_the_end_of_its_reply_are_told_streaming_or_not(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, toml: str, tmp_path: Path
) -> None:
    await first.stop()
    async with running_gateway(first, second, toml=toml, directory=tmp_path) as gateway:
        async with gateway.client.stream("POST", chat.path, json=chat.body()) as response:
            body = b"".join([piece async for piece in response.aiter_bytes()])
        backend, status, outcome, tail, sent = await told(tmp_path)
    assert (backend, status, outcome) == ("second", 200, "answered")
    assert isinstance(tail, str)
    assert body.decode().endswith(tail)
    assert len(tail) >= min(len(body), TAIL)
    assert sent == len(body)


async def test_a_reply_of_the_gateway_has_no_backend(
    first: SimulatedOllama, chat: Chat, toml: str, tmp_path: Path
) -> None:
    first.script(chat.path, Status(502), times=None)
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        assert (await chat.ask(gateway)).status_code == 502
        backend, status, outcome, tail, _ = await told(tmp_path)
    assert (backend, status, outcome, tail) == (None, 502, "failed", "")
