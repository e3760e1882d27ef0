"""The simulated backend as a server: its life, what it remembers, how it sees clients leave."""

import asyncio
import json
import socket
import ssl
from typing import Any

import httpx
import pytest
import trustme

from herdgate.testing.faults import Cut, Hang, Slow, Status
from herdgate.testing.simulated import Port, SimulatedOllama


async def test_it_answers_and_says_who_it_is(sim: SimulatedOllama, chat: Any) -> None:
    async with httpx.AsyncClient(base_url=sim.url) as client:
        reply = await client.post("/api/chat", json={**chat, "stream": False})
    assert reply.json()["message"]["content"] == "Hello from simulated backend gpu-1. You said: hi there"


async def test_a_request_is_recorded_as_it_came(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    wire = await dial(sim)
    await wire.ask("/api/chat?q", chat, headers="X-One: a\r\nx-one: b\r\n")
    await wire.reply()
    (request,) = sim.requests
    assert (request.method, request.path, request.model, request.outcome) == (
        "POST",
        "/api/chat",
        "llama3.2",
        "complete",
    )
    assert request.headers == [("Host", "localhost"), ("Content-Length", "76"), ("X-One", "a"), ("x-one", "b")]
    assert request.values("X-ONE") == ("a", "b")
    assert request.json == chat
    assert request.events_sent == 10
    assert request.ended_at is not None
    assert request.arrived <= request.ended_at
    assert request.left_at is None


async def test_a_connection_is_kept_and_numbered(sim: SimulatedOllama, dial: Any) -> None:
    first, second = await dial(sim), await dial(sim)
    for wire in (first, second, first):
        await wire.ask("/api/version", method="GET")
        await wire.reply()
    assert [request.connection for request in sim.requests] == [1, 2, 1]
    assert (sim.connections, sim.open_connections) == (2, 2)
    await first.close()
    await sim.wait_for(lambda sim: sim.open_connections == 1)


async def test_requests_sent_at_once_are_answered_in_order(sim: SimulatedOllama, dial: Any) -> None:
    wire = await dial(sim)
    get = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    await wire.send(
        get % b"/api/version" + get % b"/" + b"GET /api/ps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    data, ending = await wire.rest()
    assert ending == "eof"
    assert data.index(b"0.32.15") < data.index(b"Ollama is running") < data.index(b'"models":[]')


async def test_a_client_of_http_1_0_gets_no_chunks(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    wire = await dial(sim)
    body = json.dumps(chat).encode()
    await wire.send(b"POST /api/chat HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    data, ending = await wire.rest()
    head, _, lines = data.partition(b"\r\n\r\n")
    assert ending == "eof"
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"chunked" not in head
    assert json.loads(lines.splitlines()[-1])["done"] is True


async def test_a_body_in_chunks_and_one_that_waits_for_leave(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    wire = await dial(sim)
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    await wire.send(head)
    assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    for piece in (json.dumps(chat).encode()[:7], json.dumps(chat).encode()[7:]):
        await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    await wire.send(b"0\r\n\r\n")
    await wire.reply()
    assert sim.requests[0].json == chat


async def test_malformed_requests_are_refused_and_remembered(sim: SimulatedOllama, dial: Any) -> None:
    wire = await dial(sim)
    await wire.send(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length : 3\r\n\r\nabc")
    data, ending = await wire.rest()
    assert data.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert ending == "eof"
    assert sim.malformed == ["not a header line: b'Content-Length : 3'"]
    assert sim.requests == []


async def test_headers_of_more_than_a_mebibyte_are_refused(sim: SimulatedOllama, dial: Any) -> None:
    wire = await dial(sim)
    await wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 20))
    data, _ = await wire.rest()
    assert data.startswith(b"HTTP/1.1 431 ")


async def test_it_comes_back_on_its_port_and_refuses_meanwhile(sim: SimulatedOllama) -> None:
    url = sim.url
    async with httpx.AsyncClient() as client:
        assert (await client.get(url)).text == "Ollama is running"
        await sim.stop()
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
        await sim.start()
        assert sim.url == url
        assert (await client.get(url)).text == "Ollama is running"


async def test_nobody_else_gets_its_port_while_it_is_stopped(sim: SimulatedOllama) -> None:
    await sim.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", sim.port))


async def test_a_taken_port_is_an_error(sim: SimulatedOllama) -> None:
    twin = SimulatedOllama(port=sim.port)
    with pytest.raises(OSError, match="in use"):
        await twin.start()
    await twin.close()


async def test_a_stop_breaks_streams_off(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    sim.behaviour.pace = 60
    wire = await dial(sim)
    await wire.ask("/api/chat", chat)
    await wire.until(b"}\n\r\n")
    await sim.stop()
    data, ending = await wire.rest()
    assert (data, ending) == (b"", "eof")
    assert sim.requests[0].outcome == "faulted"
    assert sim.open_connections == 0


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
@pytest.mark.parametrize("after", ["nothing", "headers", 3])
async def test_a_leaving_client_is_seen_at_once(
    sim: SimulatedOllama, dial: Any, chat: Any, how: str, after: Any
) -> None:
    sim.script("/api/chat", Hang(after=after))
    wire = await dial(sim)
    await wire.ask("/api/chat", chat)
    await sim.wait_for(lambda sim: sim.concurrent == 1 and sim.requests[0].events_sent == (after if after == 3 else 0))
    left = asyncio.get_running_loop().time()
    if how == "close":
        wire.writer.close()
    elif how == "half-close":
        wire.writer.write_eof()
    else:
        wire.reset()
    await sim.wait_for(lambda sim: sim.requests[0].outcome == "client_left")
    assert sim.requests[0].left_at is not None
    assert 0 <= sim.requests[0].left_at - left < 0.5
    assert sim.concurrent == 0
    await sim.wait_for(lambda sim: sim.open_connections == 0)


async def test_a_half_closed_client_is_told_that_its_request_was_cancelled(
    sim: SimulatedOllama, dial: Any, chat: Any
) -> None:
    sim.script("/api/chat", Hang())
    wire = await dial(sim)
    await wire.ask("/api/chat", chat)
    wire.writer.write_eof()
    data, ending = await wire.rest()
    assert data.startswith(b"HTTP/1.1 499 ")
    assert data.endswith(b'{"error":"request canceled"}')
    assert ending == "eof"
    assert sim.requests[0].outcome == "client_left"


async def test_a_client_that_leaves_while_sending_is_recorded(sim: SimulatedOllama, dial: Any) -> None:
    wire = await dial(sim)
    await wire.send(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
    await wire.close()
    await sim.wait_for(lambda sim: len(sim.requests) == 1 and sim.requests[0].outcome == "client_left")
    assert sim.requests[0].body == b"abc"


async def test_a_client_that_leaves_with_a_large_body_unanswered_is_seen(
    sim: SimulatedOllama, dial: Any, chat: Any
) -> None:
    sim.script("*", Hang())
    wire = await dial(sim)
    await wire.ask("/api/chat", {**chat, "padding": "x" * 3_000_000})
    await sim.wait_for(lambda sim: len(sim.requests) == 1)
    assert len(sim.requests[0].body) > 3_000_000
    await wire.close()
    await sim.wait_for(lambda sim: sim.requests[0].outcome == "client_left")


async def test_frozen_it_takes_requests_and_says_nothing(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    sim.script("/api/chat", Slow(0.01))
    streaming, waiting = await dial(sim), await dial(sim)
    await streaming.ask("/api/chat", chat)
    await streaming.until(b"\n\r\n")
    await sim.freeze()
    await waiting.ask("/api/version", method="GET")
    await sim.wait_for(lambda sim: len(sim.requests) == 2)
    before, ending = await streaming.rest(patience=0.1)
    assert ending == "open"
    assert b'"done":true' not in before
    assert (await waiting.rest(patience=0.05)) == (b"", "open")
    await sim.thaw()
    assert b"0.32.15" in (await waiting.reply())[1]
    assert b'"done":true' in await streaming.until(b"0\r\n\r\n")


async def test_clients_may_leave_a_frozen_backend(sim: SimulatedOllama, dial: Any, chat: Any) -> None:
    await sim.freeze()
    wire = await dial(sim)
    await wire.ask("/api/chat", chat)
    await sim.wait_for(lambda sim: len(sim.requests) == 1)
    await wire.close()
    await sim.wait_for(lambda sim: sim.requests[0].outcome == "client_left")


async def test_waiting_has_a_deadline_and_says_what_there_was(sim: SimulatedOllama, dial: Any) -> None:
    wire = await dial(sim)
    await wire.ask("/api/version", method="GET")
    await wire.reply()
    with pytest.raises(
        TimeoutError, match=r"1 requests on 1 connections: <GET /api/version - complete, 1 events sent>"
    ):
        await sim.wait_for(lambda sim: len(sim.requests) == 2, timeout=0.05)


async def test_scripts_are_used_up_in_order(sim: SimulatedOllama, chat: Any) -> None:
    sim.script("/api/chat", Status(500), Status(502), times=2)
    sim.script("*", Status(504))
    async with httpx.AsyncClient(base_url=sim.url) as client:
        codes = [(await client.post("/api/chat", json=chat)).status_code for _ in range(6)]
    assert codes == [500, 500, 502, 502, 504, 200]


async def test_a_script_without_end_holds_until_it_is_cleared(sim: SimulatedOllama, chat: Any) -> None:
    sim.script("/api/chat", Status(500), Status(502), times=None)
    async with httpx.AsyncClient(base_url=sim.url) as client:
        codes = [(await client.post("/api/chat", json=chat)).status_code for _ in range(4)]
        sim.clear_script()
        codes.append((await client.post("/api/chat", json=chat)).status_code)
    assert codes == [500, 502, 500, 502, 200]


async def test_a_script_for_one_model_however_it_is_spelled(sim: SimulatedOllama, chat: Any) -> None:
    sim.script("/api/chat", Status(500), model="LLAMA3.2:latest")
    async with httpx.AsyncClient(base_url=sim.url) as client:
        assert (await client.post("/api/chat", json={**chat, "model": "qwen3:8b"})).status_code == 200
        assert (await client.get("/api/tags")).status_code == 200
        assert (await client.post("/api/chat", json=chat)).status_code == 500


async def test_only_inference_counts_as_concurrent(sim: SimulatedOllama, chat: Any) -> None:
    sim.script("/api/chat", Hang(), times=3)
    async with httpx.AsyncClient(base_url=sim.url) as client:
        asking = [asyncio.create_task(client.post("/api/chat", json=chat)) for _ in range(3)]
        await sim.wait_for(lambda sim: sim.concurrent == 3)
        await client.get("/api/tags")
        assert sim.concurrent == 3
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await sim.wait_for(lambda sim: sim.concurrent == 0)
    assert sim.max_concurrent == 3


async def test_pace_and_number_of_words(sim: SimulatedOllama, chat: Any) -> None:
    sim.behaviour.pace, sim.behaviour.reply_words = 0.02, 12
    started = asyncio.get_running_loop().time()
    async with httpx.AsyncClient(base_url=sim.url) as client:
        lines = (await client.post("/api/chat", json=chat)).text.splitlines()
    assert len(lines) == 13
    assert asyncio.get_running_loop().time() - started >= 12 * 0.02


async def test_tls(chat: Any) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with SimulatedOllama(tls=context) as sim, httpx.AsyncClient(base_url=sim.url, verify=trust) as client:
        assert sim.url.startswith("https://")
        assert (await client.post("/api/chat", json=chat)).status_code == 200
        sim.script("/api/chat", Cut(after=1, how="reset"))
        with pytest.raises(httpx.TransportError):
            await client.post("/api/chat", json=chat)


async def test_several_hundred_streams_at_once(dial: Any, chat: Any) -> None:
    async with SimulatedOllama(name="busy", pace=0.01, reply_words=5) as sim:
        wires = await asyncio.gather(*(dial(sim) for _ in range(300)))
        await asyncio.gather(*(wire.ask("/api/chat", chat) for wire in wires))
        replies = await asyncio.gather(*(wire.reply() for wire in wires))
    assert all(b'"done":true' in body for _, body in replies)
    assert sim.max_concurrent == 300
    assert {request.outcome for request in sim.requests} == {"complete"}


async def test_an_ipv6_address() -> None:
    async with SimulatedOllama(port=Port("::1")) as sim, httpx.AsyncClient() as client:
        assert sim.url == f"http://[::1]:{sim.port}"
        assert (await client.get(sim.url)).status_code == 200


async def test_an_error_in_the_simulation_itself_comes_out_at_the_stop(dial: Any) -> None:
    sim = SimulatedOllama()
    await sim.start()
    sim.behaviour.reply_words = "many"  # type: ignore[assignment]
    wire = await dial(sim)
    await wire.ask("/api/generate", {"model": "llama3.2", "prompt": "x"})
    assert (await wire.rest()) == (b"", "eof")
    with pytest.raises(TypeError):
        await sim.close()
