"""The end of a server: who came just before it is served or refused, never forgotten."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from herdgate.app import CannotStart
from herdgate.listening import listen, stop_accepting
from herdgate.testing.simulated import SimulatedOllama

Run = Callable[[Coroutine[Any, Any, None]], None]


class Greeter(asyncio.Protocol):
    """Says hello and hangs up."""

    def __init__(self) -> None:
        self.met = False
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.met = True
        transport = cast("asyncio.WriteTransport", transport)  # uvloop has classes of its own
        transport.write(b"hello")
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()


async def heard(caller: socket.socket) -> bytes:
    """What a caller is told until its connection ends, in whichever way."""
    said = b""
    caller.setblocking(False)
    with suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            while more := await asyncio.get_running_loop().sock_recv(caller, 100):
                said += more
    return said


async def turns(count: int) -> None:
    """Let the loop turn: a connection is accepted in one turn, and has its protocol some turns later."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(
            CannotStart, match=r"Address already in use\. Is another program using it\? HERDGATE_PORT or"
        ):
            listen("127.0.0.1", other.getsockname()[1])


def test_an_address_of_elsewhere_is_told() -> None:
    with pytest.raises(CannotStart, match="No interface here has this address") as refusal:
        listen("192.0.2.1", 0)  # kept for documentation: nobody's
    assert "another program" not in str(refusal.value)


AS_NOBODY = """
import encodings.idna  # in time: nobody may be unable to read the files of the interpreter
import os
from herdgate.app import CannotStart
from herdgate.listening import listen
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    listen("127.0.0.1", 1)
except CannotStart as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").exists(), reason="a limit of Linux")
def test_a_port_that_needs_a_privilege_is_told() -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
        pytest.skip("here everybody may listen on every port")
    told = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, check=True).stdout
    assert "cannot listen on 127.0.0.1 port 1: Permission denied. Ports below 1024 need a privilege." in told
    assert "another program" not in told


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_who_was_accepted_is_served(run: Run, after: int) -> None:
    accepted: list[Greeter] = []

    def greet() -> Greeter:
        accepted.append(Greeter())
        return accepted[-1]

    async def story() -> None:
        server = await asyncio.get_running_loop().create_server(greet, sock=listen("127.0.0.1", 0))
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as caller:
            await turns(after)
            await stop_accepting(server)
            assert all(each.met for each in accepted)  # whoever stops the server can see to all its connections now
            assert await heard(caller) == (b"hello" if accepted else b"")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for each in accepted:
            await each.gone.wait()

    run(story())
    assert accepted or after < 2


async def test_a_server_is_closed_even_if_nobody_waits_for_it_any_more() -> None:
    server = await asyncio.get_running_loop().create_server(Greeter, sock=listen("127.0.0.1", 0))
    stopping = asyncio.create_task(stop_accepting(server))
    await turns(1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not server.is_serving()


@pytest.mark.parametrize("after", range(6))
async def test_a_simulated_backend_that_dies_breaks_every_connection(after: int) -> None:
    async with SimulatedOllama() as backend:
        with socket.create_connection(("127.0.0.1", backend.port)) as caller:
            await turns(after)
            await backend.stop()
            assert await heard(caller) == b""
