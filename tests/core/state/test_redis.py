import asyncio
import contextlib
import gc
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis

from herdgate.listening import stop_accepting
from herdgate.state import CALL_LIMIT, State, StateUnavailable, open_state
from herdgate.state.breaker import FAILURES, PAUSE
from herdgate.state.place import RedisPlace
from herdgate.state.redis_link import CONNECTIONS, TIMEOUT, RedisLink
from herdgate.testing.redis_server import RedisServer

IN_TIME = CALL_LIMIT + 0.1
"""What a call may take at most."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def unavailable_in_time(call: Awaitable[object], limit: float = IN_TIME) -> str:
    began = time.monotonic()
    with pytest.raises(StateUnavailable) as refusal:
        await call
    assert time.monotonic() - began < limit
    return str(refusal.value)


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def recovered(state: State) -> None:
    """Wait until the store answers again; it has to by itself, within the breaker's pause and a little."""
    began = time.monotonic()
    while time.monotonic() - began < PAUSE + 0.5:
        with contextlib.suppress(StateUnavailable):
            await state.count("space")
            return
        await asyncio.sleep(0.02)
    pytest.fail("the store did not recover")


async def tell(server: RedisServer, *commands: str) -> str:
    """Say something to the server on a connection of our own, and return the raw replies."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
    replies = await reader.read()
    writer.close()
    await writer.wait_closed()
    return replies.decode()


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server of our own on a free port; what it still serves at the end is cut off."""
    tasks = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await serve(reader, writer)
        if not writer.transport.is_closing():
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await stop_accepting(server)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


def relay_to(port: int) -> Serve:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))
        finally:
            upstream_writer.transport.abort()

    return serve


# Outages


async def test_a_killed_server_is_told_at_once_and_found_again(redis_server: RedisServer, redis_state: State) -> None:
    await redis_state.put("space", "key", b"value")
    await redis_server.kill()
    assert "closed" in await unavailable_in_time(redis_state.get("space", "key"), 0.2)
    for _ in range(5):
        assert "refuses connections: is it running" in await unavailable_in_time(redis_state.get("space", "key"), 0.2)
    await redis_server.restart()
    await recovered(redis_state)
    assert await redis_state.add("space", "key", b"anew")  # the scripts are gone from the server as well


async def test_a_restart_between_two_calls_goes_unnoticed(redis_server: RedisServer, redis_state: State) -> None:
    await redis_state.put("space", "key", b"value")
    await redis_server.restart()
    assert await redis_state.get("space", "key") is None


async def test_after_a_loss_of_data_no_old_version_comes_again(redis_server: RedisServer, redis_state: State) -> None:
    for _ in range(3):
        await redis_state.put("space", "key", b"value")
    version = await redis_state.version("space")
    await redis_server.restart()
    assert await redis_state.version("space") == 0
    await redis_state.put("space", "key", b"other")
    assert await redis_state.version("space") > version


async def test_a_frozen_server_costs_no_call_more_than_a_second(redis_server: RedisServer, redis_state: State) -> None:
    await redis_state.put("space", "key", b"value")
    redis_server.freeze()
    calls: list[Awaitable[object]] = [
        redis_state.get("space", "key"),
        redis_state.put("space", "key", b"value"),
        redis_state.put("space", "key", b"value", at=1),
        redis_state.add("space", "key", b"value"),
        redis_state.delete("space", "key"),
        redis_state.items("space"),
        redis_state.count("space"),
        redis_state.version("space"),
    ]
    for reason in await asyncio.gather(*map(unavailable_in_time, calls)):
        assert "did not answer in time" in reason


async def test_closing_while_the_server_is_frozen(redis_server: RedisServer, redis_state: State) -> None:
    redis_server.freeze()
    calls = [asyncio.create_task(redis_state.get("space", "key")) for _ in range(2 * CONNECTIONS)]
    await asyncio.sleep(0.01)
    began = time.monotonic()
    await redis_state.close()
    assert time.monotonic() - began < IN_TIME
    await asyncio.gather(*(unavailable_in_time(call, 0.1) for call in calls))


async def test_opening_at_a_frozen_server(redis_server: RedisServer) -> None:
    redis_server.freeze()
    assert "did not answer in time" in await unavailable_in_time(open_state(redis_server.url))


async def test_many_callers_of_a_frozen_server_wait_together(redis_server: RedisServer, redis_state: State) -> None:
    """Not one after the other for the few connections there are."""
    redis_server.freeze()
    began = time.monotonic()
    await asyncio.gather(*(unavailable_in_time(redis_state.get("space", "key")) for _ in range(5 * CONNECTIONS)))
    assert time.monotonic() - began < IN_TIME


async def test_after_some_failures_callers_are_told_at_once(redis_server: RedisServer, redis_state: State) -> None:
    redis_server.freeze()
    for _ in range(FAILURES):
        await unavailable_in_time(redis_state.get("space", "key"), 2 * TIMEOUT)  # not tried twice
    for _ in range(10):
        assert "tried again in a moment" in await unavailable_in_time(redis_state.get("space", "key"), 0.05)


async def test_a_short_standstill_of_this_process_is_no_outage(redis_server: RedisServer, redis_state: State) -> None:
    """All calls under way run out of time together, though their answers have come; the next one must be tried."""
    await asyncio.gather(*(redis_state.count("space") for _ in range(CONNECTIONS)))  # all connections are made
    redis_server.freeze()
    calls = [asyncio.create_task(redis_state.get("space", "key")) for _ in range(CONNECTIONS)]
    await asyncio.sleep(0.05)
    redis_server.thaw()
    stand_still(TIMEOUT)
    await asyncio.gather(*map(unavailable_in_time, calls))
    assert await redis_state.get("space", "key") is None


async def test_a_thawed_server_is_used_again_and_no_answers_are_mixed_up(
    redis_server: RedisServer, redis_state: State
) -> None:
    for name in "abcdefgh":
        await redis_state.put("space", name, name.encode())
    redis_server.freeze()
    await asyncio.gather(*(unavailable_in_time(redis_state.get("space", name)) for name in "abcdefgh"))
    redis_server.thaw()
    await recovered(redis_state)
    names = "hgfedcba" * 10
    answers = await asyncio.gather(*(redis_state.get("space", name) for name in names))
    assert answers == [name.encode() for name in names]


async def test_a_change_without_an_answer_may_have_been_made(redis_server: RedisServer, redis_state: State) -> None:
    await redis_state.add("space", "other", b"value")  # so there is a connection, whose kernel takes what is sent
    redis_server.freeze()
    reason = await unavailable_in_time(redis_state.add("space", "key", b"value"))
    assert "it may have been made all the same" in reason
    assert "all the same" not in await unavailable_in_time(redis_state.get("space", "key"))
    redis_server.thaw()
    await recovered(redis_state)
    assert await redis_state.add("space", "key", b"again") is False


async def test_a_read_without_a_reply_changes_nothing() -> None:
    """Not even if no single reply is late."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"$")
            await asyncio.sleep(0.05)

    async with listening(trickle) as port:
        reason = await unavailable_in_time(open_state(f"redis://127.0.0.1:{port}"))
    assert "all the same" not in reason


async def test_a_slow_server_is_given_up_though_each_reply_comes_in_time(redis_server: RedisServer) -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", redis_server.port)
        try:
            while data := await reader.read(65536):
                upstream_writer.write(data)
                answer = await upstream_reader.read(65536)
                await asyncio.sleep(0.2)
                writer.write(answer)
        finally:
            upstream_writer.transport.abort()

    async with listening(slowly) as port:
        state = await open_state(f"redis://127.0.0.1:{port}")
        began = time.monotonic()
        # Most need five replies each: a second, twenty times over, if nobody gave up.
        calls = (state.add("space", str(n), b"value") for n in range(20 * CONNECTIONS))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 10 * IN_TIME
        assert "did not answer in time" in " ".join(map(str, outcomes))
        assert all(outcome is True or isinstance(outcome, StateUnavailable) for outcome in outcomes)
        await state.close()


async def test_a_server_that_trickles_is_given_up() -> None:
    """Each byte comes in time, the answer does not."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"$")
            await asyncio.sleep(0.05)

    async with listening(trickle) as port:
        assert "did not answer in time" in await unavailable_in_time(open_state(f"redis://127.0.0.1:{port}"))


async def test_a_caller_that_leaves_does_not_count_as_a_failure(redis_server: RedisServer, redis_state: State) -> None:
    redis_server.freeze()
    for _ in range(3 * FAILURES):
        call = asyncio.create_task(redis_state.get("space", "key"))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    redis_server.thaw()
    assert await redis_state.get("space", "key") is None


async def test_cancelled_callers_leave_no_connections_behind(redis_server: RedisServer, redis_state: State) -> None:
    for round_ in range(40):
        calls = [asyncio.create_task(redis_state.get("space", str(n))) for n in range(2 * CONNECTIONS)]
        for _ in range(round_):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    await asyncio.gather(*(redis_state.count("space") for _ in range(2 * CONNECTIONS)))
    clients = await tell(redis_server, "CLIENT LIST")
    assert clients.count("name=") <= CONNECTIONS + 1  # one of them asks this question


# Work that goes on after it was cancelled, as redis-py's may for a while


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(RedisPlace("127.0.0.1", redis_server.port))
    yield link
    await link.close()


class Stubborn:
    """Work that goes on when it is cancelled, until it is told to end, and then fails."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.end = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, _: Redis) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.end.wait()
            raise ConnectionError from None
        finally:
            self.ended.set()


async def test_stubborn_work_is_not_waited_for(link: RedisLink) -> None:
    work = Stubborn()
    assert "did not answer in time" in await unavailable_in_time(link.call(work))
    await work.cancelled.wait()
    work.end.set()


async def test_while_stubborn_work_has_all_connections_calls_still_end_in_time(link: RedisLink) -> None:
    works = [Stubborn() for _ in range(CONNECTIONS)]
    await asyncio.gather(*(unavailable_in_time(link.call(work)) for work in works))
    assert "too many calls wait for it" in await unavailable_in_time(link.call(Stubborn()))
    for work in works:
        work.end.set()


async def test_stubborn_work_of_a_caller_who_left_is_cancelled_and_its_failure_noted(link: RedisLink) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    work = Stubborn()
    call = asyncio.create_task(link.call(work))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait({call})
    assert call.cancelled()
    await work.cancelled.wait()
    work.end.set()
    await work.ended.wait()
    await asyncio.sleep(0)
    del call
    gc.collect()
    assert complaints == []  # such as: an exception was never retrieved


# What the server may refuse


async def test_password() -> None:
    async with RedisServer(password="open-sesame") as server:
        state = await open_state(server.url)
        await state.put("space", "key", b"value")
        assert "sesame" not in state.place + repr(state)
        await state.close()
        for wrong in (server.url.replace("sesame", "simsim"), server.url.replace(":open-sesame@", "")):
            reason = await unavailable_in_time(open_state(wrong))
            assert "refuses the user name or password" in reason
            assert "simsim" not in reason


async def test_a_password_that_is_changed_under_way(redis_server: RedisServer, redis_state: State) -> None:
    await tell(redis_server, "CONFIG SET requirepass sesame", "CLIENT KILL TYPE normal SKIPME yes")
    for _ in range(2 * FAILURES):
        assert "refuses the user name or password, or wants" in await unavailable_in_time(redis_state.count("space"))
    await tell(redis_server, "AUTH sesame", 'CONFIG SET requirepass ""')
    assert await redis_state.count("space") == 0  # at once: the server was never out of order


async def test_a_user_with_too_few_rights(redis_server: RedisServer, redis_state: State) -> None:
    await tell(redis_server, "ACL SETUSER default -hset -evalsha")
    reason = await unavailable_in_time(redis_state.put("space", "key", b"value"))
    assert "allow this user @hash" in reason


async def test_a_user_with_just_the_rights_that_are_asked_for(redis_server: RedisServer) -> None:
    rights = "resetkeys ~herdgate:* -@all +@hash +@string +@scripting +time +@connection"
    await tell(redis_server, f"ACL SETUSER gateway on >sesame {rights}")
    state = await open_state(redis_server.url.replace("//", "//gateway:sesame@"))
    assert await state.put("space", "key", b"value")
    assert await state.add("space", "other", b"value")
    assert await state.put("space", "key", b"value", at=await state.version("space"))
    assert await state.delete("space", "other")
    assert await state.items("space") == {"key": b"value"}
    assert await state.count("space") == 1
    await state.close()


async def test_a_server_out_of_memory_still_answers_questions(redis_server: RedisServer, redis_state: State) -> None:
    await redis_state.put("space", "key", b"value")
    version = await redis_state.version("space")
    await tell(redis_server, "CONFIG SET maxmemory 1")
    for _ in range(2 * FAILURES):
        assert "out of memory: raise its maxmemory" in await unavailable_in_time(
            redis_state.put("space", "a", b"value")
        )
    assert await redis_state.get("space", "key") == b"value"
    assert await redis_state.version("space") == version


async def test_a_replica_is_not_written_to(redis_server: RedisServer, redis_state: State) -> None:
    await tell(redis_server, "REPLICAOF 127.0.0.1 1", "CONFIG SET replica-serve-stale-data yes")
    assert "read-only replica: name the primary" in await unavailable_in_time(redis_state.put("space", "key", b"value"))


async def test_keys_of_other_software_in_the_way(redis_server: RedisServer, redis_state: State) -> None:
    await tell(redis_server, "SET herdgate:entries:space text")
    for call in (redis_state.put("space", "key", b"value"), redis_state.items("space")):
        assert "other software uses keys" in await unavailable_in_time(call)


async def test_data_of_a_newer_herdgate_is_refused(redis_server: RedisServer, redis_state: State) -> None:
    await redis_state.put("space", "key", b"value")
    await (await open_state(redis_server.url)).close()
    await tell(redis_server, "SET herdgate:schema 2")
    assert "another schema than 1" in await unavailable_in_time(open_state(redis_server.url))


async def test_everything_is_kept_below_one_prefix(redis_server: RedisServer, redis_state: State) -> None:
    await redis_state.put("space", "key", b"value")
    keys = [line for line in (await tell(redis_server, "KEYS *")).splitlines() if line[0] not in "*$+"]
    assert sorted(keys) == ["herdgate:entries:space", "herdgate:schema", "herdgate:version:space"]


async def test_databases_are_apart(redis_server: RedisServer, redis_state: State) -> None:
    other = await open_state(redis_server.url.removesuffix("0") + "1")
    await redis_state.put("space", "key", b"value")
    assert await other.get("space", "key") is None
    await other.close()
    assert "no database of that number" in await unavailable_in_time(open_state(redis_server.url + "999"))


async def test_nobody_there(redis_server: RedisServer) -> None:
    await redis_server.kill()
    assert "refuses connections" in await unavailable_in_time(open_state(redis_server.url))
    assert "host name is not known" in await unavailable_in_time(open_state("redis://nobody.invalid"))


async def test_something_that_is_no_redis() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with listening(web) as port:
        await unavailable_in_time(open_state(f"redis://127.0.0.1:{port}"))


# TLS


@pytest.fixture
async def tls_port(redis_server: RedisServer, authority: trustme.CA) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with listening(relay_to(redis_server.port), context) as port:
        yield port


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


async def test_tls_with_a_private_authority(tls_port: int, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    state = await open_state(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={tmp_path}/ca.pem")
    assert await state.add("space", "key", b"value")
    assert state.place == f"rediss://127.0.0.1:{tls_port}/0"
    await state.close()


async def test_tls_with_an_unknown_authority(tls_port: int) -> None:
    reason = await unavailable_in_time(open_state(f"rediss://127.0.0.1:{tls_port}"))
    assert "certificate is not trusted" in reason
    assert "?ssl_ca_certs=FILE" in reason


async def test_tls_with_a_file_that_is_not_there(tls_port: int) -> None:
    reason = await unavailable_in_time(open_state(f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs=/nowhere/ca.pem"))
    assert "certificate file named in its URL cannot be read" in reason


async def test_tls_on_one_side_only(tls_port: int, redis_server: RedisServer) -> None:
    reason = await unavailable_in_time(open_state(f"redis://127.0.0.1:{tls_port}"))
    assert "rediss:// is with TLS, redis:// without" in reason
    await unavailable_in_time(open_state(redis_server.url.replace("redis:", "rediss:")))  # it waits for a whole line
