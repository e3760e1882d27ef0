"""A backend fails before it has said anything: the client never learns of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stories.conftest import MODEL, Chat

from herdgate.testing.faults import (
    CloseBeforeHeaders,
    Cut,
    EmptyOk,
    EndlessLine,
    Fault,
    FirstEvent,
    Garbage,
    Hang,
    HugeHeaders,
    ResetBeforeHeaders,
    ResetOnAccept,
    Status,
    WrongLength,
)
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

FAILS_OVER = [
    ResetBeforeHeaders(),
    CloseBeforeHeaders(),
    Garbage(),
    HugeHeaders(),
    EmptyOk(),
    FirstEvent(b'{"error":"model runner has unexpectedly stopped"}\n'),
    FirstEvent(b"<html>not what you asked for</html>\n"),
    Cut(after="headers"),
    *(Status(code) for code in (401, 403, 404, 408, 429, 500, 502, 503, 504, 301)),
]
THE_CALLERS = [400, 413, 415, 422, 499]


def asked(backend: SimulatedOllama, chat: Chat) -> int:
    return sum(request.path == chat.path for request in backend.requests)


async def test_the_first_backend_in_order_answers(gateway: RunningGateway, second: SimulatedOllama, chat: Chat) -> None:
    response = await chat.ask(gateway)
    assert response.status_code == 200
    assert "backend first" in chat.text_of(response)
    assert asked(second, chat) == 0


@pytest.mark.parametrize("fault", FAILS_OVER, ids=repr)
async def test_the_second_backend_answers_when_the_first_one_fails(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat, fault: Fault
) -> None:
    first.script(chat.path, fault, times=None)
    response = await chat.ask(gateway)
    assert response.status_code == 200
    assert "backend second" in chat.text_of(response)
    assert "first" not in response.text


async def test_the_second_backend_answers_when_the_first_one_is_gone(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat
) -> None:
    await first.stop()
    assert "backend second" in chat.text_of(await chat.ask(gateway))


async def test_the_second_backend_answers_when_the_first_one_resets_every_connection(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat
) -> None:
    await first.stop()  # connections that were kept are gone as well
    await first.start()
    first.script("*", ResetOnAccept(), times=None)
    assert "backend second" in chat.text_of(await chat.ask(gateway))


async def test_the_first_backend_is_asked_again_as_soon_as_it_is_back(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat
) -> None:
    await first.stop()
    assert "backend second" in chat.text_of(await chat.ask(gateway))
    await first.start()
    assert "backend first" in chat.text_of(await chat.ask(gateway))


@pytest.mark.parametrize("silent", ["nothing", "headers"])
async def test_a_backend_that_hangs_past_its_deadline_is_left(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat, silent: str
) -> None:
    impatient = {"name": "first", "base_url": first.url, "first_event_timeout": 0.3}
    first.script(chat.path, Hang(silent), times=None)  # type: ignore[arg-type]
    async with running_gateway(impatient, second) as gateway:
        response = await chat.ask(gateway)
        assert "backend second" in chat.text_of(response)
        await first.wait_for(lambda backend: backend.requests[-1].left_at is not None or backend.concurrent == 0)


async def test_a_reply_that_does_not_stream_fails_over_as_a_whole(
    gateway: RunningGateway, first: SimulatedOllama, chat: Chat
) -> None:
    if chat.stream:
        pytest.skip("about replies that do not stream")
    first.script(chat.path, Cut(after=0, within="event"), WrongLength(by=100), times=1)
    for _ in range(2):
        assert "backend second" in chat.text_of(await chat.ask(gateway))


async def test_a_line_without_end_is_given_up(gateway: RunningGateway, first: SimulatedOllama, chat: Chat) -> None:
    if not chat.stream:
        pytest.skip("about streams")
    first.script(chat.path, EndlessLine(), times=None)
    assert "backend second" in chat.text_of(await chat.ask(gateway))


@pytest.mark.parametrize("code", THE_CALLERS)
async def test_what_the_caller_did_wrong_is_not_tried_elsewhere(
    gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama, chat: Chat, code: int
) -> None:
    first.script(chat.path, Status(code, body="option is wrong"), times=None)
    response = await chat.ask(gateway)
    assert response.status_code == code
    assert "option is wrong" in response.text
    assert asked(second, chat) == 0


async def test_after_a_500_one_further_backend_is_tried_and_no_more(chat: Chat) -> None:
    async with (
        SimulatedOllama(name="one", models=[MODEL]) as one,
        SimulatedOllama(name="two", models=[MODEL]) as two,
        SimulatedOllama(name="three", models=[MODEL]) as three,
        running_gateway(one, two, three) as gateway,
    ):
        for backend in (one, two):
            backend.script(chat.path, Status(500, body=f"bad options, says {backend.name}"), times=None)
        response = await chat.ask(gateway)
        assert response.status_code == 500
        assert "says two" in response.text
        assert asked(three, chat) == 0


async def test_max_attempts_limits_how_many_backends_are_tried(chat: Chat) -> None:
    limited = "\n".join(
        f'[[plugin]]\nuse = "{name}"'
        for name in ("configured_backends", "ollama_discovery", "api_keys", "model_access", "opening_check")
    )
    limited += '\n[[plugin]]\nuse = "priority_failover"\nmax_attempts = 2\n'
    async with (
        SimulatedOllama(name="one", models=[MODEL]) as one,
        SimulatedOllama(name="two", models=[MODEL]) as two,
        SimulatedOllama(name="three", models=[MODEL]) as three,
        running_gateway(one, two, three, toml=limited) as gateway,
    ):
        await one.stop()
        await two.stop()
        assert (await chat.ask(gateway)).status_code == 502
        assert asked(three, chat) == 0


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ((Status(404), Status(404)), 403),
        ((Status(401), Status(403)), 502),
        ((Status(429), Status(429)), 429),
        ((Status(503), Status(503)), 503),
        ((Status(500, body="out of memory"), CloseBeforeHeaders()), 500),
        ((CloseBeforeHeaders(), Garbage()), 502),
        ((EmptyOk(), Status(502)), 502),
    ],
    ids=repr,
)
async def test_when_all_fail_the_reply_says_what_can_be_said(
    gateway: RunningGateway,
    first: SimulatedOllama,
    second: SimulatedOllama,
    chat: Chat,
    faults: tuple[Fault, Fault],
    status: int,
) -> None:
    one, two = faults
    first.script(chat.path, one, times=None)
    second.script(chat.path, two, times=None)
    response = await chat.ask(gateway)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert isinstance(error, str) if chat.path.startswith("/api") else error["message"]
    assert ("retry-after" in response.headers) == (status in {429, 503})


async def test_each_attempt_carries_its_own_credentials_and_none_of_the_clients(chat: Chat) -> None:
    async with (
        SimulatedOllama(name="one", models=[MODEL], auth_token="token-one") as one,
        SimulatedOllama(name="two", models=[MODEL], auth_token="token-two") as two,
        running_gateway(
            {"name": "one", "base_url": one.url, "auth_token": "token-one"},
            {"name": "two", "base_url": two.url, "auth_token": "token-two", "headers": {"X-Team": "blue"}},
        ) as gateway,
    ):
        one.script(chat.path, Status(503), times=None)
        private = {
            "authorization": "Bearer sk-client",
            "x-api-key": "sk-client",
            "cookie": "session=client",
            "origin": "http://localhost:3000",
            "x-forwarded-for": "198.51.100.7",
            "proxy-authorization": "Basic Y2xpZW50",
        }
        response = await chat.ask(gateway, **private)
        assert response.status_code == 200
        for backend, token in ((one, "token-one"), (two, "token-two")):
            request = next(request for request in backend.requests if request.path == chat.path)
            assert request.values("authorization") == (f"Bearer {token}",)
            assert request.values("host") == (backend.url.removeprefix("http://"),)
            assert "client" not in repr(request.headers)
            assert not {"origin", "cookie", "x-forwarded-for"} & {name.lower() for name, _ in request.headers}
            assert request.json == chat.body()
        assert next(r for r in two.requests if r.path == chat.path).values("x-team") == ("blue",)


async def test_the_client_says_who_it_is_unless_the_operator_decided_that(chat: Chat) -> None:
    async with SimulatedOllama(models=[MODEL]) as backend:
        plain = {"name": "plain", "base_url": backend.url}
        for settings, expected in ((plain, "Copilot/1"), ({**plain, "headers": {"User-Agent": "gate"}}, "gate")):
            async with running_gateway(settings) as gateway:
                assert (await chat.ask(gateway, **{"user-agent": "Copilot/1"})).status_code == 200
            assert [r for r in backend.requests if r.path == chat.path][-1].values("user-agent") == (expected,)


@pytest.mark.parametrize(
    "change", ['path="/api/chat HTTP/1.1\\r\\nX: y"', 'method="POST /x HTTP/1.1\\r\\nX:"', 'path="no-slash"']
)
async def test_a_plugin_cannot_make_two_requests_of_one(
    first: SimulatedOllama, chat: Chat, change: str, tmp_path: Path
) -> None:
    (tmp_path / "smuggler.py").write_text(
        "from herdgate import hookimpl\nfrom msgspec.structs import replace\n\n"
        "class Smuggler:\n    herdgate_api = 1\n\n"
        f"    @hookimpl\n    def prepare_upstream(self, request):\n        return replace(request, {change})\n"
    )
    names = ["configured_backends", "ollama_discovery", "api_keys", "model_access", "./smuggler.py:Smuggler"]
    toml = "\n".join(f'[[plugin]]\nuse = "{name}"' for name in names)
    async with running_gateway(first, toml=toml, directory=tmp_path) as gateway:
        assert (await chat.ask(gateway)).status_code == 502
    assert not first.malformed
    assert asked(first, chat) == 0
