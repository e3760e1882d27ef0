import asyncio
import json
import logging
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from herdgate.keys import (
    SPACE,
    AlreadyRevoked,
    BadKey,
    KeyIndex,
    KeyProblem,
    KeyRecord,
    KeyStore,
    NameTaken,
    NoSuchKey,
    Refused,
    hash_secret,
    parse_duration,
)
from herdgate.state import State, open_state
from herdgate.testing.redis_server import RedisServer


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[State]:
    state = await open_state(f"sqlite://{tmp_path}/herdgate.db")
    yield state
    await state.close()


@pytest.fixture
def keys(state: State, clock: Clock) -> KeyStore:
    return KeyStore(state, clock)


def everything_in(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir())


# Making, finding, revoking


async def test_a_new_key(keys: KeyStore, clock: Clock) -> None:
    record, secret = await keys.create("alice", ["llama3.2", "qwen*"], admin=True, expires_at=clock.now + 60, rpm=30)
    assert re.fullmatch(r"hg_[A-Za-z0-9_-]{43}", secret.get_secret_value())
    assert re.fullmatch(r"k_[0-9a-f]{12}", record.id)
    assert (record.name, record.models, record.admin, record.rpm) == ("alice", ("llama3.2", "qwen*"), True, 30)
    assert (record.created, record.expires, record.revoked) == (clock.now, clock.now + 60, None)
    assert await keys.list() == [record]
    assert await keys.find("alice") == await keys.find(record.id) == record


async def test_the_secret_is_kept_nowhere(keys: KeyStore, state: State, tmp_path: Path) -> None:
    record, secret = await keys.create("alice", ["*"])
    plain = secret.get_secret_value()
    assert plain not in repr(secret) + str(secret) + repr(record) + record.model_dump_json()
    kept = everything_in(tmp_path)
    assert record.id.encode() in kept
    assert plain.encode() not in kept
    assert json.loads((await state.items(SPACE))[record.id])["hash"] == hash_secret(plain)


async def test_keys_differ(keys: KeyStore) -> None:
    made = [await keys.create(f"key {n}", ["*"]) for n in range(20)]
    assert len({record.id for record, _ in made}) == len({secret.get_secret_value() for _, secret in made}) == 20


async def test_listed_oldest_first(keys: KeyStore, clock: Clock) -> None:
    for name in "bca":
        await keys.create(name, ["*"])
        clock.now += 1
    assert [record.name for record in await keys.list()] == ["b", "c", "a"]


async def test_a_name_in_use_is_taken(keys: KeyStore) -> None:
    record, _ = await keys.create("alice", ["*"])
    with pytest.raises(NameTaken, match="a key named 'alice' already: revoke it first, or choose another name"):
        await keys.create("alice", ["*"])
    assert await keys.list() == [record]
    await keys.create("Alice", ["*"])


async def test_the_name_of_a_revoked_key_is_free(keys: KeyStore, clock: Clock) -> None:
    old, _ = await keys.create("alice", ["*"])
    await keys.revoke("alice")
    new, _ = await keys.create("alice", ["*"])
    assert await keys.find("alice") == new
    assert (await keys.find(old.id)).revoked == clock.now


async def test_the_name_of_an_expired_key_is_free(keys: KeyStore, clock: Clock) -> None:
    await keys.create("alice", ["*"], expires_at=clock.now + 60)
    clock.now += 59
    with pytest.raises(NameTaken):
        await keys.create("alice", ["*"])
    clock.now += 1
    await keys.create("alice", ["*"])


async def test_of_dead_keys_of_one_name_the_latest_is_found(keys: KeyStore, clock: Clock) -> None:
    for _ in range(3):
        latest, _ = await keys.create("alice", ["*"])
        clock.now += 1
        await keys.revoke("alice")
    assert (await keys.find("alice")).id == latest.id


async def test_an_older_live_key_goes_before_a_dead_one(keys: KeyStore, clock: Clock) -> None:
    """A clock set back can make the dead key the younger one."""
    await keys.create("alice", ["*"])
    await keys.revoke("alice")
    clock.now -= 1000
    live, _ = await keys.create("alice", ["*"])
    assert await keys.find("alice") == live


@pytest.mark.parametrize("by", ["name", "id"])
async def test_revoking(keys: KeyStore, clock: Clock, by: str) -> None:
    record, secret = await keys.create("alice", ["*"])
    clock.now += 10
    revoked = await keys.revoke(getattr(record, by))
    assert revoked == record.model_copy(update={"revoked": clock.now})
    assert await keys.list() == [revoked]
    assert KeyIndex(await keys.list()).look_up(secret.get_secret_value(), clock.now) is Refused.REVOKED


async def test_revoking_twice(keys: KeyStore, clock: Clock) -> None:
    await keys.create("alice", ["*"])
    first = await keys.revoke("alice")
    clock.now += 3600
    with pytest.raises(
        AlreadyRevoked, match=rf"'alice' \({first.id}\) was revoked already, on 2027-01-15 08:00:00 UTC"
    ):
        await keys.revoke("alice")
    assert await keys.list() == [first]


async def test_an_expired_key_can_still_be_revoked(keys: KeyStore, clock: Clock) -> None:
    await keys.create("alice", ["*"], expires_at=clock.now + 1)
    clock.now += 2
    assert (await keys.revoke("alice")).revoked == clock.now


async def test_an_unknown_key(keys: KeyStore) -> None:
    for ask in (keys.find, keys.revoke):
        with pytest.raises(NoSuchKey, match="no key has the name or id 'bob'"):
            await ask("bob")


async def test_a_secret_in_place_of_a_name_is_not_repeated(keys: KeyStore) -> None:
    _, secret = await keys.create("alice", ["*"])
    plain = secret.get_secret_value()
    problems: list[KeyProblem] = []
    for call in (keys.find(plain), keys.revoke(plain), keys.create(plain, ["*"])):
        with pytest.raises(KeyProblem) as problem:
            await call
        problems.append(problem.value)
    assert all(plain[:8] not in str(problem) for problem in problems)
    assert [type(problem) for problem in problems] == [NoSuchKey, NoSuchKey, BadKey]


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("", {}, "1 to 64 printable characters"),
        ("n" * 65, {}, "1 to 64 printable characters"),
        (" alice", {}, "no space at either end"),
        ("ali\nce", {}, "printable"),
        ("ali\x1b[31mce", {}, "printable"),
        ("hg_alice", {}, "must not look like a secret"),
        ("k_0123456789ab", {}, "or an id"),
        ("alice", {"models": []}, "good for nothing"),
        ("alice", {"models": ["llama3", "a//b/c/d/e"]}, "a//b/c/d/e"),
        ("alice", {"models": [""]}, "pattern"),
        ("alice", {"expires_at": 1_800_000_000.0}, "expired before it was made"),
        ("alice", {"expires_at": 0.0}, "expired before it was made"),
        ("alice", {"rpm": 0}, "0 requests per minute"),
        ("alice", {"rpm": -1}, "-1 requests per minute"),
        ("alice", {"deadline": 0}, "within 0 seconds"),
    ],
)
async def test_values_that_make_no_key(keys: KeyStore, name: str, options: dict[str, object], problem: str) -> None:
    with pytest.raises(BadKey, match=problem):
        await keys.create(name, **{"models": ["*"], **options})  # type: ignore[arg-type]
    assert not await keys.ever_made()


@pytest.mark.parametrize("name", ["a", "n" * 64, "Alice's laptop", "ci/build@example.org", "Ключ", "k_short"])
async def test_names_are_free_text(keys: KeyStore, name: str) -> None:
    await keys.create(name, ["*"])
    assert (await keys.find(name)).name == name


async def test_an_admin_key_needs_no_models(keys: KeyStore) -> None:
    record, _ = await keys.create("ops", [], admin=True)
    assert record.models == ()


async def test_ever_made_stays_true(keys: KeyStore) -> None:
    assert not await keys.ever_made()
    await keys.create("alice", ["*"])
    assert await keys.ever_made()
    await keys.revoke("alice")
    assert await keys.ever_made()


async def test_the_version_changes_with_the_keys(keys: KeyStore) -> None:
    versions = [await keys.version()]
    await keys.create("alice", ["*"])
    versions.append(await keys.version())
    await keys.revoke("alice")
    versions.append(await keys.version())
    assert versions[0] < versions[1] < versions[2]
    await keys.list()
    assert await keys.version() == versions[2]


# Records of other versions, and broken ones


async def test_fields_of_a_newer_herdgate_do_no_harm_and_survive(keys: KeyStore, state: State) -> None:
    record, _ = await keys.create("alice", ["*"])
    stored = json.loads((await state.items(SPACE))[record.id])
    await state.put(SPACE, record.id, json.dumps({**stored, "tokens_per_day": 1000}).encode())
    await keys.revoke("alice")
    assert json.loads((await state.items(SPACE))[record.id])["tokens_per_day"] == 1000


async def test_a_record_of_the_first_version_is_read(state: State, keys: KeyStore) -> None:
    """This text must stay readable for ever."""
    text = (
        '{"id":"k_0123456789ab","name":"alice","hash":"' + "0" * 64 + '","models":["llama3*"],"admin":false,'
        '"created":1800000000.5,"expires":null,"revoked":null,"rpm":null,"cloud":false,"deadline":null}'
    )
    await state.put(SPACE, "k_0123456789ab", text.encode())
    record = await keys.find("alice")
    assert (record.models, record.created, record.rpm) == (("llama3*",), 1800000000.5, None)
    assert record.model_dump_json() == text


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b'{"id": "k_1"}', "created, hash, models, name"),
        (b'{"id": "k_1", "name": "x", "hash": "plain", "models": [], "created": 1}', "hash"),
    ],
)
async def test_a_broken_record_locks_nobody_else_out(
    keys: KeyStore, state: State, caplog: pytest.LogCaptureFixture, stored: bytes, named: str
) -> None:
    record, _ = await keys.create("alice", ["*"])
    await state.put(SPACE, "k_1", stored)
    with caplog.at_level(logging.WARNING):
        assert await keys.list() == [record]
    assert caplog.messages == [f"the key record k_1 cannot be read ({named}): the key is refused"]
    await keys.revoke("alice")


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError):
        record("s").name = "other"  # type: ignore[misc]


# Recognising a secret


def record(secret: str, expires: float | None = None, revoked: float | None = None) -> KeyRecord:
    return KeyRecord(
        id=f"k_{secret}",
        name=secret,
        hash=hash_secret(secret),
        models=("*",),
        created=0.0,
        expires=expires,
        revoked=revoked,
    )


def test_looking_up() -> None:
    alice, bob = record("alice"), record("bob", expires=100.0)
    index = KeyIndex([alice, bob, record("carol", revoked=50.0), record("dave", expires=100.0, revoked=50.0)])
    assert index.look_up("alice", 1e12) is alice
    assert index.look_up("bob", 99.9) is bob
    assert index.look_up("bob", 100.0) is Refused.EXPIRED
    assert index.look_up("carol", 0.0) is Refused.REVOKED
    assert index.look_up("dave", 200.0) is Refused.REVOKED


@given(st.text(st.characters(exclude_categories=()), max_size=200))
@example("\ud800")
def test_nothing_else_is_recognised(presented: str) -> None:
    """Lone surrogates included, which a header with any bytes can bring."""
    assert KeyIndex([record("hg_alice")]).look_up(presented, 0.0) is Refused.UNKNOWN


def test_the_hash_itself_is_no_key() -> None:
    alice = record("hg_alice")
    assert KeyIndex([alice]).look_up(alice.hash, 0.0) is Refused.UNKNOWN


def test_an_empty_index_knows_nobody() -> None:
    assert KeyIndex([]).look_up("", 0.0) is Refused.UNKNOWN


def test_the_hash_is_sha256() -> None:
    assert hash_secret("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# At once


async def test_of_two_clients_of_redis_that_use_a_name_at_once_one_wins() -> None:
    async with RedisServer() as server:
        stores = [await open_state(server.url) for _ in range(2)]
        outcomes = await asyncio.gather(
            *(KeyStore(stores[n % 2]).create("alice", [f"model{n}"]) for n in range(20)), return_exceptions=True
        )
        made = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
        assert len(made) == 1
        assert sum(isinstance(outcome, NameTaken) for outcome in outcomes) == 19
        assert await KeyStore(stores[0]).list() == [made[0][0]]
        for store in stores:
            await store.close()


async def test_different_names_at_once_are_all_made(state: State) -> None:
    keys = KeyStore(state)
    await asyncio.gather(*(keys.create(f"key {n}", ["*"]) for n in range(15)))
    assert len(await keys.list()) == 15


async def test_of_many_revocations_at_once_one_wins(state: State) -> None:
    keys = KeyStore(state)
    await keys.create("alice", ["*"])
    outcomes = await asyncio.gather(*(keys.revoke("alice") for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(outcome, KeyRecord) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyRevoked) for outcome in outcomes) == 9


CREATE = """
import asyncio, sys
from herdgate.keys import KeyStore, NameTaken
from herdgate.state import open_state

async def main(url, names):
    state = await open_state(url)
    print("ready", flush=True)
    sys.stdin.read()
    for n in range(names):
        try:
            record, _ = await KeyStore(state).create(f"name {n}", ["*"])
            print(record.id)
        except NameTaken:
            pass
    await state.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_of_processes_that_use_a_name_at_once_one_wins(state: State, tmp_path: Path) -> None:
    names = 8
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CREATE, f"sqlite://{tmp_path}/herdgate.db", str(names), stdin=pipe, stdout=pipe
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    made = await asyncio.gather(*(process.communicate(b"") for process in processes))
    assert [process.returncode for process in processes] == [0] * 4
    ids = [line for output, _ in made for line in output.decode().split()]
    records = await KeyStore(state).list()
    assert sorted(record.id for record in records) == sorted(ids)
    assert sorted(record.name for record in records) == [f"name {n}" for n in range(names)]


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("12h", 43200), ("30d", 2592000), ("1s", 1), (" 7d ", 604800), ("36500d", 3153600000)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "d",
        "-1d",
        "1.5h",
        "1 d",
        "30D",
        "1h30m",
        "1w",
        "\u0663d",
        "0s",
        "36501d",
        "9" * 12 + "d",
        "9" * 5000 + "d",
    ],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
