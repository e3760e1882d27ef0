"""Real proxies in front of a gateway, and a tap between them that keeps every byte."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.stories.raw import Connection

from herdgate.testing.gateway import until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_MARK = re.compile(rb"\r\nx-request-id: (proxy-[0-9a-f-]{32,36})\r\n", re.IGNORECASE)
_REPLY = re.compile(rb"HTTP/1\.1 ([2-5]\d\d) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*?x-request-id: ([^\r\n]*)\r\n")
_STOP_WITHIN = 5.0


@dataclass
class Wire:
    """One connection of a proxy to the gateway."""

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)

    @property
    def marks(self) -> list[bytes]:
        """The ids of the requests that the proxy sent. It replaces what a caller says, and no caller can guess one."""
        return _MARK.findall(bytes(self.asked))

    @property
    def replies(self) -> list[tuple[int, bytes]]:
        """Status and request id of each final reply of the gateway."""
        return [(int(status), identity) for status, identity in _REPLY.findall(bytes(self.answered))]


class Tap:
    """Listens for a proxy and passes everything on to a gateway and back."""

    def __init__(self, gateway: str) -> None:
        self._host, _, self._port = gateway.removeprefix("http://").rpartition(":")
        self.wires: list[Wire] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire()
        self.wires.append(wire)
        inner_reader, inner_writer = await asyncio.open_connection(self._host, int(self._port))
        ways = [
            asyncio.create_task(_pump(reader, inner_writer, wire.asked)),
            asyncio.create_task(_pump(inner_reader, writer, wire.answered)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            writer.close()
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            kept += data
            writer.write(data)
            await writer.drain()


@dataclass(frozen=True)
class Proxy:
    """A proxy program: how it is found, configured and started."""

    program: str
    configuration: Callable[[Path, Path, int], str]
    arguments: tuple[str, ...]

    def find(self) -> str | None:
        """Its path; None if this machine has none."""
        return shutil.which(self.program, path=_PATH)


def _nginx(directory: Path, listener: Path, port: int) -> str:
    """Bodies are passed on as they come, and connections to the gateway are kept: what hides most is let through."""
    return f"""
        daemon off; master_process off; pid {directory}/pid; error_log {directory}/log crit;
        events {{ worker_connections 100; }}
        http {{
            access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
            fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
            upstream gateway {{ server 127.0.0.1:{port}; keepalive 8; }}
            server {{
                listen unix:{listener}; client_max_body_size 0; large_client_header_buffers 4 32k;
                ignore_invalid_headers off; underscores_in_headers on; merge_slashes off; lingering_timeout 1s;
                location / {{
                    proxy_pass http://gateway; proxy_http_version 1.1; proxy_request_buffering off;
                    proxy_buffering off; proxy_set_header Host $http_host; proxy_set_header Connection "";
                    proxy_set_header X-Request-Id proxy-$request_id;
                }}
            }}
        }}"""


def _haproxy(directory: Path, listener: Path, port: int) -> str:
    """As lenient as HAProxy can be, and connections to the gateway are shared between callers as freely."""
    return f"""
        defaults
            mode http
            timeout client 5s
            timeout server 5s
            timeout connect 5s
            http-reuse always
            option accept-invalid-http-request
        frontend callers
            bind unix@{listener}
            http-request set-header X-Request-Id proxy-%[uuid]
            default_backend gateway
        backend gateway
            server one 127.0.0.1:{port}
    """


NGINX = Proxy("nginx", _nginx, ("-e", "stderr", "-p", ".", "-c"))
HAPROXY = Proxy("haproxy", _haproxy, ("-db", "-f"))


class RunningProxy:
    """A proxy in front of a gateway."""

    def __init__(self, tap: Tap, listener: Path) -> None:
        self.tap = tap
        self._listener = listener

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """A connection of a caller to the proxy."""
        reader, writer = await asyncio.open_unix_connection(str(self._listener))
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def running_proxy(proxy: Proxy, program: str, gateway: str, directory: Path) -> AsyncIterator[RunningProxy]:
    """Start a proxy, with the tap behind it, in front of the gateway at this URL."""
    tap, listener, file = Tap(gateway), directory / "socket", directory / "conf"
    server = await asyncio.start_server(tap.connected, "127.0.0.1", 0)
    file.write_text(proxy.configuration(directory, listener, server.sockets[0].getsockname()[1]) + "\n")
    with (directory / "out").open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [program, *proxy.arguments, str(file)], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=directory
        )
    try:
        running = RunningProxy(tap, listener)

        async def accepts() -> bool:
            assert process.poll() is None, (directory / "out").read_text()
            try:
                async with running.connected():
                    return True
            except OSError:
                return False

        await until(accepts)
        yield running
    finally:
        process.kill()
        await asyncio.to_thread(process.wait, _STOP_WITHIN)
        server.close()
        await server.wait_closed()
