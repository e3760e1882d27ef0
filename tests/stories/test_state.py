"""Gateways that share a Redis, and what becomes of requests when it is killed, frozen or slow: nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.stories.conftest import CHAT, EVERY_WAY, MODEL, PATIENT, Chat, with_plugin
from tests.stories.raw import connected

from herdgate.app import CannotStart
from herdgate.listening import stop_accepting
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.redis_server import RedisServer
from herdgate.testing.simulated import SimulatedOllama

ASK = Chat(CHAT, stream=False)
A_SECOND = 1.0
"""What the contract allows a request to wait for the state."""
USUAL = 0.5
"""What a request may take besides, on a busy machine."""
ADMIN = {"authorization": "Bearer the-admin-key-of-this-test"}


@pytest.fixture(autouse=True)
def quick(quick_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages are noticed soon, and what is known is no longer fresh soon after."""
    monkeypatch.setattr("herdgate.state.watch.INTERVAL", 0.05)
    monkeypatch.setattr("herdgate_plugins.api_keys.FRESH", 0.5)


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer(password="the-redis-password") as server:
        yield server


def on(redis: RedisServer, **more: str) -> dict[str, str]:
    return {"HERDGATE_STATE": redis.url, "HERDGATE_ADMIN_KEY": "the-admin-key-of-this-test", **more}


async def readiness(gateway: RunningGateway, status: str) -> None:
    """Wait until the gateway says so. Fails if it ever says that requests are not welcome."""

    async def as_wanted() -> bool:
        response = await gateway.client.get("/readyz")
        assert response.status_code == 200
        return bool(response.json() == {"status": status})

    await until(as_wanted)


async def status(gateway: RunningGateway, headers: dict[str, str], model: str = MODEL) -> int:
    """The status of a chat. Fails if it takes longer than the contract allows."""
    began = time.monotonic()
    response = await gateway.client.post(CHAT, json=ASK.body(model), headers=headers)
    assert time.monotonic() - began < A_SECOND + USUAL
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) > 0
    return response.status_code


async def answered(gateway: RunningGateway, headers: dict[str, str], wanted: int) -> None:
    """Wait until such a caller gets this status."""

    async def as_wanted() -> bool:
        return await status(gateway, headers) == wanted

    await until(as_wanted)


UNKNOWN = {"authorization": "Bearer hg_nobody-has-this-key"}


# one state, several gateways


async def test_gateways_share_keys(first: SimulatedOllama, second: SimulatedOllama, redis: RedisServer) -> None:
    env = {"HERDGATE_STATE": redis.url}
    async with running_gateway(first, env=env) as one, running_gateway(second, env=env) as other:
        key = await one.make_key(MODEL)
        assert await status(other, key) == 200
        await answered(other, {}, 401)
        assert await status(other, key, "only-second") == 403
        await other.keys.revoke("someone")
        await answered(one, key, 401)
    async with running_gateway(first, env=env) as later:
        assert await status(later, {}) == 401


async def test_a_second_gateway_starts_warm_although_all_backends_are_down(
    first: SimulatedOllama, second: SimulatedOllama, redis: RedisServer
) -> None:
    async with running_gateway(first, second, env=on(redis)) as one:
        known = (await one.client.get("/api/tags", headers=ADMIN)).json()
        assert len(known["models"]) == 3
        await first.stop()
        await second.stop()
        async with running_gateway(first, second, env=on(redis)) as other:
            assert (await other.client.get("/api/tags", headers=ADMIN)).json() == known
            assert (await other.client.get("/api/version", headers=ADMIN)).json() == {
                "version": first.behaviour.version
            }
            for way in EVERY_WAY:
                response = await way.ask(other, **ADMIN)
                assert (response.status_code, response.headers["content-type"]) == (502, "application/json")
            assert await status(other, ADMIN, "no-such-model") == 403
            await second.start()
            await answered(other, ADMIN, 200)


async def test_a_list_is_not_believed_of_another_address(
    first: SimulatedOllama, second: SimulatedOllama, redis: RedisServer
) -> None:
    async with running_gateway({"name": "box", "base_url": first.url}, env=on(redis)):
        pass
    await second.stop()
    async with running_gateway({"name": "box", "base_url": second.url}, env=on(redis)) as gateway:
        assert (await gateway.client.get("/api/tags", headers=ADMIN)).status_code == 503


HIDES = """
from herdgate import hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    def shape_catalogue(self, entries):
        return [entry for entry in entries if entry.name.model != "only-first"]
"""


async def test_what_a_gateway_hides_it_does_not_learn_from_one_that_does_not(
    first: SimulatedOllama, redis: RedisServer, tmp_path: Path
) -> None:
    """As while a new plugin is rolled out, from one gateway to the next."""
    async with running_gateway(first, env=on(redis)) as open_one:
        await open_one.knows("only-first:latest")
        async with running_gateway(
            first,
            toml=with_plugin(tmp_path, HIDES),
            directory=tmp_path,
            env=on(redis, HERDGATE_DISCOVERY_INTERVAL="0.1"),
        ) as hiding:
            assert await status(hiding, ADMIN, "only-first") == 403
            first.models.add("new")
            await open_one.knows("new:latest")
            await hiding.knows("new:latest")
            first.models.add("newer")  # which the open one learns from the other one, most of the time
            await open_one.knows("newer:latest")
            assert await status(open_one, ADMIN, "only-first") == 200
            await first.stop()
            assert await status(hiding, ADMIN, "only-first") == 403
    async with running_gateway(first, toml=with_plugin(tmp_path, HIDES), directory=tmp_path, env=on(redis)) as warm:
        listed = (await warm.client.get("/api/tags", headers=ADMIN)).json()["models"]
        assert {entry["name"] for entry in listed} == {f"{MODEL}:latest", "new:latest", "newer:latest"}


# outages


@dataclass
class Load:
    """Callers that ask one after the other, all the time, each on a connection of its own."""

    gateway: RunningGateway
    headers: dict[str, str]
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0

    async def call(self) -> None:
        async with connected(self.gateway) as connection:
            while True:
                began = time.monotonic()
                reply = await connection.ask("POST", CHAT, ASK.body(), self.headers)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.statuses[reply.status] += 1

    async def more(self, count: int) -> None:
        """Wait for so many further replies."""
        wanted = self.statuses.total() + count
        await until(lambda: self.statuses.total() >= wanted)


@asynccontextmanager
async def load(gateway: RunningGateway, headers: dict[str, str], callers: int = 8) -> AsyncIterator[Load]:
    running = Load(gateway, headers)
    tasks = [asyncio.create_task(running.call()) for _ in range(callers)]
    try:
        await running.more(callers)
        yield running
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("outage", ["killed", "frozen"])
async def test_an_outage_of_redis_under_load_is_seen_by_nobody_who_has_a_key(
    first: SimulatedOllama,
    second: SimulatedOllama,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    outage: str,
) -> None:
    env = on(redis, HERDGATE_DISCOVERY_INTERVAL="0.1")
    async with running_gateway(first, second, toml=PATIENT, env=env) as gateway:
        _, secret = await gateway.keys.create("someone", ["*"])
        key = {"x-api-key": secret.get_secret_value()}
        await answered(gateway, key, 200)
        async with load(gateway, key) as callers:
            if outage == "killed":
                await redis.kill()
            else:
                redis.freeze()
            await callers.more(100)
            await readiness(gateway, "degraded")
            await answered(gateway, UNKNOWN, 503)
            assert [await status(gateway, UNKNOWN) for _ in range(3)] == [503] * 3
            assert await asyncio.gather(*(status(gateway, UNKNOWN) for _ in range(20))) == [503] * 20
            assert await status(gateway, ADMIN) == 200
            assert await status(gateway, {}) == 401
            second.models.add("new")
            await gateway.knows("new:latest")  # polls go on, and do without the shared catalogue
            await callers.more(100)
            assert callers.statuses.keys() == {200}
            assert callers.slowest < A_SECOND + USUAL
            told = Counter(record.name for record in caplog.records)
            assert told == {"herdgate.state": 1, "herdgate.keys": 1, "herdgate.discovery": 1}  # not again and again
            if outage == "killed":
                await redis.restart()
            else:
                redis.thaw()
            await readiness(gateway, "ready")
            await answered(gateway, UNKNOWN, 401)
            if outage == "frozen":
                await callers.more(100)
                assert callers.statuses.keys() == {200}
                assert callers.slowest < A_SECOND + USUAL
        if outage == "killed":
            await answered(gateway, key, 401)  # this Redis keeps nothing on disk: the key is gone with it
            _, secret = await gateway.keys.create("somebody", ["*"])
            assert await status(gateway, {"x-api-key": secret.get_secret_value()}) == 200


async def test_what_nobody_could_revoke_for_long_is_not_believed_for_ever(
    first: SimulatedOllama, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(first, env=on(redis)) as gateway:
        _, secret = await gateway.keys.create("someone", ["*"])
        key = {"x-api-key": secret.get_secret_value()}
        await answered(gateway, key, 200)
        redis.freeze()
        await readiness(gateway, "degraded")
        assert await status(gateway, key) == 200
        monkeypatch.setattr("herdgate_plugins.api_keys.TRUSTED", 0.1)
        await answered(gateway, key, 503)
        assert await status(gateway, ADMIN) == 200
        redis.thaw()
        monkeypatch.undo()
        await answered(gateway, key, 200)


class SlowLine:
    """A line to a Redis on which each answer takes `delay` seconds longer."""

    def __init__(self, redis: RedisServer) -> None:
        self.delay = 0.0
        self._redis = redis
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self._redis.url.replace(str(self._redis.port), str(self._server.sockets[0].getsockname()[1]))

    async def __aexit__(self, *exc: object) -> None:
        await stop_accepting(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._redis.port)
        with contextlib.suppress(ConnectionError):
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pipe(reader, far_writer, slow=False))
                    both.create_task(self._pipe(far_reader, writer, slow=True))
            finally:
                writer.close()
                far_writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self.delay if slow else 0.0)
            writer.write(data)
        writer.write_eof()


async def test_nobody_waits_for_a_slow_redis_longer_than_a_second(first: SimulatedOllama, redis: RedisServer) -> None:
    """Each of its answers comes just in time, but to learn of new keys takes several of them."""
    line = SlowLine(redis)
    async with (
        line as url,
        running_gateway(first, env={**on(redis), "HERDGATE_STATE": url}) as gateway,
        running_gateway(first, env=on(redis)) as other,
    ):
        _, secret = await gateway.keys.create("someone", ["*"])
        key = {"x-api-key": secret.get_secret_value()}
        await answered(gateway, key, 200)
        line.delay = 0.35
        async with new_keys(other), load(gateway, key, 1) as known, load(gateway, UNKNOWN, 5) as unknown:
            await unknown.more(20)
            assert unknown.slowest < A_SECOND + 0.2
            assert unknown.statuses.keys() <= {401, 503}
            assert known.slowest < USUAL
            assert known.statuses.keys() == {200}
        line.delay = 0.0
        await answered(gateway, UNKNOWN, 401)


@asynccontextmanager
async def new_keys(gateway: RunningGateway) -> AsyncIterator[None]:
    """Keys are made all the time, so that there always is something new to read."""

    async def make() -> None:
        for number in itertools.count():
            await gateway.keys.create(f"another {number}", ["*"])
            await asyncio.sleep(0.05)

    making = asyncio.create_task(make())
    try:
        yield
        assert not making.done()
    finally:
        making.cancel()
        await asyncio.wait([making])


# starting


async def test_a_gateway_does_not_start_without_its_redis(first: SimulatedOllama, redis: RedisServer) -> None:
    await redis.kill()
    began = time.monotonic()
    with pytest.raises(CannotStart) as refused:
        async with running_gateway(first, env=on(redis)):
            pass
    assert time.monotonic() - began < 5.0
    assert f"redis://127.0.0.1:{redis.port}" in str(refused.value)
    assert "the-redis-password" not in str(refused.value)


async def test_a_wrong_password_is_not_repeated(first: SimulatedOllama, redis: RedisServer) -> None:
    wrong = redis.url.replace("the-redis-password", "a-wrong-password")
    with pytest.raises(CannotStart) as refused:
        async with running_gateway(first, env={"HERDGATE_STATE": wrong}):
            pass
    assert "password" in str(refused.value)
    assert "a-wrong-password" not in str(refused.value)


def _directory(place: Path) -> None:
    place.mkdir()


def _text(place: Path) -> None:
    place.write_text("dear diary, " * 100, "utf-8")


def _another_programs(place: Path) -> None:
    with sqlite3.connect(place) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def _newer(place: Path) -> None:
    with sqlite3.connect(place) as connection:
        connection.execute(f"PRAGMA application_id = {0x48455244}")
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_directory, "it is a directory"),
        (_text, "it is no SQLite file"),
        (_another_programs, "it is another program's SQLite file"),
        (_newer, "it has schema 99"),
    ],
)
async def test_a_file_that_is_no_state_keeps_a_gateway_from_starting(
    first: SimulatedOllama, tmp_path: Path, spoil: object, why: str
) -> None:
    assert callable(spoil)
    place = tmp_path / "state" / "spoiled.db"
    place.parent.mkdir()
    spoil(place)
    with pytest.raises(CannotStart) as refused:
        async with running_gateway(first, env={"HERDGATE_STATE": f"sqlite://{place}"}):
            pass
    assert str(refused.value).startswith(f"the state cannot be opened: the state file {place} cannot be used: {why}")
    assert polls(first) == 0


async def test_a_place_that_cannot_be_made_keeps_a_gateway_from_starting(
    first: SimulatedOllama, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"cannot be created \(Not a directory"):
        async with running_gateway(first, env={"HERDGATE_STATE": f"sqlite://{tmp_path}/file/below/state.db"}):
            pass


def polls(backend: SimulatedOllama) -> int:
    return len(backend.requests)
