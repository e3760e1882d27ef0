"""Who may call: open and protected mode, keys as they come and go, and what happens while the state is away."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr

from herdgate import (
    App,
    CannotStart,
    Credentials,
    Identity,
    KeyStore,
    Refusal,
    Rejected,
    State,
    StateUnavailable,
    hash_secret,
)
from herdgate.keys import SPACE
from herdgate.state import open_state
from herdgate.testing.gateway import running_gateway, until
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins import api_keys
from herdgate_plugins.api_keys import OPEN, ApiKeys

ADMIN_KEY = "hg_the-admin-key-of-the-environment"


class Outage:
    """A state that can be away, at once or after a while, and counts what it is asked."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.away = False
        self.delay = 0.0
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.state, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def ask(*args: Any, **options: Any) -> Any:
            self.asked += 1
            await asyncio.sleep(self.delay)
            if self.away:
                raise StateUnavailable("it is away")
            return await found(*args, **options)

        return ask


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[Outage]:
    opened = await open_state(f"sqlite://{tmp_path}/state.db")
    yield Outage(opened)
    await opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(api_keys, "time", SimpleNamespace(time=clock.time, monotonic=clock.monotonic))
    return clock


@pytest.fixture
def store(state: Outage) -> KeyStore:
    """Another process that makes and revokes keys in the same state."""
    return KeyStore(state.state)


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin looks by itself only where a test lets it."""
    monkeypatch.setattr(api_keys, "SYNC_EVERY", 3600.0)


def running(
    plugin: ApiKeys, state: Outage, host: str = "127.0.0.1", admin_key: str | None = None, plugins: tuple[str, ...] = ()
) -> AbstractAsyncContextManager[None]:
    app = App(
        version="1",
        host=host,
        backends=(),
        plugins=("api_keys", *plugins),
        state=cast(State, state),
        admin_key_hash=None if admin_key is None else hash_secret(admin_key),
    )
    return plugin.lifespan(app)


async def who(plugin: ApiKeys, key: str | SecretStr | None) -> Identity | Rejected | Refusal | None:
    secret = SecretStr(key) if isinstance(key, str) else key
    answer = plugin.authenticate(Credentials(key=secret))
    return await answer if inspect.isawaitable(answer) else answer


# open and protected mode


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.5.5", "localhost", "::1"])
async def test_until_the_first_key_everybody_on_this_machine_is_served(
    state: Outage, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plugin = ApiKeys()
    async with running(plugin, state, host):
        for key in (None, "ollama", "hg_unknown"):
            assert await who(plugin, key) is OPEN
    assert OPEN.models == ("*",)
    assert OPEN.anonymous
    assert not OPEN.admin
    assert "open: no key was ever made" in caplog.text
    assert state.place in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "gateway.example.com"])
async def test_without_a_key_the_gateway_does_not_start_for_other_machines(state: Outage, host: str) -> None:
    with pytest.raises(CannotStart) as caught:
        await running(ApiKeys(), state, host).__aenter__()
    message = str(caught.value)
    assert message.startswith(f"{host} can be reached from other machines")
    for way_out in ("proxyctl keys create", "HERDGATE_ADMIN_KEY", "127.0.0.1", '"anonymous"'):
        assert way_out in message


async def test_with_a_key_it_starts_for_other_machines(
    state: Outage, store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    _, secret = await store.create("alice", ["llama3"])
    plugin = ApiKeys()
    async with running(plugin, state, "0.0.0.0"):
        assert await who(plugin, None) is None
        assert isinstance(await who(plugin, secret), Identity)
    assert "protected: callers need an API key" in caplog.text
    assert state.place in caplog.text


async def test_the_admin_key_of_the_environment_counts_as_a_key(state: Outage) -> None:
    plugin = ApiKeys()
    async with running(plugin, state, "0.0.0.0", ADMIN_KEY):
        assert await who(plugin, None) is None
        assert await who(plugin, ADMIN_KEY) == Identity("admin", models=("*",), admin=True, cloud=True)
        assert await who(plugin, f"{ADMIN_KEY}x") == Rejected("the key is unknown")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_where_anonymous_is_listed_it_alone_says_what_is_open(
    state: Outage, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plugin = ApiKeys()
    async with running(plugin, state, host, plugins=("anonymous",)):
        assert await who(plugin, None) is None
        assert await who(plugin, "ollama") == Rejected("the key is unknown")
    assert "open: the plugin anonymous serves callers without a key" in caplog.text


async def test_the_first_key_ends_the_open_mode(
    state: Outage, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "SYNC_EVERY", 0.01)
    plugin = ApiKeys()
    async with running(plugin, state):
        assert await who(plugin, None) is OPEN
        await store.create("alice", ["*"])

        async def closed() -> bool:
            return await who(plugin, None) is None

        await until(closed, within=2)


async def test_who_shows_the_first_key_is_its_owner_at_once(state: Outage, store: KeyStore) -> None:
    plugin = ApiKeys()
    async with running(plugin, state):
        assert await who(plugin, "hg_unknown") is OPEN
        record, secret = await store.create("alice", ["llama3"])
        owner = await who(plugin, secret)
        assert isinstance(owner, Identity)
        assert (owner.key_id, owner.models) == (record.id, ("llama3",))
        assert await who(plugin, None) is None


@pytest.mark.parametrize("loss", ["revoked", "deleted", "unreadable", "away"])
async def test_a_process_that_has_seen_a_key_never_goes_back_to_open(
    state: Outage, store: KeyStore, clock: Clock, loss: str
) -> None:
    record, secret = await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        match loss:
            case "revoked":
                await store.revoke("alice")
            case "deleted":
                await state.state.delete(SPACE, record.id)
            case "unreadable":
                await state.state.put(SPACE, record.id, b"{")
            case _:
                state.away = True
        clock.now += 3600
        assert isinstance(await who(plugin, "hg_other"), Rejected if loss != "away" else Refusal)
        assert await who(plugin, None) is None
        assert not isinstance(await who(plugin, secret), Identity)


async def test_a_key_that_cannot_be_read_was_made_all_the_same(state: Outage) -> None:
    await state.state.put(SPACE, "k_000000000000", b"written by a newer version")
    plugin = ApiKeys()
    async with running(plugin, state):
        assert await who(plugin, None) is None
        assert isinstance(await who(plugin, "anything"), Rejected)


async def test_without_state_nothing_starts(state: Outage) -> None:
    state.away = True
    with pytest.raises(StateUnavailable):
        await running(ApiKeys(), state).__aenter__()


# keys


async def test_a_key_says_who_it_is(state: Outage, store: KeyStore) -> None:
    record, secret = await store.create("alice", ["llama3", "qwen*"], rpm=7)
    plugin = ApiKeys()
    async with running(plugin, state):
        assert await who(plugin, secret) == Identity(
            "alice", key_id=record.id, models=("llama3", "qwen*"), requests_per_minute=7
        )


async def test_an_admin_key_is_one(state: Outage, store: KeyStore) -> None:
    _, secret = await store.create("root", ["*"], admin=True)
    plugin = ApiKeys()
    async with running(plugin, state):
        identity = await who(plugin, secret)
        assert isinstance(identity, Identity)
        assert (identity.admin, identity.anonymous) == (True, False)


async def test_no_key_is_no_opinion_and_a_wrong_one_is_rejected(state: Outage, store: KeyStore) -> None:
    await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        assert await who(plugin, None) is None
        for key in ("", " ", "hg_wrong", "k\u00e9y", "\ud800"):
            assert await who(plugin, key) == Rejected("the key is unknown")


async def test_a_key_made_a_moment_ago_by_another_process_is_known_at_once(state: Outage, store: KeyStore) -> None:
    await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        _, secret = await store.create("bob", ["*"])
        identity = await who(plugin, secret)
        assert isinstance(identity, Identity)
        assert identity.name == "bob"


async def test_an_expired_key_is_rejected(state: Outage, clock: Clock) -> None:
    _, secret = await KeyStore(state.state, clock.time).create("alice", ["*"], expires_at=clock.now + 60)
    plugin = ApiKeys()
    async with running(plugin, state):
        assert isinstance(await who(plugin, secret), Identity)
        clock.now += 60
        assert await who(plugin, secret) == Rejected("the key is expired")


async def test_an_admin_can_ask_about_a_key_by_its_name_or_id(state: Outage, store: KeyStore, clock: Clock) -> None:
    record, secret = await KeyStore(state.state, clock.time).create("alice", ["llama3"], expires_at=clock.now + 60)
    plugin = ApiKeys()
    async with running(plugin, state, admin_key=ADMIN_KEY):
        assert isinstance(await who(plugin, secret), Identity)
        assert await plugin.identify("alice") == await plugin.identify(record.id) == await who(plugin, secret)
        for name in ("bob", "", record.hash, secret.get_secret_value()):
            assert await plugin.identify(name) is None
        assert await plugin.identify("admin") == await who(plugin, ADMIN_KEY)
        clock.now += 60
        assert await plugin.identify("alice") == Rejected("the key is expired")


async def test_a_key_made_or_revoked_a_moment_ago_can_be_asked_about(state: Outage, store: KeyStore) -> None:
    await store.create("alice", ["llama3"])
    plugin = ApiKeys()
    async with running(plugin, state):
        await store.create("bob", ["llama3"])
        await store.revoke("alice")
        assert isinstance(await plugin.identify("bob"), Identity)
        assert await plugin.identify("alice") == Rejected("the key is revoked")


async def test_the_name_of_the_settings_own_key_means_nothing_without_one_and_yields_to_a_key_of_that_name(
    state: Outage, store: KeyStore
) -> None:
    plugin = ApiKeys()
    async with running(plugin, state):
        assert await plugin.identify("admin") is None
    await store.create("admin", ["llama3"])
    async with running(plugin, state, admin_key=ADMIN_KEY):
        known = await plugin.identify("admin")
        assert isinstance(known, Identity)
        assert known.models == ("llama3",)


async def test_an_outage_keeps_nobody_from_asking_about_known_keys(
    state: Outage, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create("alice", ["llama3"])
    plugin = ApiKeys()
    async with running(plugin, state):
        state.away = True
        assert isinstance(await plugin.identify("alice"), Identity)
        monkeypatch.setattr(api_keys, "LOOK_WITHIN", 0.01)
        state.delay = 30.0
        assert isinstance(await plugin.identify("alice"), Identity)


async def test_a_revocation_is_seen_without_anybody_asking(
    state: Outage, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "SYNC_EVERY", 0.01)
    _, secret = await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        assert isinstance(await who(plugin, secret), Identity)
        await store.revoke("alice")

        async def rejected() -> bool:
            return await who(plugin, secret) == Rejected("the key is revoked")

        await until(rejected, within=2)


async def test_a_known_key_costs_no_look_at_the_state(state: Outage, store: KeyStore) -> None:
    _, secret = await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state, admin_key=ADMIN_KEY):
        asked = state.asked
        for key in (secret, SecretStr(ADMIN_KEY), None):
            await who(plugin, key)
        assert state.asked == asked


async def test_all_requests_of_a_key_share_one_identity_until_the_keys_change(state: Outage, store: KeyStore) -> None:
    record, secret = await store.create("alice", ["llama3"])
    plugin = ApiKeys()
    async with running(plugin, state):
        first = await who(plugin, secret)
        assert await who(plugin, secret) is first
        changed = record.model_copy(update={"models": ("*",)})
        await state.put(SPACE, record.id, changed.model_dump_json().encode(), at=await state.version(SPACE))
        assert await plugin.identify("alice") == await who(plugin, secret) != first


async def test_the_audit_log_says_why_a_caller_was_rejected_and_never_shows_the_key(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "SYNC_EVERY", 0.01)
    caplog.set_level(logging.INFO, "herdgate.audit")
    async with SimulatedOllama() as backend, running_gateway(backend) as gateway:
        key = await gateway.make_key("*", name="alice")
        await gateway.keys.revoke("alice")

        async def revoked() -> bool:
            return (await gateway.client.get("/api/tags", headers=key)).status_code == 401

        await until(revoked, within=2)
        caplog.clear()
        wrong: list[dict[str, str]] = [key, {"x-api-key": "hg_never-made"}, {}]
        replies = [await gateway.client.get("/api/tags", headers=headers) for headers in wrong]
    assert [reply.status_code for reply in replies] == [401, 401, 401]
    assert len({reply.content for reply in replies}) == 1
    audited = [record.getMessage() for record in caplog.records if record.name == "herdgate.audit"]
    assert [line.rpartition(": ")[2] for line in audited] == [
        "the key is revoked",
        "the key is unknown",
        "no plugin knows this caller",
    ]
    assert replies[0].headers["x-request-id"] in audited[0]
    assert "hg_" not in caplog.text


# while the state is away


async def test_a_known_key_is_trusted_for_a_minute(
    state: Outage, store: KeyStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _, secret = await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        state.away = True
        clock.now += 59.9
        assert isinstance(await who(plugin, secret), Identity)
        clock.now += 0.1
        refusal = await who(plugin, secret)
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.retry_after) == (503, 5)
        assert "keys cannot be checked" in refusal.reason
        state.away = False
        await who(plugin, "hg_unknown")  # whoever asks first brings the copy in step
        assert isinstance(await who(plugin, secret), Identity)


async def test_a_gateway_without_keys_is_open_no_longer_than_they_would_be_trusted(
    state: Outage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "SYNC_EVERY", 0.01)
    plugin = ApiKeys()
    async with running(plugin, state):
        state.away = True
        clock.now += 59.9
        assert await who(plugin, None) is OPEN
        clock.now += 0.1
        for key in (None, "ollama"):
            refusal = await who(plugin, key)
            assert isinstance(refusal, Refusal)
            assert (refusal.status, refusal.retry_after) == (503, 5)
        state.away = False
        clock.now += 1

        async def open_again() -> bool:
            return await who(plugin, None) is OPEN

        await until(open_again)


async def test_the_admin_key_of_the_environment_needs_no_state(state: Outage, clock: Clock) -> None:
    plugin = ApiKeys()
    async with running(plugin, state, admin_key=ADMIN_KEY):
        state.away = True
        clock.now += 86_400
        assert await who(plugin, ADMIN_KEY) == Identity("admin", models=("*",), admin=True, cloud=True)


async def test_nobody_can_say_that_a_key_is_unknown_when_the_copy_is_old(
    state: Outage, store: KeyStore, clock: Clock
) -> None:
    await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        state.away = True
        clock.now += 2.0
        assert await who(plugin, "hg_unknown") == Rejected("the key is unknown")
        clock.now += 0.1
        refusal = await who(plugin, "hg_unknown")
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.retry_after) == (503, 5)


async def test_a_key_known_to_be_revoked_stays_rejected(state: Outage, store: KeyStore, clock: Clock) -> None:
    _, secret = await store.create("alice", ["*"])
    await store.revoke("alice")
    plugin = ApiKeys()
    async with running(plugin, state):
        state.away = True
        clock.now += 3600
        assert await who(plugin, secret) == Rejected("the key is revoked")


async def test_many_unknown_keys_wait_for_one_failure(state: Outage, store: KeyStore, clock: Clock) -> None:
    await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        state.away, state.delay = True, 0.05
        clock.now += 10
        asked = state.asked
        answers = await asyncio.gather(*(who(plugin, f"hg_{number}") for number in range(50)))
        assert all(isinstance(answer, Refusal) for answer in answers)
        assert state.asked == asked + 1


async def test_many_unknown_keys_wait_for_one_answer(state: Outage, store: KeyStore, clock: Clock) -> None:
    await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        clock.now += 10
        asked = state.asked
        answers = await asyncio.gather(*(who(plugin, f"hg_{number}") for number in range(50)))
        assert set(answers) == {Rejected("the key is unknown")}
        assert state.asked == asked + 1


async def test_an_outage_is_logged_once_and_so_is_its_end(
    state: Outage, store: KeyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_keys, "SYNC_EVERY", 0.01)
    caplog.set_level(logging.INFO)
    _, secret = await store.create("alice", ["*"])
    plugin = ApiKeys()
    async with running(plugin, state):
        state.away = True
        asked = state.asked
        await until(lambda: state.asked > asked + 3, within=2)
        state.away = False
        await until(lambda: "in step with the state again" in caplog.text, within=2)
    assert caplog.text.count("known keys are served for 60 s more at most") == 1
    assert caplog.text.count("in step with the state again") == 1
    assert secret.get_secret_value() not in caplog.text


async def test_nothing_runs_on_after_the_end(state: Outage) -> None:
    before = asyncio.all_tasks()
    async with running(ApiKeys(), state):
        assert {task.get_name() for task in asyncio.all_tasks() - before} == {"api keys"}
    assert asyncio.all_tasks() == before
