"""Two simulated Ollama servers with one model in common, and what the stories ask of a gateway in front of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

MODEL = "llama3.2"
_OF_BYTES = {"test_bodies", "test_framing", "test_framing_corpus", "test_front", "test_leaving", "test_streams"}
CHAT = "/api/chat"
OPENAI_CHAT = "/v1/chat/completions"
BUILT_IN = (Path(__file__).parents[2] / "plugins.toml").read_text("utf-8")
PATIENT = BUILT_IN.replace("# failures_per_minute = 60", "failures_per_minute = 10_000")
"""For stories with more failures to authenticate than a gateway puts up with."""
ANONYMOUS = BUILT_IN.replace(
    '[[plugin]]\nuse = "model_access"',
    f'[[plugin]]\nuse = "anonymous"\nmodels = ["{MODEL}"]\n\n[[plugin]]\nuse = "model_access"',
)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tell the stories of bytes in the loop that gateways serve in."""
    if item.path.stem in _OF_BYTES:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


def with_plugin(directory: Path, code: str, settings: str = "") -> str:
    """A plugins.toml for this directory: the built-in list, and after it the class Extra that this code defines."""
    (directory / "extra.py").write_text(code, "utf-8")
    return f'{BUILT_IN}\n[[plugin]]\nuse = "./extra.py:Extra"\n{settings}\n'


def plugin_of(gateway: RunningGateway, name: str) -> Any:
    """The plugin of this name in a running gateway."""
    return next(plugin.instance for plugin in gateway.gateway.runtime.points.plugins if plugin.name == name)


@pytest.fixture
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway looks for new keys all the time: for stories that are not about how soon it notices them."""
    monkeypatch.setattr("herdgate_plugins.api_keys.SYNC_EVERY", 0.02)


@pytest.fixture
async def first() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(name="first", models=[MODEL, "only-first"]) as backend:
        yield backend


@pytest.fixture
async def second() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(name="second", models=[MODEL, "only-second"]) as backend:
        yield backend


@pytest.fixture
async def gateway(first: SimulatedOllama, second: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    async with running_gateway(first, second) as running:
        yield running


@dataclass(frozen=True)
class Chat:
    """One way of asking for a chat: which family, streaming or not."""

    path: str
    stream: bool

    def body(self, model: str = MODEL, say: str = "hi") -> dict[str, object]:
        return {"model": model, "stream": self.stream, "messages": [{"role": "user", "content": say}]}

    async def ask(self, gateway: RunningGateway, **headers: str) -> httpx.Response:
        return await gateway.client.post(self.path, json=self.body(), headers=headers)

    def text_of(self, response: httpx.Response) -> str:
        """The generated text of a complete reply. Fails if the reply is not complete."""
        if not self.stream:
            said = response.json()
            message = said["message"] if self.path == CHAT else said["choices"][0]["message"]
            return str(message["content"])
        events = self.events_of(response.text)
        if self.path == CHAT:
            assert events[-1]["done"] is True
            return "".join(event["message"]["content"] for event in events)
        assert response.text.endswith("data: [DONE]\n\n")
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])

    def events_of(self, text: str) -> list[dict[str, Any]]:
        """All JSON events of a streamed body."""
        if self.path == CHAT:
            return [json.loads(line) for line in text.splitlines()]
        datas = [block.removeprefix("data: ") for block in text.split("\n\n") if block]
        return [json.loads(data) for data in datas if data != "[DONE]"]


EVERY_WAY = [Chat(path, stream) for path in (CHAT, OPENAI_CHAT) for stream in (True, False)]


@pytest.fixture(params=EVERY_WAY, ids=lambda chat: f"{chat.path}-{'stream' if chat.stream else 'whole'}")
def chat(request: pytest.FixtureRequest) -> Chat:
    way: Chat = request.param
    return way


@pytest.fixture(params=[way for way in EVERY_WAY if way.stream], ids=lambda chat: chat.path)
def stream(request: pytest.FixtureRequest) -> Chat:
    way: Chat = request.param
    return way
