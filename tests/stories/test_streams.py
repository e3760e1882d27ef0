"""Streams pass untouched, and none that is broken ends as if it were complete."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from tests.stories.conftest import CHAT, OPENAI_CHAT, Chat

from herdgate.testing.faults import Cut, EndlessLine, EndWithoutDone, ErrorEvent, Fault, Hang, Slice, Slow
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama


def error_of(stream: Chat, event: dict[str, object]) -> str:
    """The message of an in-band error, in the form that this family's clients recognise."""
    error = event["error"]
    if stream.path == CHAT:
        assert isinstance(error, str)
        return error
    assert isinstance(error, dict)
    assert error["type"] == "api_error"
    return str(error["message"])


async def direct(backend: SimulatedOllama, stream: Chat) -> httpx.Response:
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False) as client:
        return await client.post(stream.path, json=stream.body())


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_bytes_pass_untouched_whatever_their_boundaries(first: SimulatedOllama, stream: Chat, size: int) -> None:
    first.script(stream.path, Slice(size=size), times=None)
    async with running_gateway(first) as gateway:
        response = await stream.ask(gateway)
    assert stream.text_of(response) == "Hello from simulated backend first. You said: hi"
    expected = await direct(first, stream)
    assert response.headers["content-type"] == expected.headers["content-type"]
    assert len(response.content) == len(expected.content)


async def test_a_stream_that_breaks_behind_its_last_event_is_complete(
    gateway: RunningGateway, first: SimulatedOllama, stream: Chat
) -> None:
    first.script(stream.path, Cut(after=1000))  # all events, but not the end of the body
    response = await stream.ask(gateway)
    assert stream.text_of(response) == "Hello from simulated backend first. You said: hi"
    assert "error" not in response.text


async def test_one_that_breaks_inside_of_it_is_not(
    gateway: RunningGateway, first: SimulatedOllama, stream: Chat
) -> None:
    events = len((await direct(first, stream)).text.strip().split("\n\n" if stream.path != CHAT else "\n"))
    first.script(stream.path, Cut(after=events - 1, within="event"))
    response = await stream.ask(gateway)
    last = response.text.strip().splitlines()[-1].removeprefix("data: ")
    assert error_of(stream, json.loads(last)) == "the model's reply was interrupted"


async def test_an_event_reaches_the_client_before_the_next_one_exists(
    gateway: RunningGateway, first: SimulatedOllama, stream: Chat
) -> None:
    go_on = asyncio.Event()
    first.script(stream.path, Hang(after=1, until=go_on))
    async with gateway.client.stream("POST", stream.path, json=stream.body()) as response:
        chunks = response.aiter_raw()
        opening = await anext(chunks)
        assert b"Hello" in opening
        assert b"from" not in opening
        go_on.set()
        assert b"from" in b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    "fault",
    [
        Cut(after=2),
        Cut(after=2, how="reset"),
        Cut(after=2, within="event"),
        Cut(after=2, within="chunk"),
        Cut(after=1),
    ],
    ids=repr,
)
async def test_a_stream_cut_in_the_middle_ends_with_an_in_band_error(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, stream: Chat, fault: Fault
) -> None:
    first.script(stream.path, fault)
    response = await stream.ask(gateway)
    assert response.status_code == 200
    assert "[DONE]" not in response.text
    last = stream.events_of(
        response.text.rsplit("\n\n", 2)[-2] if stream.path != CHAT else response.text.splitlines()[-1]
    )
    assert error_of(stream, last[-1]) == "the model's reply was interrupted"
    assert not [request for request in second.requests if request.path == stream.path]


async def test_a_stream_that_falls_silent_ends_with_an_in_band_error(first: SimulatedOllama, stream: Chat) -> None:
    first.script(stream.path, Hang(after=2))
    async with running_gateway({"name": "first", "base_url": first.url, "idle_timeout": 0.3}) as gateway:
        response = await stream.ask(gateway)
        assert error_of(stream, stream.events_of(response.text)[-1]) == "the model's reply was interrupted"
        await first.wait_for(lambda backend: backend.concurrent == 0)


async def test_a_slow_stream_is_no_silent_one(first: SimulatedOllama, stream: Chat) -> None:
    first.script(stream.path, Slow(0.1))
    async with running_gateway({"name": "first", "base_url": first.url, "idle_timeout": 0.6}) as gateway:
        assert "You said: hi" in stream.text_of(await stream.ask(gateway))


async def test_an_error_event_of_the_backend_passes_through(gateway: RunningGateway, first: SimulatedOllama) -> None:
    first.script(CHAT, ErrorEvent(after=2, message="out of memory"))
    stream = Chat(CHAT, stream=True)
    events = stream.events_of((await stream.ask(gateway)).text)
    assert events[-1] == {"error": "out of memory"}


async def test_an_ndjson_stream_that_ends_cleanly_without_done_passes_as_it_is(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    first.script(CHAT, EndWithoutDone(after=3))
    stream = Chat(CHAT, stream=True)
    events = stream.events_of((await stream.ask(gateway)).text)
    assert len(events) == 3
    assert events[-1]["done"] is False


async def test_an_sse_stream_that_ends_without_its_terminal_event_gets_the_error(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    first.script(OPENAI_CHAT, EndWithoutDone(after=3))
    stream = Chat(OPENAI_CHAT, stream=True)
    response = await stream.ask(gateway)
    assert error_of(stream, stream.events_of(response.text)[-1]) == "the model's reply ended before it was complete"


async def test_a_client_that_does_not_read_stops_the_backend_from_sending(first: SimulatedOllama) -> None:
    """What a slow client has not read yet does not fill the gateway's memory: pressure goes all the way back."""
    first.script(CHAT, EndlessLine(after=2), times=None)
    stream = Chat(CHAT, stream=True)
    async with (
        running_gateway(first) as gateway,
        gateway.client.stream("POST", stream.path, json=stream.body()) as response,
    ):
        chunks = response.aiter_raw()
        await anext(chunks)
        unsent: list[int] = []

        def kernel_is_full() -> bool:
            unsent.append(gateway.gateway.unsent_bytes)
            return len(unsent) > 30 and min(unsent[-30:]) > 0

        await until(kernel_is_full)
        assert max(unsent) < 2 * 1024 * 1024
