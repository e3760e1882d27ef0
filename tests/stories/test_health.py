"""Backends die, hang, fail and come back: whom requests go to, and how long they wait to find out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.stories.conftest import ANONYMOUS, BUILT_IN, CHAT, MODEL, OPENAI_CHAT, Chat, plugin_of

from herdgate.testing.faults import Cut, Fault, FirstEvent, Hang, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama
from herdgate.testing.unreachable import Unreachable

ASK = Chat(CHAT, stream=False)
SELDOM = {"HERDGATE_DISCOVERY_INTERVAL": "60"}
"""Polls tell nothing in these stories."""
QUICK = {"watch_after": 0.1, "interval": 0.15, "patience": 0.3, "idle_interval": 60.0}
"""A tenth of what is usual. A live backend might take longer to answer on a busy machine, so the stories in which it
must not pass for dead have a longer patience.
"""
PATIENT = {**QUICK, "patience": 3.0}
FROM_A_LIST = f"""
from herdgate import ModelEntry, hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    async def list_models(self):
        return [ModelEntry.from_tags({{"name": "{MODEL}"}})]
"""


def watching(settings: dict[str, float], toml: str = BUILT_IN) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    return toml.replace('use = "health"\n', f'use = "health"\n{lines}')


def state(gateway: RunningGateway, backend: str, model: str = "") -> str:
    key = f"registry.ollama.ai/library/{model}:latest" if model else ""
    return str(plugin_of(gateway, "health").circuits.state(backend, key))


async def who_answers(gateway: RunningGateway, chat: Chat = ASK) -> str:
    reply = await chat.ask(gateway)
    text = reply.text
    return next((name for name in ("first", "second") if name in text), f"{reply.status_code} {text}")


def asked(backend: SimulatedOllama, path: str) -> int:
    return sum(request.path == path for request in backend.requests)


# waiting


async def test_a_machine_that_takes_connections_and_answers_nothing_is_left(
    first: SimulatedOllama, second: SimulatedOllama, chat: Chat
) -> None:
    async with running_gateway(first, second, toml=watching(QUICK), env=SELDOM) as gateway:
        await first.freeze()
        assert "backend second" in chat.text_of(await chat.ask(gateway))
        assert state(gateway, "first") == "open"
        await first.wait_for(lambda first: first.concurrent == 0)
        began = time.monotonic()
        assert "backend second" in chat.text_of(await chat.ask(gateway))
        assert time.monotonic() - began < QUICK["patience"]
        assert asked(first, chat.path) == 1


async def test_a_backend_that_loads_a_model_is_never_left(second: SimulatedOllama) -> None:
    ways = (ASK, Chat(OPENAI_CHAT, stream=True))
    async with (
        SimulatedOllama(name="first", models=[MODEL], load_time=1.2) as first,
        running_gateway(first, second, toml=watching(PATIENT), env=SELDOM) as gateway,
    ):
        questions, connections = asked(first, "/api/version"), first.connections
        for chat, reply in zip(ways, await asyncio.gather(*(chat.ask(gateway) for chat in ways)), strict=True):
            assert "backend first" in chat.text_of(reply)
            assert asked(first, chat.path) == 1
        assert asked(first, "/api/ps") == 0
        questions = asked(first, "/api/version") - questions
        assert 2 <= questions <= 8
        assert first.connections - connections >= questions  # each goes over a connection of its own


async def test_a_machine_that_dies_during_the_load_is_left(second: SimulatedOllama) -> None:
    async with (
        SimulatedOllama(name="first", models=[MODEL], load_time=30) as first,
        running_gateway(first, second, toml=watching(QUICK), env=SELDOM) as gateway,
    ):
        questions = asked(first, "/api/version")
        asking = asyncio.create_task(who_answers(gateway))
        await first.wait_for(lambda first: asked(first, "/api/version") >= questions + 2)
        await first.freeze()
        assert await asking == "second"


async def test_however_many_requests_wait_one_question_is_asked(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    async with running_gateway(first, second, toml=watching({**QUICK, "interval": 60.0}), env=SELDOM) as gateway:
        going_on = asyncio.Event()
        first.script(CHAT, Hang(until=going_on), times=None)
        asking = [asyncio.create_task(who_answers(gateway)) for _ in range(20)]
        # Discovery asks once. Whether health has asked before anybody waited depends on how long the start has taken.
        await first.wait_for(lambda first: asked(first, "/api/version") == 2 and first.concurrent == 20)
        going_on.set()
        assert set(await asyncio.gather(*asking)) == {"first"}
        assert asked(first, "/api/version") == 2


async def test_all_that_wait_for_a_dead_machine_leave_it(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, toml=watching(QUICK), env=SELDOM) as gateway:
        await first.freeze()
        assert await asyncio.gather(*(who_answers(gateway) for _ in range(20))) == ["second"] * 20


async def test_a_stream_that_has_begun_is_not_left(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, toml=watching(QUICK), env=SELDOM) as gateway:
        stream = Chat(CHAT, stream=True)
        going_on = asyncio.Event()
        first.script(CHAT, Hang(1, until=going_on))
        async with gateway.client.stream("POST", CHAT, json=stream.body()) as response:
            await first.freeze()
            assert await who_answers(gateway) == "second"
            assert state(gateway, "first") == "open"
            await first.thaw()
            going_on.set()
            assert b'"done":true' in await response.aread()


# a machine that is switched off


async def test_a_machine_that_is_switched_off_does_not_cost_every_request_its_time_to_connect(
    second: SimulatedOllama, tmp_path: Path
) -> None:
    (tmp_path / "extra.py").write_text(FROM_A_LIST, "utf-8")
    toml = '[[plugin]]\nuse = "./extra.py:Extra"\n' + watching(QUICK)
    async with Unreachable() as nobody:
        first = {"name": "first", "base_url": nobody.url, "connect_timeout": 1.0}
        async with running_gateway(first, second, toml=toml, env=SELDOM, directory=tmp_path) as gateway:
            assert await who_answers(gateway) == "second"
            assert state(gateway, "first") == "open"
            began = time.monotonic()
            assert [await who_answers(gateway) for _ in range(5)] == ["second"] * 5
            assert time.monotonic() - began < 1.0


# circuits


async def test_a_backend_that_is_back_is_used_within_two_ticks(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, toml=watching(PATIENT), env=SELDOM) as gateway:
        await first.stop()
        assert [await who_answers(gateway) for _ in range(4)] == ["second"] * 4
        assert state(gateway, "first") == "open"
        await first.start()
        began = time.monotonic()
        await until(lambda: state(gateway, "first") == "half-open")
        assert time.monotonic() - began < 10 * 2 * PATIENT["interval"]
        assert await who_answers(gateway) == "first"
        assert state(gateway, "first") == "closed"


async def test_while_the_trial_runs_the_others_go_elsewhere(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, toml=watching(PATIENT), env=SELDOM) as gateway:
        await first.stop()
        assert [await who_answers(gateway) for _ in range(3)] == ["second"] * 3
        await first.start()
        await until(lambda: state(gateway, "first") == "half-open")
        going_on = asyncio.Event()
        first.script(CHAT, Hang(until=going_on))
        trial = asyncio.create_task(who_answers(gateway))
        await first.wait_for(lambda first: first.concurrent == 1)
        assert await asyncio.gather(*(who_answers(gateway) for _ in range(5))) == ["second"] * 5
        going_on.set()
        assert await trial == "first"
        assert await who_answers(gateway) == "first"


async def test_a_trial_whose_caller_leaves_makes_room_for_another(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    async with running_gateway(first, second, toml=watching(PATIENT), env=SELDOM) as gateway:
        await first.stop()
        assert [await who_answers(gateway) for _ in range(3)] == ["second"] * 3
        await first.start()
        await until(lambda: state(gateway, "first") == "half-open")
        first.script(CHAT, Hang())
        trial = asyncio.create_task(who_answers(gateway))
        await first.wait_for(lambda first: first.concurrent == 1)
        trial.cancel()
        await first.wait_for(lambda first: first.concurrent == 0)
        assert await who_answers(gateway) == "first"


@pytest.mark.parametrize(
    "fault", [Status(500), Status(502), FirstEvent(b'{"error":"broken"}\n'), Cut("nothing"), Cut("headers")], ids=repr
)
async def test_a_model_that_keeps_failing_where_another_backend_does_well_is_passed_over(
    first: SimulatedOllama, second: SimulatedOllama, stream: Chat, fault: Fault
) -> None:
    first.script(stream.path, fault, times=None, model=MODEL)
    toml = watching({**PATIENT, "interval": 60.0})
    async with running_gateway(first, second, toml=toml, env=SELDOM) as gateway:
        assert [await who_answers(gateway, stream) for _ in range(3)] == ["second"] * 3
        before = asked(first, stream.path)
        assert [await who_answers(gateway, stream) for _ in range(2)] == ["second"] * 2
        assert asked(first, stream.path) == before
        assert state(gateway, "first", MODEL) == "open"
        reply = await gateway.client.post(stream.path, json=stream.body(model="only-first"))
        assert (reply.status_code, state(gateway, "first")) == (200, "closed")


async def test_who_has_failed_is_known_before_the_long_stream_of_the_other_one_has_ended(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    async with running_gateway(first, second, toml=watching({**PATIENT, "failures": 1}), env=SELDOM) as gateway:
        going_on = asyncio.Event()
        first.script(CHAT, Status(500))
        second.script(CHAT, Hang(1, until=going_on))
        stream = Chat(CHAT, stream=True)
        async with gateway.client.stream("POST", CHAT, json=stream.body()) as response:
            await until(lambda: state(gateway, "first", MODEL) == "open")
            going_on.set()
            assert b'"done":true' in await response.aread()


async def test_streams_that_break_in_a_row_count_although_they_began_well(
    first: SimulatedOllama, second: SimulatedOllama, stream: Chat
) -> None:
    first.script(stream.path, Cut(6, how="reset"), times=None)
    async with running_gateway(first, second, toml=watching({**PATIENT, "interval": 60.0}), env=SELDOM) as gateway:
        assert [await who_answers(gateway, stream) for _ in range(5)] == [*["first"] * 3, *["second"] * 2]
        assert state(gateway, "first", MODEL) == "open"


async def test_a_model_that_does_well_again_is_used_again(first: SimulatedOllama, second: SimulatedOllama) -> None:
    async with running_gateway(first, second, toml=watching(PATIENT), env=SELDOM) as gateway:
        first.script(CHAT, Status(500), times=3)
        assert [await who_answers(gateway) for _ in range(4)] == ["second"] * 4
        await until(lambda: answers(gateway, "first"))
        assert state(gateway, "first", MODEL) == "closed"


async def answers(gateway: RunningGateway, name: str) -> bool:
    return await who_answers(gateway) == name


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 413, 422, 429, 499, 503])
async def test_what_is_the_callers_mistake_or_means_busy_never_counts(
    first: SimulatedOllama, second: SimulatedOllama, code: int
) -> None:
    first.script(CHAT, Status(code), times=None)
    async with running_gateway(first, second, toml=watching(PATIENT), env=SELDOM) as gateway:
        for _ in range(5):
            await ASK.ask(gateway)
        assert (state(gateway, "first"), state(gateway, "first", MODEL)) == ("closed", "closed")
        assert asked(first, CHAT) == 5


async def test_options_that_no_backend_can_bear_open_no_circuit(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    for backend in (first, second):
        backend.script(CHAT, Status(500, body="bad options"), times=5)
    async with running_gateway(first, second, toml=watching(PATIENT), env=SELDOM) as gateway:
        for _ in range(5):
            assert (await ASK.ask(gateway)).status_code == 500
        assert {state(gateway, name, MODEL) for name in ("first", "second")} == {"closed"}
        assert await who_answers(gateway) == "first"


async def test_when_all_circuits_are_open_a_request_is_tried_all_the_same(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    async with running_gateway(first, second, toml=watching({**PATIENT, "interval": 60.0}), env=SELDOM) as gateway:
        await first.stop()
        await second.stop()
        for _ in range(3):
            assert (await ASK.ask(gateway)).status_code == 502
        assert {state(gateway, name) for name in ("first", "second")} == {"open"}
        await second.start()
        assert await who_answers(gateway) == "second"


async def test_the_state_of_a_circuit_changes_nothing_of_what_a_caller_may_learn(
    first: SimulatedOllama, second: SimulatedOllama
) -> None:
    async with running_gateway(first, second, toml=watching(QUICK, ANONYMOUS), env=SELDOM) as gateway:
        await first.stop()
        await second.stop()
        for _ in range(4):
            await ASK.ask(gateway)
        hidden = await gateway.client.post(CHAT, json=ASK.body(model="only-first"))
        unknown = await gateway.client.post(CHAT, json=ASK.body(model="nowhere"))
        assert (hidden.status_code, hidden.content) == (unknown.status_code, unknown.content) == (403, unknown.content)
