"""`proxyctl demo`: what it prints can be pasted, and does what it says."""

import json
import os
import re
import shlex
import signal
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from .conftest import Program, Run


def line(program: Program, number: int) -> str:
    """The command under a step of the instructions."""
    found = re.search(rf"^{number}\. .*\n +(.+)$", program.said, re.MULTILINE)
    assert found, program.said
    return found[1]


def curl(command: str) -> httpx.Response:
    """Do what this curl line would do."""
    words = shlex.split(command)
    assert words[0] == "curl"
    url = next(word for word in words if word.startswith("http://"))
    body = words[words.index("-d") + 1] if "-d" in words else None
    kind = words[words.index("-H") + 1] if "-H" in words else "Content-Type: application/x-www-form-urlencoded"
    name, _, value = kind.partition(": ")
    method = "POST" if body else "GET"
    return httpx.request(method, url, content=body, headers={name: value}, trust_env=False, timeout=10)


def chatted(command: str) -> str:
    events: list[dict[str, Any]] = [json.loads(event) for event in curl(command).text.splitlines()]
    assert events[-1]["done"] is True
    return "".join(event["message"]["content"] for event in events)


def test_the_tour(run: Run, place: Path) -> None:
    (place / ".env").write_text("HERDGATE_PORT=broken\nOLLAMA_BASE_URL=http://10.255.255.1\n")
    (place / "plugins.toml").write_text("this is no TOML")
    before = sorted(place.iterdir())
    program = run("demo", "--port", "0")
    program.until(lambda: "Ctrl-C stops everything" in program.said)

    assert "SIMULATED" in program.said
    assert re.search(r"kept in sqlite://\S*/herdgate-demo-", program.said)
    assert {model["name"] for model in curl(line(program, 1)).json()["models"]} == {
        "llama3.2:latest",
        "qwen3:8b",
        "gemma3:4b",
    }
    assert "sim-one" in chatted(line(program, 2))
    assert "sim-one" in curl(line(program, 3)).json()["choices"][0]["message"]["content"]
    word, pid = line(program, 4).split()
    assert word == "kill"
    os.kill(int(pid), signal.SIGTERM)
    program.until(lambda: "simulated backend sim-one has stopped" in program.said)
    assert line(program, 5) == line(program, 2)
    assert "sim-two" in chatted(line(program, 5))
    program.until(lambda: "backend=sim-two attempts=2" in program.said)

    pids = [int(found) for found in re.findall(r"pid (\d+)", program.said)]
    assert program.stop(signal.SIGINT) == 0
    assert "Traceback" not in program.said
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert sorted(set(place.iterdir()) - {program.output}) == before


def test_the_port_is_in_use(run: Run) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        program = run("demo", "--port", str(port))
        assert program.end() == 2
    assert program.said.startswith(f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use")
    assert program.said.count("\n") == 1
