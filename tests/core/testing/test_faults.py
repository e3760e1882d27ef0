"""Every fault, as it looks on the wire."""

import asyncio
import json
from typing import Any

import pytest

from herdgate.testing.faults import (
    CloseBeforeHeaders,
    Cut,
    Delay,
    EarlyReply,
    EmptyOk,
    EndlessLine,
    EndWithoutDone,
    ErrorEvent,
    Events,
    Fault,
    FirstEvent,
    Garbage,
    Hang,
    HugeHeaders,
    Normal,
    RawReply,
    ResetBeforeHeaders,
    ResetOnAccept,
    Slice,
    Slow,
    Status,
    WrongLength,
)
from herdgate.testing.simulated import SimulatedOllama

END = b"0\r\n\r\n"


def unchunk(body: bytes) -> tuple[list[bytes], bytes]:
    """The complete chunks of a body, and what is left behind them; the terminator is an empty chunk."""
    chunks = []
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        if len(rest) < count + 2:
            break
        chunks.append(rest[:count])
        body = rest[count + 2 :]
    return chunks, body


class Meeting:
    """One request that meets a script, and what came back."""

    def __init__(self, sim: SimulatedOllama, dial: Any) -> None:
        self.sim = sim
        self.dial = dial

    async def __call__(
        self, path: str, fields: object, *faults: Fault, patience: float = 5
    ) -> tuple[bytes, bytes, str]:
        self.sim.script(path, faults)
        wire = await self.dial(self.sim)
        await wire.ask(path, fields, headers="Connection: close\r\n")
        data, ending = await wire.rest(patience)
        head, _, body = data.partition(b"\r\n\r\n")
        return head, body, ending


@pytest.fixture
def meet(sim: SimulatedOllama, dial: Any) -> Meeting:
    return Meeting(sim, dial)


async def test_normal_is_normal(sim: SimulatedOllama, meet: Any, chat: Any) -> None:
    _, body, _ = await meet("/api/chat", chat, Normal())
    chunks, rest = unchunk(body)
    assert (len(chunks), chunks[-1], rest) == (11, b"", b"")
    assert sim.requests[0].outcome == "complete"


async def test_reset_on_accept(sim: SimulatedOllama, dial: Any) -> None:
    sim.script("/api/chat", ResetOnAccept())
    wire = await dial(sim)
    assert await wire.rest() == (b"", "reset")
    assert (sim.requests, sim.connections) == ([], 1)
    wire = await dial(sim)
    await wire.ask("/api/version", method="GET")
    assert b"200 OK" in (await wire.reply())[0]


@pytest.mark.parametrize(("fault", "end"), [(ResetBeforeHeaders(), "reset"), (CloseBeforeHeaders(), "eof")])
async def test_nothing_comes_back(sim: SimulatedOllama, meet: Any, chat: Any, fault: Fault, end: str) -> None:
    assert await meet("/api/chat", chat, fault) == (b"", b"", end)
    assert sim.requests[0].json == chat
    assert sim.requests[0].outcome == "faulted"


@pytest.mark.parametrize("stream", [True, False])
async def test_hang_before_the_headers(meet: Any, chat: Any, stream: bool) -> None:
    assert await meet("/api/chat", {**chat, "stream": stream}, Hang(), patience=0.05) == (b"", b"", "open")


async def test_hang_after_the_headers(meet: Any, chat: Any) -> None:
    head, body, ending = await meet("/api/chat", chat, Hang(after="headers"), patience=0.05)
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n")
    assert (body, ending) == (b"", "open")


async def test_hang_in_mid_stream_until_told_to_go_on(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    go_on = asyncio.Event()
    sim.script("/api/chat", Hang(after=3, until=go_on))
    wire = await dial(sim)
    await wire.ask("/api/chat", chat)
    await sim.wait_for(lambda sim: sim.requests[0].events_sent == 3 if sim.requests else False)
    before = await wire.rest(patience=0.05)
    assert before[0].count(b'"done":false') == 3
    assert before[1] == "open"
    go_on.set()
    assert b'"done":true' in await wire.until(END)
    assert sim.requests[0].outcome == "complete"


@pytest.mark.parametrize("fault", [Delay(0.2), Slow(0.02)])
async def test_nothing_but_time(sim: SimulatedOllama, meet: Any, chat: Any, fault: Fault) -> None:
    started = asyncio.get_running_loop().time()
    _, body, _ = await meet("/api/chat", chat, fault)
    assert asyncio.get_running_loop().time() - started >= 0.2
    assert len(unchunk(body)[0]) == 11
    assert sim.requests[0].outcome == "complete"


async def test_a_delay_holds_the_headers_back(meet: Any, chat: Any) -> None:
    assert await meet("/api/chat", chat, Delay(60), patience=0.05) == (b"", b"", "open")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/chat", {"error": "busy"}),
        (
            "/v1/chat/completions",
            {"error": {"message": "busy", "type": "api_error", "param": None, "code": None}},
        ),
        (
            "/v1/messages",
            {
                "type": "error",
                "error": {"type": "overloaded_error", "message": "busy"},
                "request_id": "req_" + "0" * 24,
            },
        ),
    ],
)
async def test_a_status_in_the_shape_of_the_path(meet: Any, chat: Any, path: str, expected: object) -> None:
    head, body, _ = await meet(path, chat, Status(503, "busy", headers=(("Retry-After", "7"),)))
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 7\r\n" in head
    assert json.loads(body) == expected


async def test_a_status_nobody_knows(meet: Any, chat: Any) -> None:
    head, body, _ = await meet("/api/chat", chat, Status(529, b""))
    assert head.startswith(b"HTTP/1.1 529 status code 529\r\n")
    assert body == b""


async def test_a_status_with_a_body_of_any_kind(meet: Any, chat: Any) -> None:
    head, body, _ = await meet("/api/chat", chat, Status(502, b"<h1>Bad gateway</h1>", "text/html"))
    assert b"Content-Type: text/html\r\n" in head
    assert body == b"<h1>Bad gateway</h1>"


async def test_an_early_reply_leaves_the_body_unread(sim: SimulatedOllama, dial: Any) -> None:
    sim.script("/api/chat", EarlyReply(400, "no"))
    wire = await dial(sim)
    await wire.send(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
    data, ending = await wire.rest()
    assert data.endswith(b'{"error":"no"}')
    assert ending == "eof"
    assert sim.requests[0].body == b""


@pytest.mark.parametrize(("stream", "framing"), [(True, b"Transfer-Encoding: chunked"), (False, b"Content-Length: 0")])
async def test_an_empty_success(meet: Any, chat: Any, stream: bool, framing: bytes) -> None:
    head, body, ending = await meet("/api/chat", {**chat, "stream": stream}, EmptyOk())
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert framing in head
    assert (body, ending) == (END if stream else b"", "eof")


async def test_the_first_event_and_all_events_can_be_anything(meet: Any, chat: Any) -> None:
    _, body, _ = await meet("/api/chat", chat, FirstEvent(b"{broken\n"))
    chunks, _ = unchunk(body)
    assert (len(chunks), chunks[0]) == (11, b"{broken\n")
    _, body, _ = await meet("/api/chat", chat, Events((b"a\x85\n", b"\n")))
    assert unchunk(body) == ([b"a\x85\n", b"\n", b""], b"")


async def test_a_late_error_on_native_paths(sim: SimulatedOllama, meet: Any, chat: Any) -> None:
    _, body, ending = await meet("/api/chat", chat, ErrorEvent(2, "out of memory"))
    chunks, _ = unchunk(body)
    assert [json.loads(chunk) for chunk in chunks[2:-1]] == [{"error": "out of memory"}]
    assert (len(chunks), chunks[-1], ending) == (4, b"", "eof")
    assert sim.requests[0].outcome == "faulted"


@pytest.mark.parametrize(
    ("path", "last"), [("/v1/chat/completions", b'"delta":{"content":""}'), ("/v1/completions", b'"text":""')]
)
async def test_a_late_error_vanishes_in_sse(meet: Any, chat: Any, path: str, last: bytes) -> None:
    _, body, _ = await meet(path, {**chat, "prompt": "hi", "stream": True}, ErrorEvent(2))
    chunks, _ = unchunk(body)
    assert len(chunks) == 4
    assert b'"model":""' in chunks[2]
    assert last in chunks[2]
    assert b"[DONE]" not in body


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_late_error_of_the_newer_paths_is_a_mere_end(meet: Any, chat: Any, path: str) -> None:
    _, body, _ = await meet(path, {**chat, "max_tokens": 1, "input": "hi", "stream": True}, ErrorEvent(2))
    chunks, _ = unchunk(body)
    assert len(chunks) == 3
    assert b"error" not in body.replace(b'"error":null', b"")


async def test_a_late_error_without_a_stream_is_a_500(meet: Any, chat: Any) -> None:
    head, body, _ = await meet("/api/chat", {**chat, "stream": False}, ErrorEvent(2, "out of memory"))
    assert head.startswith(b"HTTP/1.1 500 ")
    assert json.loads(body) == {"error": "out of memory"}


@pytest.mark.parametrize(("how", "end"), [("close", "eof"), ("reset", "reset")])
async def test_a_cut_between_events(sim: SimulatedOllama, meet: Any, chat: Any, how: Any, end: str) -> None:
    _, body, ending = await meet("/api/chat", chat, Cut(after=2, how=how))
    chunks, rest = unchunk(body)
    assert (len(chunks), rest, ending) == (2, b"", end)
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    assert (sim.requests[0].events_sent, sim.requests[0].outcome) == (2, "faulted")


async def test_a_cut_within_an_event_but_at_the_end_of_a_chunk(meet: Any, chat: Any) -> None:
    _, body, ending = await meet("/api/chat", chat, Cut(after=2, within="event"))
    chunks, rest = unchunk(body)
    assert (len(chunks), rest, ending) == (3, b"", "eof")
    assert chunks[2].startswith(b'{"model"')
    assert not chunks[2].endswith(b"\n")


async def test_a_cut_within_a_chunk(meet: Any, chat: Any) -> None:
    _, body, _ = await meet("/api/chat", chat, Cut(after=2, within="chunk"))
    chunks, rest = unchunk(body)
    size, _, data = rest.partition(b"\r\n")
    assert len(chunks) == 2
    assert 0 < len(data) < int(size, 16)


async def test_a_cut_after_the_headers_and_one_after_everything_but_the_terminator(meet: Any, chat: Any) -> None:
    head, body, ending = await meet("/api/chat", chat, Cut(after="headers"))
    assert head.startswith(b"HTTP/1.1 200")
    assert (body, ending) == (b"", "eof")
    _, body, _ = await meet("/api/chat", chat, Cut(after=1000))
    chunks, _ = unchunk(body)
    assert json.loads(chunks[-1])["done"] is True


async def test_a_cut_reply_that_is_no_stream_is_shorter_than_it_said(meet: Any, chat: Any) -> None:
    head, body, _ = await meet("/api/chat", {**chat, "stream": False}, Cut(after=0, within="chunk"))
    length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split()[1])
    assert 0 < len(body) < length


@pytest.mark.parametrize("mid_event", [False, True])
async def test_an_end_without_done_is_a_proper_end_of_the_body(meet: Any, chat: Any, mid_event: bool) -> None:
    _, body, ending = await meet("/api/chat", chat, EndWithoutDone(after=2, mid_event=mid_event))
    chunks, rest = unchunk(body)
    assert (len(chunks), chunks[-1], rest, ending) == (4 if mid_event else 3, b"", b"", "eof")
    assert b'"done":true' not in body


async def test_half_a_reply_under_a_fitting_length(meet: Any, chat: Any) -> None:
    head, body, _ = await meet("/api/chat", {**chat, "stream": False}, EndWithoutDone(after=0, mid_event=True))
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert body


@pytest.mark.parametrize("fault", [Slice(1), Slice(7), Slice(50, seed=1), Slice(50, seed=2)])
async def test_slices_never_end_where_an_event_ends(sim: SimulatedOllama, meet: Any, chat: Any, fault: Slice) -> None:
    _, whole, _ = await meet("/api/chat", chat)
    _, sliced, _ = await meet("/api/chat", chat, fault)
    pieces, _ = unchunk(sliced)
    assert json.loads(b"".join(pieces).splitlines()[-1])["done"] is True
    assert len(b"".join(pieces).splitlines()) == len(b"".join(unchunk(whole)[0]).splitlines())
    assert all(0 < len(piece) <= fault.size for piece in pieces[:-1])
    assert not any(piece.endswith(b"\n") for piece in pieces[:-2] if fault.size > 1)
    assert sim.requests[1].outcome == "complete"
    assert sim.requests[1].events_sent == 10


async def test_what_is_random_is_the_same_every_time(meet: Any, chat: Any) -> None:
    sizes = []
    for seed in (1, 1, 2):
        _, body, _ = await meet("/api/chat", chat, Events((b"x" * 2000,)), Slice(50, seed=seed))
        sizes.append([len(piece) for piece in unchunk(body)[0]])
    assert sizes[0] == sizes[1] != sizes[2]
    first, second, other = [await meet("/api/chat", chat, Garbage(seed=seed)) for seed in (1, 1, 2)]
    assert first == second != other


async def test_garbage_and_raw_bytes(sim: SimulatedOllama, meet: Any, chat: Any, dial: Any) -> None:
    head, body, ending = await meet("/api/chat", chat, Garbage(size=100))
    assert not (head + body).startswith(b"HTTP")
    assert ending == "eof"
    assert await meet("/api/chat", chat, RawReply(b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n")) == (
        b"HTTP/1.1 200 OK\r\nX: \x00",
        b"",
        "eof",
    )
    assert await meet("/api/chat", chat, RawReply(b"", then="reset")) == (b"", b"", "reset")
    sim.script("/api/chat", RawReply(b"HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n", then="keep"))
    wire = await dial(sim)
    await wire.ask("/api/chat", chat)
    assert (await wire.reply())[0].startswith(b"HTTP/1.1 299 Fine")
    await wire.ask("/api/version", method="GET")
    assert (await wire.reply())[0].startswith(b"HTTP/1.1 200")


async def test_huge_headers(meet: Any, chat: Any) -> None:
    head, body, _ = await meet("/api/chat", chat, HugeHeaders(size=100_000))
    assert len(head) > 100_000
    assert len(unchunk(body)[0]) == 11


async def test_a_line_without_end_runs_as_long_as_the_client_stays(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    for stream in (True, False):
        sim.script("/api/chat", EndlessLine())
        wire = await dial(sim)
        await wire.ask("/api/chat", {**chat, "stream": stream})
        assert b"Transfer-Encoding: chunked" in await wire.until(b"\r\n\r\n")
        async with asyncio.timeout(5):
            data = await wire.reader.readexactly(5_000_000)
        assert b"\n" not in data.replace(b"\r\n", b"")
        await wire.close()
    await sim.wait_for(lambda sim: [request.outcome for request in sim.requests] == ["client_left"] * 2)


async def test_wrong_lengths(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    for by, stream in ((5, True), (5, False), (-5, True), (-5, False)):
        sim.script("/api/chat", WrongLength(by))
        wire = await dial(sim)
        await wire.ask("/api/chat", {**chat, "stream": stream})
        data, ending = await wire.rest(patience=0.1)
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % (len(body) + by) in head.split(b"\r\n")
        assert ending == ("eof" if by > 0 else "open")


async def test_faults_together_bend_one_reply(sim: SimulatedOllama, meet: Any, chat: Any) -> None:
    _, body, ending = await meet("/api/chat", chat, FirstEvent(b"x" * 20 + b"\n"), Cut(after=2, how="reset"), Slice(9))
    pieces, _ = unchunk(body)
    assert b"".join(pieces).startswith(b"x" * 20 + b"\n{")
    assert b"".join(pieces).count(b"\n") == 2
    assert ending == "reset"
    assert sim.requests[0].outcome == "faulted"
