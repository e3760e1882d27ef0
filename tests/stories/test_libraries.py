"""More of the client libraries: Anthropic's, OpenAI's responses and recordings, tools, the classes of errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import ollama
import openai
import pytest
from tests.stories.conftest import CHAT, MODEL, OPENAI_CHAT
from tests.stories.test_clients import DENIED, HI, compatible, key_for, native

from herdgate.testing.faults import Cut, EndWithoutDone, Events, Fault, ResetBeforeHeaders, Status
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimModel, SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
SAID = "Hello from simulated backend first. You said: hi"
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "weather", "description": "The weather of a city", "parameters": CITY}
TOOL: Any = {"type": "function", "function": WEATHER}
BROKE, INCOMPLETE = "the model's reply was interrupted", "the model's reply ended before it was complete"


@pytest.fixture
async def gateway(first: SimulatedOllama, second: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    for backend in (first, second):
        backend.models.add(SimModel("whisper", capabilities=("audio",)))
    async with running_gateway(first, second) as running:
        yield running


@asynccontextmanager
async def claude(gateway: RunningGateway, key: str = "unused") -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0) as client:
        yield client


def ask(client: anthropic.AsyncAnthropic, model: str = MODEL, **more: Any) -> Any:
    return client.messages.create(model=model, max_tokens=100, messages=HI, **more)


async def text_of(stream: Any) -> str:
    """All text of Anthropic's stream. Raises what the library raises."""
    events = [event async for event in stream]
    assert events[-1].type == "message_stop"
    return "".join(event.delta.text for event in events if event.type == "content_block_delta")


# anthropic


async def test_anthropic_lists_writes_and_counts(gateway: RunningGateway) -> None:
    async with claude(gateway) as client:
        assert f"{MODEL}:latest" in {model.id async for model in client.models.list()}
        assert (await client.models.retrieve(MODEL)).id == MODEL
        whole = await ask(client)
        assert (whole.content[0].text, whole.stop_reason) == (SAID, "end_turn")
        assert await text_of(await ask(client, stream=True)) == SAID
        assert (await client.messages.count_tokens(model=MODEL, messages=HI)).input_tokens == 1


@pytest.mark.parametrize("fault", [ResetBeforeHeaders(), Status(503), Status(404), Cut(after="headers")], ids=repr)
async def test_anthropic_sees_nothing_of_a_failover(
    gateway: RunningGateway, first: SimulatedOllama, fault: Fault
) -> None:
    first.script(MESSAGES, fault, times=None)
    async with claude(gateway) as client:
        assert "second" in (await ask(client)).content[0].text
        assert "second" in await text_of(await ask(client, stream=True))


async def test_anthropic_uses_tools(gateway: RunningGateway, first: SimulatedOllama) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "usage": usage, "stop_reason": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {**use, "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '"Paris"}'}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    whole = json.dumps({**message, "content": [use], "stop_reason": "tool_use"}).encode()
    streamed = tuple(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    first.script(MESSAGES, Events((whole,)), Events(streamed))
    tools: Any = [{"name": "weather", "input_schema": CITY}]
    async with claude(gateway) as client:
        (block,) = (await ask(client, tools=tools)).content
        assert (block.name, block.input) == ("weather", {"city": "Paris"})
        async with client.messages.stream(model=MODEL, max_tokens=100, messages=HI, tools=tools) as stream:
            (used,) = (await stream.get_final_message()).content
            assert used.type == "tool_use"
            assert used.input == {"city": "Paris"}
    assert [request.json["tools"] for request in first.requests if request.path == MESSAGES] == [tools, tools]


async def test_anthropic_tells_its_user_what_is_wrong(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama
) -> None:
    key = await key_for(gateway, MODEL)
    async with claude(gateway, key) as client:
        for name in ("no-such-model", "only-first"):
            for asking in (
                ask(client, name),
                ask(client, name, stream=True),
                client.messages.count_tokens(model=name, messages=HI),
            ):
                with pytest.raises(anthropic.PermissionDeniedError, match=DENIED) as denied:
                    await asking
                body: Any = denied.value.body
                assert body["request_id"] == denied.value.response.headers["x-request-id"]
        with pytest.raises(anthropic.BadRequestError, match="invalid model name"):
            await ask(client, "a b")
        with pytest.raises(anthropic.NotFoundError, match="not found"):
            await client.messages.batches.retrieve("x")
        for status, kind in (
            (400, anthropic.BadRequestError),
            (413, anthropic.APIStatusError),
            (422, anthropic.UnprocessableEntityError),
        ):
            first.script(MESSAGES, Status(status, "say that differently"))
            with pytest.raises(kind, match="say that differently") as caught:
                await ask(client)
            assert caught.value.status_code == status
        for fault, why in ((Cut(after=3), BROKE), (EndWithoutDone(after=3), INCOMPLETE)):
            first.script(MESSAGES, fault)
            with pytest.raises(anthropic.APIStatusError, match=why):
                await text_of(await ask(client, stream=True))
        for status, kind in ((429, anthropic.RateLimitError), (503, anthropic.InternalServerError)):
            for backend in (first, second):
                backend.script(MESSAGES, Status(status))
            with pytest.raises(anthropic.APIStatusError) as caught:
                await ask(client)
            assert caught.value.status_code == status
            assert isinstance(caught.value, kind)
        await first.stop()
        await second.stop()
        with pytest.raises(anthropic.InternalServerError, match="backend unavailable"):
            await ask(client)
    async with claude(gateway, "sk-wrong") as stranger:
        with pytest.raises(anthropic.AuthenticationError, match="a valid API key is required"):
            await ask(stranger)


async def test_anthropic_may_send_its_key_as_a_bearer(gateway: RunningGateway) -> None:
    key = await key_for(gateway, MODEL)
    async with anthropic.AsyncAnthropic(base_url=gateway.url, auth_token=key, max_retries=0) as client:
        assert (await ask(client)).content[0].text == SAID


# openai


async def test_openai_responds_and_listens(gateway: RunningGateway) -> None:
    async with compatible(gateway) as client:
        whole = await client.responses.create(model=MODEL, input="hi")
        assert (whole.output_text, whole.status) == (SAID, "completed")
        events = [event async for event in await client.responses.create(model=MODEL, input="hi", stream=True)]
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
        assert events[-1].type == "response.completed"
        sound = ("hello.wav", b"RIFF....")
        heard = await client.audio.transcriptions.create(model="whisper", file=sound)
        assert heard.text == "Hello from simulated backend first. You sent 8 bytes."
        plain = await client.audio.transcriptions.create(model="whisper", file=sound, response_format="text")
        assert plain == heard.text


async def test_openai_tells_its_user_what_is_wrong_with_responses_and_recordings(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    key = await key_for(gateway, MODEL)
    async with compatible(gateway, key) as client:
        for name in ("no-such-model", "whisper"):
            for asking in (
                client.responses.create(model=name, input="hi"),
                client.responses.create(model=name, input="hi", stream=True),
                client.audio.transcriptions.create(model=name, file=("a.wav", b"RIFF")),
            ):
                with pytest.raises(openai.PermissionDeniedError, match=DENIED):
                    await asking
        for fault, why in ((Cut(after=3), BROKE), (EndWithoutDone(after=3), INCOMPLETE)):
            first.script(RESPONSES, fault)
            with pytest.raises(openai.APIError, match=why):
                [event async for event in await client.responses.create(model=MODEL, input="hi", stream=True)]


async def test_openai_uses_tools(gateway: RunningGateway, first: SimulatedOllama) -> None:
    function = {"name": "weather", "arguments": '{"city":"Paris"}'}
    call = {"id": "call_1", "index": 0, "type": "function", "function": function}
    frame = {"id": "x", "created": 1, "model": MODEL}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    whole = {
        **frame,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
    }
    chunk = {**frame, "object": "chat.completion.chunk"}
    deltas = [
        {"index": 0, "delta": message, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]
    streamed = tuple(b"data: %b\n\n" % json.dumps({**chunk, "choices": [delta]}).encode() for delta in deltas)
    first.script(OPENAI_CHAT, Events((json.dumps(whole).encode(),)), Events((*streamed, b"data: [DONE]\n\n")))
    async with compatible(gateway) as client:
        said = await client.chat.completions.create(model=MODEL, messages=HI, tools=[TOOL])
        (called,) = said.choices[0].message.tool_calls or []
        assert called.model_dump()["function"] == function
        stream = await client.chat.completions.create(model=MODEL, messages=HI, tools=[TOOL], stream=True)
        chunks = [each async for each in stream]
        (part,) = chunks[0].choices[0].delta.tool_calls or []
        assert part.function is not None
        assert (part.function.name, part.function.arguments) == ("weather", function["arguments"])
    assert [request.json["tools"] for request in first.requests if request.path == OPENAI_CHAT] == [[TOOL], [TOOL]]


# ollama


async def test_ollama_uses_tools(gateway: RunningGateway, first: SimulatedOllama) -> None:
    calls = [{"function": {"index": 0, "name": "weather", "arguments": {"city": "Paris", "a": 1}}}]
    line = {"model": MODEL, "created_at": "2026-01-02T03:04:05Z", "message": {"role": "assistant", "tool_calls": calls}}
    done = {**line, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    lines = (json.dumps({**line, "done": False}).encode() + b"\n", json.dumps(done).encode() + b"\n")
    first.script(CHAT, Events((json.dumps({**done, "message": line["message"]}).encode(),)), Events(lines))
    async with native(gateway) as client:
        (call,) = (await client.chat(MODEL, HI, tools=[TOOL])).message.tool_calls or []
        assert (call.function.name, list(call.function.arguments)) == ("weather", ["city", "a"])
        parts = [part async for part in await client.chat(MODEL, HI, tools=[TOOL], stream=True)]
        assert [bool(part.message.tool_calls) for part in parts] == [True, False]
    sent = [request.json["tools"][0]["function"]["name"] for request in first.requests if request.path == CHAT]
    assert sent == ["weather", "weather"]


async def test_ollama_says_what_its_model_server_says_in_mid_stream(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    first.script(
        CHAT,
        Events(
            (
                b'{"model":"m","message":{"role":"assistant","content":"x"},"done":false}\n',
                b'{"error":"out of memory"}\n',
            )
        ),
    )
    async with native(gateway) as client:
        with pytest.raises(ollama.ResponseError, match="out of memory"):
            [part async for part in await client.chat(MODEL, HI, stream=True)]
