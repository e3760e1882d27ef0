"""`/metrics`: who may read it, what it counts, and what it does not tell."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from tests.stories.conftest import ANONYMOUS, MODEL, Chat

from herdgate.metricspage import SPACE, MetricsPage, share
from herdgate.testing.faults import Hang, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

ASK = Chat("/api/chat", stream=True)


async def numbers(gateway: RunningGateway, **headers: str) -> dict[str, float]:
    reply = await gateway.client.get("/metrics", headers=headers)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in reply.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_it_is_open_until_the_first_key_then_an_admin_key_is_needed(gateway: RunningGateway) -> None:
    assert (await gateway.client.get("/metrics")).status_code == 200
    user = await gateway.make_key("*", name="alice")
    admin = await gateway.make_key(name="root", admin=True)
    assert (await gateway.client.get("/metrics")).status_code == 401
    denied = await gateway.client.get("/metrics", headers=user)
    assert (denied.status_code, denied.json()) == (403, {"error": "access to this model is not allowed"})
    assert await numbers(gateway, **admin)
    assert (await gateway.client.head("/metrics", headers=admin)).status_code == 200
    assert (await gateway.client.post("/metrics", headers=admin)).status_code == 405


async def test_callers_whom_the_plugin_anonymous_lets_in_do_not_read_it(first: SimulatedOllama) -> None:
    async with running_gateway(first, toml=ANONYMOUS) as gateway:
        assert (await gateway.client.get("/metrics")).status_code == 403


async def test_a_public_page_needs_no_key_and_is_the_only_thing_that_does_not(first: SimulatedOllama) -> None:
    async with running_gateway(first, toml="[metrics]\npublic = true\n") as gateway:
        await gateway.make_key("*")
        assert await numbers(gateway)
        assert (await gateway.client.get("/api/tags")).status_code == 401
        assert (await gateway.client.post("/metrics")).status_code == 401


async def test_requests_are_counted_by_family_outcome_and_model_and_attempts_by_backend(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    first.script("/api/chat", Status(503, "loading"))
    await ASK.ask(gateway)
    await ASK.ask(gateway)
    await gateway.client.post("/api/chat", json={**ASK.body(), "model": MODEL.upper()})
    await gateway.client.post("/v1/chat/completions", json=Chat("/v1/chat/completions", stream=False).body())
    await gateway.client.get("/v1/models")
    await gateway.client.post("/api/chat", content=b"[]")
    seen = await numbers(gateway)
    model = f'model="{MODEL}:latest"'
    assert seen[f'herdgate_requests_total{{family="ollama",outcome="answered",{model}}}'] == 3
    assert seen[f'herdgate_requests_total{{family="openai",outcome="answered",{model}}}'] == 1
    assert seen['herdgate_requests_total{family="openai",outcome="answered",model=""}'] == 1
    assert seen['herdgate_requests_total{family="ollama",outcome="refused",model=""}'] == 1
    assert seen['herdgate_attempts_total{backend="first",outcome="failed"}'] == 1
    assert seen['herdgate_attempts_total{backend="first",outcome="succeeded"}'] == 3
    assert seen['herdgate_attempts_total{backend="second",outcome="succeeded"}'] == 1
    assert seen['herdgate_attempt_failures_total{backend="first",kind="status"}'] == 1
    assert 0 < seen['herdgate_request_seconds_total{family="openai"}'] < 30


async def test_the_numbers_do_not_tell_an_unknown_model_from_a_forbidden_one(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    user = await gateway.make_key("nothing-*", name="alice")
    admin = await gateway.make_key(name="root", admin=True)
    before = await numbers(gateway, **admin)
    denied = 'herdgate_requests_total{family="ollama",outcome="denied",model="(denied)"}'
    assert denied not in before
    forbidden = await gateway.client.post("/api/chat", json=ASK.body(), headers=user)
    unknown = await gateway.client.post("/api/chat", json=ASK.body("nothing-here"), headers=user)
    managed = await gateway.client.post("/api/pull", json={"model": "x"}, headers=user)
    assert {forbidden.status_code, unknown.status_code, managed.status_code} == {403}
    first.models.remove(MODEL)
    after = await numbers(gateway, **admin)
    assert after[denied] == 3
    other = {name for name in after if name not in before and "seconds" not in name}
    assert other == {denied, 'herdgate_requests_total{family="ollama",outcome="answered",model=""}'} - set(before)


async def test_that_a_backend_was_asked_for_a_model_it_no_longer_has_is_not_told(
    first: SimulatedOllama, tmp_path: Path
) -> None:
    env = {"HERDGATE_DISCOVERY_INTERVAL": "60"}
    async with running_gateway(first, env=env, directory=tmp_path) as gateway:
        first.models.remove("only-first")
        assert (await gateway.client.post("/api/chat", json=ASK.body("only-first"))).status_code == 403
        seen = await numbers(gateway)
    assert seen['herdgate_requests_total{family="ollama",outcome="denied",model="(denied)"}'] == 1
    assert not any("attempt" in name for name in seen)


ANSWERED = f'herdgate_requests_total{{family="ollama",outcome="answered",model="{MODEL}:latest"}}'


async def test_a_reload_loses_no_request_be_it_in_flight_or_counted_already(
    gateway: RunningGateway, first: SimulatedOllama
) -> None:
    goes_on = asyncio.Event()
    await ASK.ask(gateway)
    first.script("/api/chat", Hang(after=1, until=goes_on))
    running = asyncio.create_task(ASK.ask(gateway))
    await first.wait_for(lambda one: one.concurrent == 1)
    await gateway.reload(first)
    assert (await numbers(gateway))[ANSWERED] == 1
    await ASK.ask(gateway)
    goes_on.set()
    assert ASK.text_of(await running)

    async def all_three_are_counted() -> bool:
        return (await numbers(gateway))[ANSWERED] == 3

    await until(all_three_are_counted)
    assert (await numbers(gateway))['herdgate_attempts_total{backend="first",outcome="succeeded"}'] == 3


async def test_a_reload_that_is_prepared_and_dropped_changes_no_number(gateway: RunningGateway) -> None:
    await ASK.ask(gateway)
    prepared = await gateway.gateway.prepare(gateway.gateway.settings)
    await ASK.ask(gateway)
    await prepared.close()
    await ASK.ask(gateway)
    assert (await numbers(gateway))[ANSWERED] == 3


# several processes


def page_of(gateway: RunningGateway, worker: str) -> MetricsPage:
    """The page of one of two processes that share the gateway's state."""
    runtime = gateway.gateway.runtime
    page = MetricsPage(runtime.points, runtime.state, workers=2)
    page._gateway, page._worker = "host gateway", worker
    return page


async def told(page: MetricsPage) -> set[str]:
    """Which processes one of them tells of."""
    text = (await page.answer(None)).body.decode()  # type: ignore[arg-type]
    return {line.partition('worker="')[2].partition('"')[0] for line in text.splitlines() if "build_info{" in line}


async def test_each_process_tells_of_all_that_run(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("herdgate.metricspage.POST_EVERY", 0.01)
    one, two = page_of(gateway, "1"), page_of(gateway, "2")
    other = page_of(gateway, "3")
    other._gateway = "host another"
    assert await told(one) == {"1"}
    assert await told(two) == {"1", "2"}, "what was asked has left its numbers at once"
    assert await told(other) == {"3"}
    posting = asyncio.create_task(share(lambda: page_of(gateway, "4")))
    try:

        async def four_is_told_of() -> bool:
            return await told(one) == {"1", "2", "4"}

        await until(four_is_told_of)
    finally:
        posting.cancel()


async def test_a_process_that_has_ended_is_forgotten(gateway: RunningGateway) -> None:
    state = gateway.gateway.runtime.state
    old = json.dumps([time.time() - 60, [["herdgate_build_info", "x", "gauge", [[["1"], 1]], ["version"]]]])
    await state.put(SPACE, "host gateway 7", old.encode())
    await state.put(SPACE, "host gateway 8", b"nonsense")
    assert await told(page_of(gateway, "1")) == {"1"}
    assert set(await state.items(SPACE)) == {"host gateway 1"}


async def test_a_process_forgets_those_that_have_ended_and_takes_its_own_numbers_away_in_the_end(
    gateway: RunningGateway,
) -> None:
    """Even if nobody ever reads the page."""
    state = gateway.gateway.runtime.state
    for key, age in (("host gateway 7", 60), ("host before 8", 7200), ("elsewhere gateway 9", 60)):
        await state.put(SPACE, key, json.dumps([time.time() - age, []]).encode())
    running = asyncio.create_task(share(lambda: page_of(gateway, "1")))

    async def held(*expected: str) -> bool:
        return set(await state.items(SPACE)) == set(expected)

    # What another machine has posted may only look old: its clock may be slow.
    await until(lambda: held("host gateway 1", "elsewhere gateway 9"))
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert await held("elsewhere gateway 9")


async def test_a_process_without_the_state_ends_all_the_same(gateway: RunningGateway) -> None:
    running = asyncio.create_task(share(lambda: page_of(gateway, "1")))
    state = gateway.gateway.runtime.state
    await until(lambda: _posted(gateway))
    await state.close()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_what_a_process_posts_is_there_beyond_reloads_until_it_ends(first: SimulatedOllama) -> None:
    async with running_gateway(first, env={"HERDGATE_WORKERS": "2"}) as gateway:
        await until(lambda: _posted(gateway))
        dropped = await gateway.gateway.prepare(gateway.gateway.settings)
        await dropped.close()
        assert await _posted(gateway)
        replaced = gateway.gateway._current
        await gateway.reload(first)
        await until(lambda: replaced not in gateway.gateway._replaced)
        assert await _posted(gateway)


async def _posted(gateway: RunningGateway) -> bool:
    return await gateway.gateway.runtime.state.count(SPACE) == 1


async def test_without_the_state_a_process_tells_of_itself(gateway: RunningGateway) -> None:
    page = page_of(gateway, "1")
    await gateway.gateway.runtime.state.close()
    assert await told(page) == {"1"}
