"""The transport under an ordinary ``httpx.AsyncClient``, held against the one httpx brings along."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from herdgate.upstream import UpstreamTransport

from .conftest import no_callback_fails, soon


@dataclass(frozen=True)
class Heard:
    """A request as the server read it."""

    line: bytes
    headers: dict[bytes, bytes]
    body: bytes


async def hear(reader: asyncio.StreamReader) -> Heard:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head[:-4].split(b"\r\n")
    headers = {name.lower(): value for name, value in (field.split(b": ", 1) for field in fields)}
    body = b""
    if b"content-length" in headers:
        body = await reader.readexactly(int(headers[b"content-length"]))
    elif b"transfer-encoding" in headers:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    return Heard(line, headers, body)


ANSWERS = {
    b"/json": b"Content-Type: application/json\r\nContent-Length: 11\r\n\r\n" + b'{"a": "\xc3\xa4"}',
    b"/chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
    b"/lines": b"Transfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n3\r\n\nc\n\r\n0\r\n\r\n",
    b"/close": b"Connection: close\r\nContent-Length: 3\r\n\r\nbye",
    b"/cookie": b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n",
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await answer(await hear(reader), writer)
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
    method, path, _ = heard.line.split(b" ")
    match path:
        case b"/echo":
            body = json.dumps([heard.line.decode(), heard.body.decode("latin-1")]).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        case b"/redirect":
            writer.write(b"HTTP/1.1 307 Away\r\nLocation: /json\r\nContent-Length: 4\r\n\r\naway")
        case b"/nothing":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        case b"/broken":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel")
            writer.close()
        case b"/gone":
            writer.close()
        case b"/garbage":
            writer.write(b"garbage\r\n\r\n")
        case b"/silent":
            pass
        case _ if method == b"HEAD":
            writer.write(b"HTTP/1.1 200 OK\r\n" + ANSWERS[path].partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        case _:
            writer.write(b"HTTP/1.1 200 OK\r\n" + ANSWERS[path])


@pytest.fixture
async def url() -> AsyncIterator[str]:
    with no_callback_fails():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        await server.wait_closed()


@pytest.fixture
async def ours(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=UpstreamTransport(), base_url=url, timeout=5) as client:
        yield client


@pytest.fixture
async def stock(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False) as client:
        yield client


async def test_json(ours: httpx.AsyncClient) -> None:
    response = await ours.get("/json")
    assert response.json() == {"a": "ä"}
    assert response.is_closed
    assert response.elapsed.total_seconds() < 5


async def test_redirects_are_left_to_the_client(ours: httpx.AsyncClient) -> None:
    response = await ours.get("/redirect")
    assert (response.status_code, response.text) == (307, "away")
    followed = await ours.get("/redirect", follow_redirects=True)
    assert followed.json() == {"a": "ä"}


async def test_streaming(ours: httpx.AsyncClient) -> None:
    async with ours.stream("GET", "/lines") as response:
        assert [line async for line in response.aiter_lines()] == ["a", "b", "c"]
    async with ours.stream("GET", "/chunks") as response:
        assert await response.aread() == b"hello world"
    async with ours.stream("GET", "/chunks") as response:
        pass  # leaving without reading closes
    assert (await ours.get("/json")).status_code == 200


async def test_uploads(ours: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    assert (await ours.post("/echo", content=pieces())).json() == ["POST /echo HTTP/1.1", "one two"]
    assert (await ours.put("/echo", json={"a": 1})).json() == ["PUT /echo HTTP/1.1", '{"a":1}']
    large = (await ours.post("/echo", content=b"x" * 1_000_000)).json()
    assert large[1] == "x" * 1_000_000
    multipart = (await ours.post("/echo", files={"f": ("name", b"content")})).json()
    assert "content" in multipart[1]


async def test_many_at_a_time(ours: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(ours.get("/json") for _ in range(200)))
    assert {response.text for response in responses} == {'{"a": "ä"}'}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/json"),
        ("GET", "/chunks"),
        ("GET", "/close"),
        ("GET", "/cookie"),
        ("GET", "/redirect"),
        ("GET", "/nothing"),
        ("HEAD", "/json"),
        ("HEAD", "/chunks"),
        ("POST", "/echo"),
        ("DELETE", "/echo"),
    ],
)
async def test_both_transports_say_the_same(
    ours: httpx.AsyncClient, stock: httpx.AsyncClient, method: str, path: str
) -> None:
    seen = [await soon(client.request(method, path)) for client in (ours, stock)]
    [our, their] = [
        (response.status_code, response.reason_phrase, response.http_version, response.headers.raw, response.content)
        for response in seen
    ]
    assert our == their


@pytest.mark.parametrize("path", ["/broken", "/gone", "/garbage", "/silent"])
async def test_both_transports_fail_the_same(ours: httpx.AsyncClient, stock: httpx.AsyncClient, path: str) -> None:
    kinds = []
    for client in (ours, stock):
        with pytest.raises(httpx.TransportError) as caught:
            await soon(client.get(path, timeout=0.2))
        assert str(caught.value.request.url).endswith(path)
        kinds.append(type(caught.value))
    assert kinds[0] is kinds[1]
