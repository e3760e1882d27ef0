"""`proxyctl serve` in one process: start, drain, stop, and every reason not to start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import WITHIN, Chat, Program, Run, Simulate, Use, body, json_of, status

LATE = """
import asyncio
from contextlib import asynccontextmanager
from herdgate import hookimpl

class Late:
    herdgate_api = 1

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app):
        print("waiting", flush=True)
        try:
            await asyncio.sleep(20)
            yield
            print("left in order", flush=True)
        finally:
            print("cleaned up", flush=True)
"""


def serve(run: Run, *options: str) -> Program:
    return run("serve", "--port", "0", *options)


def test_it_serves_says_so_and_stops(run: Run, simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2"), simulate("two", "llama3.2"))
    program = serve(run)

    port = program.until_ready()
    assert Chat(port).ends_well()

    assert json_of("list-models")["cache"] == {"kind": "sqlite", "entries": 2}
    assert program.stop() == 0
    messages = [record["message"] for record in program.records]
    assert any(message.startswith("open: no key was ever made") for message in messages)
    assert f"serving at http://127.0.0.1:{port} with 2 backends (state: sqlite://{place}/state.db)" in messages
    request = next(record for record in program.records if "/api/chat" in record["message"])
    assert (request["model"], request["backend"], request["attempts"]) == ("llama3.2:latest", "one", 1)
    assert not [record for record in program.records if record["level"] in {"warning", "error", "critical"}]


def test_notices_are_warnings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_BACKEND", "http://typo")
    program = serve(run)
    program.until(lambda: "has no effect" in program.said)
    program.until_ready()
    assert program.stop(signal.SIGINT) == 0


def test_a_signal_lets_a_request_in_flight_end(run: Run, simulate: Simulate, use: Use) -> None:
    use(simulate("one", "llama3.2", pace=0.05))
    program = serve(run)
    port = program.until_ready()
    chat = Chat(port)

    program.send(signal.SIGTERM)
    program.until(lambda: status(port, "/readyz") == 503)
    program.until(lambda: status(port, "/api/tags") == 503)

    assert chat.ends_well()
    assert program.end() == 0
    with pytest.raises(ConnectionRefusedError):
        status(port, "/healthz")


def test_a_signal_leaves_time_to_turn_elsewhere(run: Run, simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2"))
    (place / "plugins.toml").write_text('[server]\nstop_delay = "30s"\n')
    program = serve(run)
    port = program.until_ready()

    program.send(signal.SIGTERM)
    program.until(lambda: status(port, "/readyz") == 503)
    assert Chat(port).ends_well()
    assert program.stop() == 143


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_does_not_wait(
    run: Run, simulate: Simulate, use: Use, place: Path, number: signal.Signals, code: int
) -> None:
    backend = simulate("one", "llama3.2", pace=30)
    use(backend)
    (place / "late.py").write_text(LATE.replace("await asyncio.sleep(20)", ""))
    uses = ("configured_backends", "ollama_discovery", "anonymous", "model_access", "./late.py:Late")
    (place / "plugins.toml").write_text("".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses))
    program = serve(run)
    port = program.until_ready()
    chat = Chat(port)

    program.send(number)
    program.until(lambda: "stopping" in program.said)
    program.send(number)

    assert not chat.ends_well()
    assert program.end() == code
    assert "left in order" in program.said
    assert "Traceback" not in program.said
    program.until(lambda: not backend.open_connections)


def test_a_drain_has_an_end(run: Run, simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2", pace=30))
    (place / "plugins.toml").write_text('[server]\ndrain = "100ms"\n')
    program = serve(run)
    port = program.until_ready()
    chat = Chat(port)

    program.send(signal.SIGTERM)

    assert not chat.ends_well()
    assert program.end() == 0


def test_a_signal_during_the_start_ends_it(run: Run, place: Path) -> None:
    (place / "late.py").write_text(LATE)
    (place / "plugins.toml").write_text('[[plugin]]\nuse = "./late.py:Late"\n')
    program = serve(run)
    program.until(lambda: "waiting" in program.said)

    assert program.stop() == 0
    assert "cleaned up" in program.said
    assert "Traceback" not in program.said


def refused(program: Program) -> str:
    """What a start that must fail said: one message, exit code 2."""
    assert program.end() == 2, program.said
    errors = [line for line in program.said.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, program.said
    assert "Traceback" not in program.said
    assert not [record for record in program.records if record["level"] in {"error", "critical"}]
    return program.said[program.said.index("Error: ") :]


def test_the_port_is_in_use(run: Run) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(run("serve", "--port", str(port)))
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in said
    assert said.count("\n") == 1


def test_broken_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_DISCOVERY_INTERVAL", "soon")
    said = refused(run("serve", "--port", "many", "--workers", "0"))
    for part in ("--port", "--workers", "HERDGATE_DISCOVERY_INTERVAL"):
        assert part in said


def test_exposed_without_a_key(run: Run) -> None:
    assert "there is no API key yet" in refused(serve(run, "--host", "0.0.0.0"))


def test_a_state_that_is_away(run: Run, dead: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_STATE", dead["base_url"].replace("http://", "redis://:secret@"))
    said = refused(serve(run))
    assert "the state cannot be opened" in said
    assert "secret" not in said


def test_a_plugin_that_fails_at_the_start(run: Run, place: Path) -> None:
    (place / "bad.py").write_text(LATE.replace("await asyncio.sleep(20)", "raise RuntimeError('no licence')"))
    (place / "plugins.toml").write_text('[[plugin]]\nuse = "./bad.py:Late"\n')
    lines = (place / "bad.py").read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if "no licence" in text)
    told = f"RuntimeError: no licence ({place}/bad.py:{line})"
    assert refused(serve(run)) == f"Error: plugin late failed in lifespan: {told}\n"


def test_a_source_that_fails_at_the_start(run: Run, place: Path) -> None:
    (place / "bad.py").write_text(
        "from herdgate import hookimpl\n"
        "class Bad:\n"
        "    herdgate_api = 1\n"
        "    @hookimpl\n"
        "    def backend_sources(self):\n"
        "        raise OSError('no inventory')\n"
    )
    (place / "plugins.toml").write_text('[[plugin]]\nuse = "./bad.py:Bad"\n')
    told = f"OSError: no inventory ({place}/bad.py:6)"
    assert refused(serve(run)) == f"Error: plugin bad failed in backend_sources: {told}\n"


def test_a_plugin_that_does_not_exist(run: Run, place: Path) -> None:
    (place / "own.toml").write_text('[[plugin]]\nuse = "nobody"\n')
    assert 'own.toml:1: plugin "nobody"' in refused(serve(run, "--config", "own.toml"))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_it_serves_without_anybody_to_tell(place: Path, workers: int, closed: str) -> None:
    (place / "plugins.toml").write_text("[server]\nstop_delay = 0\n")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f'exec "$0" -m herdgate.cli serve --port {port} --workers {workers} {closed}'
    process = subprocess.Popen(["/bin/sh", "-c", command, sys.executable], start_new_session=True)
    try:
        until(lambda: process.poll() is not None or serves(port))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(WITHIN)


def serves(port: int) -> bool:
    try:
        return status(port, "/healthz") == 200
    except OSError:
        return False


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# SIGHUP


def reloaded(program: Program, times: int = 1) -> None:
    program.until(lambda: program.said.count("reloaded: the new configuration") == times)


def test_another_list_of_backends(run: Run, simulate: Simulate, place: Path) -> None:
    one, two = simulate("one", "llama3.2"), simulate("two", "qwen3:8b")
    file = place / "plugins.toml"
    file.write_text(f'[[backend]]\nname = "one"\nbase_url = "{one.url}"\n')
    program = serve(run)
    port = program.until_ready()

    file.write_text(f'[server]\nworkers = 4\nlog_level = "debug"\n[[backend]]\nname = "two"\nbase_url = "{two.url}"\n')
    program.send(signal.SIGHUP)

    reloaded(program)
    assert "qwen3:8b" in body(port, "/api/tags")
    assert "these settings cannot change without a restart, the present ones stay: workers" in program.said
    assert program.stop() == 0


def test_a_mistake_is_one_message_and_the_old_ones_stay(run: Run, simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2"))
    program = serve(run)
    port = program.until_ready()

    for wrong in ("[servr]\n", '[[plugin]]\nuse = "./bad.py:Late"\n'):
        (place / "bad.py").write_text(LATE.replace("await asyncio.sleep(20)", "raise RuntimeError('no licence')"))
        (place / "plugins.toml").write_text(wrong)
        before = len(errors(program))
        program.send(signal.SIGHUP)
        program.until(lambda before=before: len(errors(program)) > before)  # type: ignore[misc]

    assert Chat(port).ends_well()
    assert [message.partition(":")[0] for message in errors(program)] == [
        "the configuration is not reloaded, the present one stays"
    ] * 2
    assert "servr" in errors(program)[0]
    assert "plugin late failed in lifespan: RuntimeError: no licence" in errors(program)[1]
    assert "Traceback" not in program.said
    assert program.stop() == 0


def test_a_changed_file_is_enough_if_that_is_wanted(run: Run, simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2"))
    file = place / "plugins.toml"
    file.write_text("[server]\nreload_on_change = true\nstop_delay = 0\n")
    program = serve(run)
    program.until_ready()

    file.write_text("[server]\nstop_delay = 0\ndrain = 1\n")
    reloaded(program)
    assert program.stop() == 0
    assert "have 1 s to end" in program.said


def test_a_file_that_vanishes_is_waited_for(run: Run, simulate: Simulate, place: Path) -> None:
    backend, file = simulate("one", "llama3.2"), place / "plugins.toml"
    present = (
        f'[server]\nreload_on_change = true\nstop_delay = 0\n[[backend]]\nname = "one"\nbase_url = "{backend.url}"\n'
    )
    file.write_text(present)
    program = serve(run)
    port = program.until_ready()

    file.unlink()
    program.until(lambda: "which the present configuration came from, is gone" in program.said)
    assert Chat(port).ends_well()

    file.write_text(present + "[discovery]\ninterval = 7\n")
    reloaded(program)
    assert Chat(port).ends_well()
    assert program.stop() == 0


def errors(program: Program) -> list[str]:
    return [record["message"] for record in program.records if record["level"] == "error"]
