"""Bytes from a backend to a caller: a real backend, a real connection to it, a caller that writes down what it gets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from herdgate.access import Credentials
from herdgate.backend import BackendSettings
from herdgate.errors import in_band
from herdgate.exchange import Head, UpstreamRequest
from herdgate.failure import Failure, Kind, Phase
from herdgate.faults import Ledger
from herdgate.filters import Filters
from herdgate.hooks import StreamFilter
from herdgate.opening import Framing
from herdgate.relay import BROKE, FILTER_FAILED, INCOMPLETE, TAIL, Relay, Tail, reply_headers
from herdgate.surface import Endpoint, find
from herdgate.testing.faults import Cut, EndWithoutDone, ErrorEvent, Events, Hang, RawReply, Slice
from herdgate.testing.gateway import until
from herdgate.testing.simulated import SimulatedOllama
from herdgate.upstream.client import Upstream, UpstreamReply
from herdgate.upstream.transport import UpstreamTransport


class Caller:
    """A Responder that writes down what is sent to it."""

    credentials = Credentials()
    headers: Mapping[str, str] = MappingProxyType({})
    query = ""
    length = 0

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended = False
        self.was_cut = False
        self.pause = 0.0
        self.flow: tuple[Callable[[], None] | None, Callable[[], None] | None] = (None, None)

    def body_at_hand(self, limit: int) -> bytes | None:
        return b""

    async def body(self, limit: int) -> bytes:
        return b""

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b""

    def hold(self, size: int) -> None:
        raise AssertionError("a relay holds no request body")

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        raise AssertionError("a relay has no complete reply")

    def begin(self, status: int, headers: Mapping[str, str], first: bytes) -> None:
        self.got += first

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(self.pause)
        self.got += data

    def delivery_of_chunks(self) -> None:
        """It is sent no chunks."""

    def push(self, data: bytes) -> None:
        self.got += data

    def watch_flow(self, on_full: Callable[[], None] | None, on_ready: Callable[[], None] | None) -> None:
        self.flow = (on_full, on_ready)

    async def end(self, last: bytes = b"") -> None:
        self.got += last
        self.ended = True

    def cut(self) -> None:
        self.was_cut = True


class Ends:
    """A body of which only the last bytes are still to come."""

    def __init__(self, last: bytes) -> None:
        self._last = last

    def set_idle_timeout(self, seconds: float) -> None:
        """Any will do."""

    pause = resume = set_idle_timeout

    async def relay(self, *_: object) -> bytes:
        return self._last


class Same:
    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class Upper(Same):
    def feed(self, data: bytes) -> bytes:
        return data.upper()


class Fails(Same):
    def feed(self, data: bytes) -> bytes:
        if b'"done":true' in data:
            raise ValueError("too good")
        return data


NDJSON = ("/api/chat", Framing.NDJSON)
SSE = ("/v1/chat/completions", Framing.SSE)
WHOLE = ("/api/embed", Framing.WHOLE)
WAYS = [pytest.param(None, id="pushed"), pytest.param(Same, id="filtered")]


def endpoint_of(path: str) -> Endpoint:
    endpoint = find(path)
    assert endpoint is not None
    return endpoint


@pytest.fixture
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama() as backend:
        yield backend


@pytest.fixture
def caller() -> Caller:
    return Caller()


@asynccontextmanager
async def reply_of(backend: SimulatedOllama, path: str) -> AsyncIterator[UpstreamReply]:
    """What the backend answers to one streaming request."""
    upstream = Upstream(BackendSettings(name="a", base_url=backend.url), UpstreamTransport())
    asked = {"model": "llama3.2", "stream": True, "input": "hi", "messages": [{"role": "user", "content": "hi"}]}
    request = UpstreamRequest("POST", path, (("content-type", "application/json"),), json.dumps(asked).encode())
    response = await upstream.send(request)
    try:
        yield response
    finally:
        await response.aclose()
        await upstream.aclose()


async def relayed(
    backend: SimulatedOllama,
    caller: Caller,
    route: tuple[str, Framing],
    kind: Callable[[], StreamFilter] | None = None,
    idle_timeout: float = 5.0,
) -> tuple[Relay, Failure | None]:
    """Relay one reply from its first bytes to its end."""
    path, framing = route
    filters = Filters([("filter", kind())], Ledger()) if kind else None
    relay = Relay(endpoint_of(path), framing, caller, filters)
    async with reply_of(backend, path) as body:
        first = relay.take(await body.more())
        relay.begin(200, {}, first)
        return relay, await relay.run(body, idle_timeout)


@pytest.mark.parametrize(
    "route",
    [NDJSON, SSE, WHOLE, (SSE[0], Framing.WHOLE)],
    ids=["lines", "events", "whole", "whole where events are usual"],
)
@pytest.mark.parametrize("kind", WAYS)
async def test_a_reply_goes_out_byte_for_byte_and_ends_cleanly(
    backend: SimulatedOllama, caller: Caller, route: tuple[str, Framing], kind: Callable[[], StreamFilter] | None
) -> None:
    events: tuple[bytes, ...] = (b"data: one\n\n", b"\x00\xff", b'data: {"x":"\xe2\x80\xa8"}\n\n')
    if route[1] is not Framing.WHOLE:
        events += (b"data: [DONE]\n\n",)
    backend.script(route[0], (Events(events), Slice(7)))
    relay, failure = await relayed(backend, caller, route, kind)
    assert failure is None
    assert caller.got == b"".join(events)
    assert caller.ended
    assert not caller.was_cut
    assert relay.tail.sent == len(caller.got)


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize("within", ["boundary", "event", "chunk"])
@pytest.mark.parametrize("route", [NDJSON, SSE], ids=lambda route: route[1].value)
async def test_a_stream_that_breaks_ends_with_an_error_of_its_family(
    backend: SimulatedOllama,
    caller: Caller,
    route: tuple[str, Framing],
    within: str,
    kind: Callable[[], StreamFilter] | None,
) -> None:
    backend.script(route[0], Cut(after=2, within=within))  # type: ignore[arg-type]
    _, failure = await relayed(backend, caller, route, kind)
    assert failure is not None
    assert (failure.kind, failure.phase) == (Kind.BROKEN, Phase.STREAM)
    error = in_band(endpoint_of(route[0]), BROKE)
    assert caller.got.endswith(b"\n" + error)
    assert caller.ended


async def test_a_last_line_that_is_no_last_line_is_none_when_the_connection_breaks(
    backend: SimulatedOllama, caller: Caller
) -> None:
    for line in (b"[" * 30_000 + b"\n", b'{"done":"no"}\n'):
        backend.script("/api/chat", (Events((b'{"done":false}\n', line, b'{"done":true}\n')), Cut(2)))
        _, failure = await relayed(backend, caller, NDJSON)
        assert failure is not None
        assert (failure.kind, failure.phase) == (Kind.BROKEN, Phase.STREAM)
        assert caller.got.endswith(line + in_band(endpoint_of("/api/chat"), BROKE))


@pytest.mark.parametrize("kind", WAYS)
async def test_a_reply_without_events_is_cut_when_it_breaks(
    backend: SimulatedOllama, caller: Caller, kind: Callable[[], StreamFilter] | None
) -> None:
    backend.script("/api/embed", (Events((b'{"embeddings":', b"[[1,2]]}")), Cut(after=1)))
    _, failure = await relayed(backend, caller, WHOLE, kind)
    assert failure is not None
    assert failure.kind is Kind.BROKEN
    assert (caller.was_cut, caller.ended, bytes(caller.got)) == (True, False, b'{"embeddings":')


async def test_what_came_with_the_end_of_a_reply_goes_out_with_the_end(caller: Caller) -> None:
    """An event stream's end is checked in between."""
    for last, ending in ((b"data: [DONE]\n\n", b""), (b"data: {}\n\n", in_band(endpoint_of(SSE[0]), INCOMPLETE))):
        caller.got, caller.ended = bytearray(), False
        relay = Relay(endpoint_of(SSE[0]), Framing.SSE, caller, None)
        relay.begin(200, {}, b"data: {}\n\n")
        failure = await relay.run(cast(Any, SimpleNamespace(pushing=Ends(last))), 1.0)
        assert (failure is None) == (ending == b"")
        assert caller.got == b"data: {}\n\n" + last + ending
        assert relay.tail.sent == len(caller.got)
        assert caller.ended


async def test_what_came_with_the_end_counts_for_the_limit(caller: Caller) -> None:
    relay = Relay(endpoint_of(SSE[0]), Framing.SSE, caller, None, limit=20)
    relay.begin(200, {}, b"data: {}\n\n")
    failure = await relay.run(cast(Any, SimpleNamespace(pushing=Ends(b"data: [DONE]\n\n"))), 1.0)
    assert failure is not None
    assert failure.detail == "the stream is longer than 20 bytes"
    assert b"DONE" not in caller.got


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize(
    "fault",
    [EndWithoutDone(after=2), ErrorEvent(after=2), Events((b'data: {"text":"data: [DONE]"}\n\n', b"data: {}\n\n"))],
    ids=["no end", "swallowed error", "the words of the end inside a text"],
)
async def test_an_event_stream_without_its_terminal_event_gets_the_error(
    backend: SimulatedOllama, caller: Caller, fault: Events, kind: Callable[[], StreamFilter] | None
) -> None:
    backend.script("/v1/chat/completions", fault)
    _, failure = await relayed(backend, caller, SSE, kind)
    assert failure is not None
    assert (failure.kind, failure.phase) == (Kind.BROKEN, Phase.STREAM)
    assert caller.got.endswith(b"\n\n" + in_band(endpoint_of(SSE[0]), INCOMPLETE))


@pytest.mark.parametrize("kind", WAYS)
async def test_lines_that_end_cleanly_without_done_pass_as_they_are(
    backend: SimulatedOllama, caller: Caller, kind: Callable[[], StreamFilter] | None
) -> None:
    backend.script("/api/chat", EndWithoutDone(after=2))
    _, failure = await relayed(backend, caller, NDJSON, kind)
    assert failure is None
    assert b"error" not in caller.got
    assert caller.ended


LINES = b'{"done":false}\n' * 200
UNFRAMED = b"HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize("rest", [b'{"done":fal', b"{", b'{"done":true'])
async def test_lines_that_end_inside_of_one_get_the_error(
    backend: SimulatedOllama, caller: Caller, rest: bytes, kind: Callable[[], StreamFilter] | None
) -> None:
    backend.script("/api/chat", Events((LINES, rest)))
    _, failure = await relayed(backend, caller, NDJSON, kind)
    assert failure is not None
    assert (failure.kind, failure.phase) == (Kind.BROKEN, Phase.STREAM)
    assert caller.got == LINES + rest + b"\n" + in_band(endpoint_of("/api/chat"), INCOMPLETE)
    assert caller.ended


@pytest.mark.parametrize("kind", [*WAYS, pytest.param(Upper, id="changed")])
@pytest.mark.parametrize(
    ("rest", "whole"),
    [
        (b'{"done":true}\n', True),
        (b'{"done":true}', True),
        (b'{"error":"memory"}\n', True),
        (b"", False),
        (b"{", False),
    ],
)
async def test_lines_whose_end_is_that_of_the_connection_need_the_last_one(
    backend: SimulatedOllama, caller: Caller, rest: bytes, whole: bool, kind: Callable[[], StreamFilter] | None
) -> None:
    backend.script("/api/chat", RawReply(UNFRAMED + LINES + rest))
    _, failure = await relayed(backend, caller, NDJSON, kind)
    assert (failure is None) == whole
    assert caller.got.endswith(in_band(endpoint_of("/api/chat"), INCOMPLETE)) != whole
    assert caller.ended


@pytest.mark.parametrize("kind", WAYS)
async def test_a_backend_that_falls_silent_has_broken_its_reply(
    backend: SimulatedOllama, caller: Caller, kind: Callable[[], StreamFilter] | None
) -> None:
    backend.behaviour.pace = 0.02  # so that some of it comes while the relay runs
    backend.script("/api/chat", Hang(after=4))
    _, failure = await relayed(backend, caller, NDJSON, kind, idle_timeout=0.2)
    assert failure is not None
    assert (failure.kind, failure.phase) == (Kind.TIMEOUT, Phase.STREAM)
    assert caller.got.endswith(in_band(endpoint_of("/api/chat"), BROKE))
    await backend.wait_for(lambda backend: backend.requests[-1].left_at is not None)


async def test_a_slow_caller_is_not_the_backends_silence(backend: SimulatedOllama, caller: Caller) -> None:
    backend.behaviour.pace = 0.01
    caller.pause = 0.2
    _, failure = await relayed(backend, caller, NDJSON, Same, idle_timeout=0.15)
    assert failure is None


async def test_a_caller_that_does_not_read_stops_the_reading_from_the_backend(
    backend: SimulatedOllama, caller: Caller
) -> None:
    backend.script("/api/chat", Events((b"{}\n", *(b"x" * 65_536 + b"\n" for _ in range(400)))))
    task = asyncio.create_task(relayed(backend, caller, NDJSON))
    await until(lambda: caller.flow[0] is not None)
    full, ready = caller.flow
    assert full is not None
    assert ready is not None
    full()
    held = len(caller.got)
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    assert len(caller.got) == held
    ready()
    _, failure = await task
    assert failure is None
    assert len(caller.got) == 3 + 400 * 65_537
    assert caller.flow == (None, None)


@pytest.mark.parametrize("kind", WAYS)
async def test_a_caller_that_leaves_takes_the_upstream_request_along(
    backend: SimulatedOllama, caller: Caller, kind: Callable[[], StreamFilter] | None
) -> None:
    backend.script("/api/chat", Hang(after=2))
    task = asyncio.create_task(relayed(backend, caller, NDJSON, kind))
    await backend.wait_for(lambda backend: bool(backend.requests) and backend.requests[-1].events_sent == 2)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await backend.wait_for(lambda backend: backend.requests[-1].left_at is not None)
    assert not caller.ended


# filters


async def test_an_events_stream_is_complete_whatever_a_filter_makes_of_it(
    backend: SimulatedOllama, caller: Caller
) -> None:
    backend.script(SSE[0], Events((b"data: one\n\n", b"data: [DONE]\n\n")))
    _, failure = await relayed(backend, caller, SSE, Upper)
    assert failure is None
    assert caller.got == b"DATA: ONE\n\nDATA: [DONE]\n\n"


async def test_a_filter_that_fails_ends_the_stream_with_an_error(backend: SimulatedOllama, caller: Caller) -> None:
    backend.behaviour.pace = 0.01
    _, failure = await relayed(backend, caller, NDJSON, Fails)
    assert failure is not None
    assert (failure.kind, failure.phase) == (Kind.PLUGIN, Phase.STREAM)
    assert "plugin filter failed in filter_stream: ValueError: too good" in failure.detail
    assert caller.got.endswith(b"\n" + in_band(endpoint_of("/api/chat"), FILTER_FAILED))
    assert b'"done":true' not in caller.got


# what is kept and what is shown


@pytest.mark.parametrize("size", [1, 100, TAIL - 1, TAIL, TAIL + 1, 3 * TAIL])
def test_the_last_bytes_are_kept_and_not_much_more(size: int) -> None:
    tail, sent = Tail(), b""
    for number in range(2 + 4 * TAIL // size):
        piece = bytes([number % 251]) * size
        tail.add(piece)
        sent += piece
    kept = bytes(tail)
    assert sent.endswith(kept)
    assert TAIL <= len(kept) < TAIL + size
    assert tail.sent == len(sent)


def test_a_short_reply_is_kept_whole() -> None:
    tail = Tail()
    assert bytes(tail) == b""
    tail.add(b"")
    tail.add(b"ab")
    tail.add(b"c")
    assert (bytes(tail), tail.sent) == (b"abc", 3)


HEADERS = {
    "content-type": "application/x-ndjson",
    "content-encoding": "gzip",
    "content-length": "7",
    "server": "gpu1",
    "set-cookie": "a=b",
    "access-control-allow-origin": "*",
    "date": "today",
    "transfer-encoding": "chunked",
}


def test_a_stream_shows_its_type_and_asks_proxies_not_to_collect_it() -> None:
    assert reply_headers(Head(200, HEADERS), Framing.NDJSON) == {
        "content-type": "application/x-ndjson",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }


def test_another_reply_shows_its_type_alone() -> None:
    assert reply_headers(Head(200, HEADERS), Framing.WHOLE) == {
        "content-type": "application/x-ndjson",
    }
    assert reply_headers(Head(200, {}), Framing.WHOLE) == {}
