"""TLS to the backend: whom we believe, who we say we are, and what goes wrong."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from herdgate.upstream import UpstreamTransport
from herdgate.upstream.tls import TlsConfigError, tls_context

from .conftest import Backend, Conversation, no_callback_fails, soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class World:
    """An authority, and files as an operator has them."""

    directory: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    @property
    def ca_file(self) -> Path:
        return self.write("ca.pem", self.ca.cert_pem)

    def write(self, name: str, *blobs: trustme.Blob) -> Path:
        path = self.directory / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return path

    def server(self, *names: str, ca: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (ca or self.ca).issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(autouse=True)
def forget_contexts() -> Iterator[None]:
    yield
    from herdgate.upstream import tls

    tls._build.cache_clear()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def begin(stack: AsyncExitStack, server: ssl.SSLContext, client: ssl.SSLContext | None) -> Conversation:
    backend = Backend(server)
    stack.enter_context(no_callback_fails())
    await backend.start()
    stack.push_async_callback(backend.stop)
    talk = Conversation(UpstreamTransport(tls=client), backend)
    stack.push_async_callback(talk.close)
    return talk


async def test_requests_over_tls(stack: AsyncExitStack, world: World) -> None:
    talk = await begin(stack, world.server("127.0.0.1"), tls_context(ca_file=world.ca_file))
    assert await talk.read(await talk.get(OK)) == b"ok"
    [peer] = talk.backend.peers
    for answer in (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", OK):
        call = talk.ask(talk.backend.request("POST", content=b"x" * 300_000))
        await peer.hears_head()
        await peer.hears(b"x" * 300_000)
        peer.says(answer)
        assert await talk.read(await soon(call)) == b"ok"
    assert talk.backend.accepted == 1


async def test_pushing_over_tls(stack: AsyncExitStack, world: World) -> None:
    talk = await begin(stack, world.server("127.0.0.1"), tls_context(ca_file=world.ca_file))
    response = await talk.get(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n")
    body = talk.body(response)
    got = 0

    def sink(data: bytes) -> None:
        nonlocal got
        got += len(data)
        body.pause()
        asyncio.get_running_loop().call_later(0.001, body.resume)

    talk.backend.peers[0].says(bytes(8_000_000))
    last = await soon(body.relay(sink))
    assert got + len(last) == 8_000_000


async def test_closing_over_tls_does_not_wait_for_a_farewell(stack: AsyncExitStack, world: World) -> None:
    talk = await begin(stack, world.server("127.0.0.1"), tls_context(ca_file=world.ca_file))
    response = await talk.get(CHUNKED)
    await soon(talk.body(response).aclose())
    await talk.backend.peers[0].sees_hang_up()
    await talk.read(await talk.get(OK))
    await asyncio.wait_for(talk.transport.aclose(), 0.5)
    await talk.backend.peers[1].sees_hang_up()


async def test_an_unknown_authority(stack: AsyncExitStack, world: World) -> None:
    other = World(world.directory).ca_file
    talk = await begin(stack, world.server("127.0.0.1"), tls_context(ca_file=other))
    with pytest.raises(
        httpx.ConnectError, match=r"TLS with https://127.0.0.1:\d+ failed: its certificate is not tr"
    ) as c:
        await soon(talk.ask())
    assert isinstance(c.value.__cause__, ssl.SSLCertVerificationError)


async def test_the_system_trusts_no_private_authority(stack: AsyncExitStack, world: World) -> None:
    talk = await begin(stack, world.server("127.0.0.1"), None)
    with pytest.raises(httpx.ConnectError, match="its certificate is not trusted"):
        await soon(talk.ask())


@pytest.mark.parametrize("name", ["other.example", "127.0.0.2"])
async def test_a_certificate_for_another_name(stack: AsyncExitStack, world: World, name: str) -> None:
    talk = await begin(stack, world.server(name), tls_context(ca_file=world.ca_file))
    with pytest.raises(httpx.ConnectError, match=r"its certificate is not for '127\.0\.0\.1'"):
        await soon(talk.ask())


async def test_without_verification_any_certificate_will_do(stack: AsyncExitStack, world: World) -> None:
    talk = await begin(stack, world.server("other.example"), tls_context(verify=False))
    assert await talk.read(await talk.get(OK)) == b"ok"


async def test_the_name_asked_for_can_differ_from_the_address(stack: AsyncExitStack, world: World) -> None:
    asked: list[str | None] = []
    server = world.server("backend.example")
    server.sni_callback = lambda _connection, name, _context: asked.append(name)
    talk = await begin(stack, server, tls_context(ca_file=world.ca_file))
    request = talk.backend.request(extensions={"sni_hostname": "backend.example"})
    assert await talk.read(await talk.get(OK, request=request)) == b"ok"
    assert asked == ["backend.example"]
    with pytest.raises(httpx.ConnectError, match="not for '127"):  # the other name's connection is not lent
        await soon(talk.ask())


async def test_the_name_asked_for_is_the_host_of_the_url(stack: AsyncExitStack, world: World) -> None:
    asked: list[str | None] = []
    server = world.server("localhost")
    server.sni_callback = lambda _connection, name, _context: asked.append(name)
    talk = await begin(stack, server, tls_context(ca_file=world.ca_file))
    request = httpx.Request("GET", f"https://localhost:{talk.backend.port}/", headers={"Host": "elsewhere"})
    assert await talk.read(await talk.get(OK, request=request)) == b"ok"
    assert asked == ["localhost"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_backend_that_wants_to_know_who_we_are(
    stack: AsyncExitStack, world: World, version: ssl.TLSVersion
) -> None:
    server = world.server("127.0.0.1")
    server.maximum_version = version
    server.verify_mode = ssl.CERT_REQUIRED
    world.ca.configure_trust(server)
    ours = world.ca.issue_cert("gateway.example")
    client = tls_context(
        ca_file=world.ca_file,
        client_cert=world.write("cert.pem", *ours.cert_chain_pems),
        client_key=world.write("key.pem", ours.private_key_pem),
    )
    with OpenSslServer(server) as address:
        assert await ask(stack, address, client) == b"ok"
        with pytest.raises(httpx.ConnectError, match=r"refused us .* does it want a client certificate"):
            await ask(stack, address, tls_context(ca_file=world.ca_file))
        stranger = World(world.directory).ca.issue_cert("gateway.example")
        both = world.write("both.pem", stranger.private_key_pem, *stranger.cert_chain_pems)
        with pytest.raises(httpx.ConnectError, match="refused us") as caught:
            await ask(stack, address, tls_context(verify=False, client_cert=both))
        assert isinstance(caught.value.__cause__, ssl.SSLError)


class OpenSslServer:
    """Answers like a real server: asyncio's closes without telling why it refuses a certificate."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return f"https://127.0.0.1:{self.listener.getsockname()[1]}/"

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.answer(self.listener.accept()[0])

    def answer(self, connection: socket.socket) -> None:
        with self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secure:
            try:
                secure.do_handshake()
                secure.recv(65_536)
                secure.sendall(OK)
                secure.recv(1)
            except OSError:  # by now the client has been told
                while os.read(secure.fileno(), 65_536):  # else closing would send RST and outrun that
                    pass


async def ask(stack: AsyncExitStack, url: str, tls: ssl.SSLContext) -> bytes:
    transport = UpstreamTransport(tls=tls)
    stack.push_async_callback(transport.aclose)
    response = await soon(transport.handle_async_request(httpx.Request("GET", url)))
    body = await soon(httpx.Response(200, stream=response.stream).aread())
    await transport.aclose()
    return body


async def test_a_backend_that_does_not_speak_tls(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(tls=tls_context(verify=False)), backend)
    call = talk.ask(httpx.Request("GET", f"https://127.0.0.1:{backend.port}/"))
    peer = await backend.accept()
    await peer.hears_anything()
    peer.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(httpx.ConnectError, match="does not seem to speak TLS"):
        await soon(call)
    await peer.sees_hang_up()
    await talk.close()


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_a_backend_that_closes_during_the_handshake(backend: Backend, end: str) -> None:
    talk = Conversation(UpstreamTransport(tls=tls_context(verify=False)), backend)
    call = talk.ask(httpx.Request("GET", f"https://127.0.0.1:{backend.port}/"))
    peer = await backend.accept()
    await peer.hears_anything()
    peer.hangs_up() if end == "eof" else peer.resets()
    with pytest.raises(httpx.ConnectError, match="closed the connection; does it speak TLS"):
        await soon(call)
    await talk.close()


async def test_a_handshake_that_takes_too_long(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(tls=tls_context(verify=False)), backend)
    url = f"https://127.0.0.1:{backend.port}/"
    call = talk.ask(httpx.Request("GET", url, extensions={"timeout": {"connect": 0.1}}))
    peer = await backend.accept()
    with pytest.raises(httpx.ConnectTimeout):
        await soon(call)
    await peer.sees_hang_up()
    await talk.close()


async def test_a_handshake_that_is_cancelled(backend: Backend) -> None:
    talk = Conversation(UpstreamTransport(tls=tls_context(verify=False)), backend)
    call = talk.ask(httpx.Request("GET", f"https://127.0.0.1:{backend.port}/"))
    peer = await backend.accept()
    await peer.hears_anything()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await peer.sees_hang_up()
    await talk.close()


# Contexts


def test_the_same_settings_share_a_context(world: World) -> None:
    assert tls_context() is tls_context()
    assert tls_context(ca_file=world.ca_file) is not tls_context()
    assert tls_context(verify=False) is not tls_context()


def test_a_renewed_file_gives_a_new_context(world: World) -> None:
    path = world.ca_file
    before = tls_context(ca_file=path)
    assert tls_context(ca_file=str(path)) is before
    replacement = world.write("new.pem", trustme.CA().cert_pem)
    replacement.rename(path)
    renewed = tls_context(ca_file=path)
    assert renewed is not before
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # rewritten in place, and no longer than before
    assert tls_context(ca_file=path) is not renewed


def test_only_the_given_authority_is_trusted(world: World) -> None:
    assert len(tls_context(ca_file=world.ca_file).get_ca_certs()) == 1


def encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_settings_that_cannot_be_used_say_why(world: World) -> None:
    ours, other = world.ca.issue_cert("a.example"), world.ca.issue_cert("b.example")
    cert = world.write("cert.pem", *ours.cert_chain_pems)
    key = world.write("key.pem", ours.private_key_pem)
    wrong_key = world.write("wrong.pem", other.private_key_pem)
    nothing = world.directory / "nothing.pem"
    garbage = world.directory / "garbage.pem"
    garbage.write_text("garbage")
    locked = world.directory / "locked.pem"
    locked.write_bytes(encrypted(ours.private_key_pem.bytes()))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"ca_file": nothing}, "ca_file: cannot read .*nothing.pem: No such file"),
        ({"ca_file": garbage}, "ca_file: .*garbage.pem holds no PEM certificates"),
        ({"client_key": key}, "client_key: of no use without client_cert"),
        ({"client_cert": cert, "client_key": nothing}, "client_key: cannot read"),
        ({"client_cert": cert}, "client_cert: .*cert.pem and its key are not usable PEM"),
        ({"client_cert": garbage, "client_key": key}, "client_cert: .*garbage.pem and its key are not usable"),
        ({"client_cert": cert, "client_key": wrong_key}, "client_key: .*wrong.pem is not the key of .*cert.pem"),
        ({"client_cert": cert, "client_key": locked}, "client_key: the key is encrypted"),
    ]
    for settings, message in cases:
        with pytest.raises(TlsConfigError, match=message):
            tls_context(**settings)
