"""What every store must do, told once and asked of each of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from herdgate.state import State, StateUnavailable, open_state
from herdgate.testing.redis_server import RedisServer


@pytest.fixture(params=["sqlite", "redis"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/herdgate.db"
        return
    async with RedisServer() as server:
        yield server.url


@pytest.fixture
async def state(url: str) -> AsyncIterator[State]:
    state = await open_state(url)
    yield state
    await state.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[State]:
    """A second store at the same place, as another process has it."""
    other = await open_state(url)
    yield other
    await other.close()


async def test_says_what_and_where_it_is(state: State, url: str) -> None:
    assert url.startswith(f"{state.kind}://")
    assert state.place == url


async def test_what_was_put_is_got(state: State, other: State) -> None:
    assert await state.get("space", "key") is None
    assert await state.put("space", "key", b"first") is True
    assert await other.get("space", "key") == b"first"
    assert await other.put("space", "key", b"second") is True
    assert await state.get("space", "key") == b"second"


@pytest.mark.parametrize("value", [b"", bytes(range(256)), b"x" * 2_000_000], ids=["empty", "binary", "two megabytes"])
async def test_values_are_any_bytes(state: State, value: bytes) -> None:
    await state.put("space", "key", value)
    assert await state.get("space", "key") == value
    assert await state.items("space") == {"key": value}


@pytest.mark.parametrize("key", ["", "a b:c/*?[", "ключ 🔑", "k" * 1000])
async def test_keys_are_any_text(state: State, key: str) -> None:
    await state.put("space", key, b"value")
    assert await state.items("space") == {key: b"value"}
    assert await state.get("space", key) == b"value"
    assert await state.delete("space", key)


async def test_spaces_are_apart(state: State) -> None:
    await state.put("one", "key", b"1")
    await state.put("two", "key", b"2")
    await state.delete("one", "key")
    assert (await state.items("one"), await state.items("two")) == ({}, {"key": b"2"})
    assert (await state.count("one"), await state.count("two"), await state.count("three")) == (0, 1, 0)


async def test_add_writes_only_what_is_absent(state: State) -> None:
    assert await state.add("space", "key", b"first") is True
    assert await state.add("space", "key", b"second") is False
    assert await state.get("space", "key") == b"first"
    await state.delete("space", "key")
    assert await state.add("space", "key", b"third") is True


async def test_delete_says_whether_there_was_something(state: State) -> None:
    await state.put("space", "key", b"value")
    assert await state.delete("space", "key") is True
    assert await state.delete("space", "key") is False
    assert await state.get("space", "key") is None


async def test_the_version_grows_with_each_change_and_for_everybody(state: State, other: State) -> None:
    assert await state.version("space") == 0
    changes: list[Callable[[], Awaitable[bool]]] = [
        lambda: state.put("space", "key", b"value"),
        lambda: state.put("space", "key", b"value"),
        lambda: other.add("space", "other", b"value"),
        lambda: state.delete("space", "key"),
    ]
    seen = [0]
    for change in changes:
        assert await change()
        assert await state.version("space") == await other.version("space") > seen[-1]
        seen.append(await state.version("space"))


async def test_the_version_stays_when_nothing_changes(state: State) -> None:
    await state.put("space", "key", b"value")
    version = await state.version("space")
    await state.add("space", "key", b"again")
    await state.delete("space", "absent")
    await state.put("space", "key", b"too late", at=version - 1)
    await state.put("elsewhere", "key", b"value")
    assert await state.version("space") == version
    assert await state.version("never written") == 0


async def test_put_at_a_version_writes_only_if_nothing_changed_since(state: State, other: State) -> None:
    assert await state.put("space", "key", b"first", at=0) is True
    seen = await state.version("space")
    await other.put("space", "unrelated", b"value")
    assert await state.put("space", "key", b"second", at=seen) is False
    for wrong in (0, seen - 1, await state.version("space") + 1):
        assert await state.put("space", "key", b"second", at=wrong) is False
    assert await state.get("space", "key") == b"first"
    assert await state.put("space", "key", b"second", at=await state.version("space")) is True


async def test_of_many_that_add_at_once_one_wins(state: State, other: State) -> None:
    won = await asyncio.gather(*((state, other)[n % 2].add("space", "key", b"%d" % n) for n in range(30)))
    assert won.count(True) == 1
    assert await state.get("space", "key") == b"%d" % won.index(True)


async def test_changes_at_a_version_lose_nothing(state: State, other: State) -> None:
    async def count_up(store: State) -> None:
        while True:
            seen = await store.version("space")
            number = int(await store.get("space", "number") or 0)
            if await store.put("space", "number", b"%d" % (number + 1), at=seen):
                return

    await asyncio.gather(*(count_up(store) for store in (state, other) for _ in range(10)))
    assert await state.get("space", "number") == b"20"


async def test_many_calls_at_once_get_their_own_answers(state: State) -> None:
    await asyncio.gather(*(state.put("space", str(n), b"%d" % n) for n in range(30)))
    answers = await asyncio.gather(*(state.get("space", str(n % 30)) for n in range(300)))
    assert answers == [b"%d" % (n % 30) for n in range(300)]


async def test_a_cancelled_call_leaves_the_store_in_order(state: State) -> None:
    await state.put("space", "a", b"a")
    await state.put("space", "b", b"b")
    for steps in range(30):  # each time a little further on its way
        call = asyncio.create_task(state.get("space", "a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        assert await state.get("space", "b") == b"b"


async def test_after_close_every_call_says_so(state: State) -> None:
    await state.put("space", "key", b"value")
    await state.close()
    await state.close()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: state.get("space", "key"),
        lambda: state.put("space", "key", b"value"),
        lambda: state.add("space", "key", b"value"),
        lambda: state.delete("space", "key"),
        lambda: state.items("space"),
        lambda: state.count("space"),
        lambda: state.version("space"),
    ]
    for call in calls:
        with pytest.raises(StateUnavailable, match="it was closed"):
            await call()


async def test_closing_during_calls_ends_them_in_order(url: str) -> None:
    state = await open_state(url)
    calls = [asyncio.create_task(state.put("space", str(n), b"value")) for n in range(40)]
    await asyncio.sleep(0)
    await state.close()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert outcome is True or isinstance(outcome, StateUnavailable)


async def test_what_was_written_outlasts_the_store(url: str) -> None:
    first = await open_state(url)
    await first.put("space", "key", b"value")
    version = await first.version("space")
    await first.close()
    second = await open_state(url)
    assert (await second.get("space", "key"), await second.version("space")) == (b"value", version)
    await second.close()
