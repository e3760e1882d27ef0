"""Does the time of a refusal tell whether a model exists? Thousands of interleaved pairs, and a rank test.

A gateway with its full list of plugins is asked, by a key with few rights, for models that exist and for models that
do not, in pairs, in random order, over one connection each. Exits with 1 if any pair of kinds can be told apart.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Program
from bench.ranks import Comparison, adjusted, compared
from bench.systems import clean_environ, free_port, proxyctl

ROOT = Path(__file__).parents[1]
SIGNIFICANT = 0.01
START_WITHIN = 20.0
WARM_UP = 200
LISTED = 3000
"""Models that exist and are asked for once each; so many pairs of that kind there are at most."""
MINE, THEIRS, HIDDEN, ABSENT, ABSENT_TOO = "model-aa", "model-bb", "model-cc", "model-dd", "model-ee"
HIDING = f"""
from herdgate import hookimpl

class Hiding:
    herdgate_api = 1

    @hookimpl
    def shape_catalogue(self, entries):
        return [entry for entry in entries if entry.name.model != {HIDDEN!r}]
"""
_VARIES = re.compile(rb"date: [^\r]*|x-request-id: [^\r]*")


FIRST_TIME = "asked for the first time, after a listing: unknown, forbidden"


@dataclass(frozen=True)
class Question:
    """A request whose answer is the generic 403. `{number}` in a name is another one in each round."""

    path: str
    model: str
    more: Mapping[str, object] | None = None
    method: str = "POST"

    def raw(self, key: str, number: int = 0) -> bytes:
        """The request as bytes."""
        model = self.model.replace("{number}", f"{number:06}")
        path, body = self.path.replace("{model}", model), b""
        if self.method == "POST":
            body = json.dumps({"model": model, **(self.more or {})}).encode()
        head = f"{self.method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


Pair = tuple[Question, Question]


def pair(path: str, one: str, other: str, **more: object) -> Pair:
    """The same question about two models. A path that ends in a slash has the name behind it, others in the body."""
    if path.endswith("/"):
        return Question(f"{path}{{model}}", one, method="GET"), Question(f"{path}{{model}}", other, method="GET")
    return Question(path, one, more), Question(path, other, more)


def chat(one: str, other: str, path: str = "/api/chat") -> Pair:
    """A chat with either of two models."""
    return pair(path, one, other, messages=[{"role": "user", "content": "hi"}])


PAIRS: dict[str, Pair] = {
    "control: unknown, another unknown one": chat(ABSENT, ABSENT_TOO),
    "chat: unknown, forbidden": chat(ABSENT, THEIRS),
    "chat: unknown, hidden": chat(ABSENT, HIDDEN),
    "chat: unknown in the cloud, forbidden in the cloud": chat(f"{ABSENT}:cloud", f"{THEIRS}:cloud"),
    "chat in OpenAI's way: unknown, forbidden": chat(ABSENT, THEIRS, "/v1/chat/completions"),
    "show: unknown, forbidden": pair("/api/show", ABSENT, THEIRS),
    "one model: unknown, forbidden": pair("/v1/models/", ABSENT, THEIRS),
    "pull: unknown, there": pair("/api/pull", ABSENT, MINE),
    "unload: unknown, allowed": pair("/api/generate", ABSENT, MINE, keep_alive=0),
    "control: asked for the first time, two unknown ones": chat("third-{number}:latest", "other-{number}:latest"),
    FIRST_TIME: chat("never-{number}:latest", "first-{number}:latest"),
}


class Client:
    """One connection, one request at a time, as little work as possible between the two clocks."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(10.0)

    def ask(self, raw: bytes) -> tuple[int, bytes]:
        """Nanoseconds until the whole reply was there, and the reply. All of these fit one segment."""
        receive, send, clock = self._socket.recv, self._socket.sendall, time.perf_counter_ns
        began = clock()
        send(raw)
        reply = receive(65536)
        return clock() - began, reply


def main() -> int:
    """Measure, print the table, say whether anything could be told apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5000, metavar="N", help="of each kind (default: %(default)s)")
    options = parser.parse_args()
    with gateway() as (port, key):
        times = measured(port, key, options.pairs)
    results = {name: compared(first, second) for name, (first, second) in times.items()}
    ps = adjusted([result.p for result in results.values()])
    print(table(results, ps))
    return 1 if min(ps) < SIGNIFICANT else 0


def measured(port: int, key: str, pairs: int) -> dict[str, tuple[list[int], list[int]]]:
    """Nanoseconds of each kind. Every round asks every pair, in an order of its own."""
    times: dict[str, tuple[list[int], list[int]]] = {name: ([], []) for name in PAIRS}
    client, order = Client(port), list(PAIRS)
    seen: dict[str, set[bytes]] = {name: set() for name in PAIRS}
    gc.disable()
    for number in range(-WARM_UP, pairs):
        random.shuffle(order)
        for name in order:
            if name == FIRST_TIME and number + WARM_UP >= LISTED:
                continue
            for which in random.sample((0, 1), 2):
                nanoseconds, reply = client.ask(PAIRS[name][which].raw(key, number + WARM_UP))
                seen[name].add(_VARIES.sub(b"", reply))
                if number >= 0:
                    times[name][which].append(nanoseconds)
        if number % 500 == 0:
            gc.collect()
    for name, replies in seen.items():
        if len(replies) != 1 or not next(iter(replies)).startswith(b"HTTP/1.1 403 "):
            raise SystemExit(f"{name}: the replies are not one and the same 403:\n{replies}")
    return times


def table(results: Mapping[str, Comparison], ps: Sequence[float]) -> str:
    """As Markdown, times in microseconds."""
    lines = [
        "| kinds | pairs | median µs | difference µs (99 %) | guess | p |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (name, found), p in zip(results.items(), ps, strict=True):
        difference = f"{found.difference / 1e3:+.2f} ({found.low / 1e3:+.2f} … {found.high / 1e3:+.2f})"
        lines.append(
            f"| {name} | {found.pairs} | {found.typical / 1e3:.0f} | {difference} | {found.guess:.1%} | {p:.3g} |"
        )
    return "\n".join(lines)


@contextmanager
def gateway() -> Iterator[tuple[int, str]]:
    """A gateway in front of a simulated backend, in processes of their own: its port, and a key for one model."""
    here, *others = sorted(os.sched_getaffinity(0))
    core = others[0] if others else here
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, backend, port = Path(temporary), free_port(), free_port()
        builtin = (ROOT / "plugins.toml").read_text("utf-8")
        (folder / "hiding.py").write_text(HIDING, "utf-8")
        (folder / "plugins.toml").write_text(f'{builtin}\n[[plugin]]\nuse = "./hiding.py:Hiding"\n', "utf-8")
        environ = {
            **clean_environ(),
            "OLLAMA_BASE_URL": f"http://127.0.0.1:{backend}",
            "HERDGATE_PORT": str(port),
            "HERDGATE_STATE": f"sqlite://{folder}/state.db",
            "HERDGATE_LOG_LEVEL": "info",
        }
        listed = [f"first-{number:06}" for number in range(LISTED)]
        models = [part for name in (MINE, THEIRS, HIDDEN, *listed) for part in ("--model", name)]
        simulated = [sys.executable, "-m", "herdgate.testing.simulated", "--port", str(backend), *models]
        make = [str(proxyctl()), "keys", "create", "--name", "curious", "--models", f"{MINE}*", "--json"]
        made = subprocess.run(make, cwd=folder, env=environ, check=True, capture_output=True)
        for command in (simulated, [str(proxyctl()), "serve"]):
            stack.callback(Program(command, environ, core, folder).stop)
        os.sched_setaffinity(0, {here})
        key = json.loads(made.stdout)["key"]
        until_ready(port, key)
        yield port, key


def list_all(port: int, key: str) -> None:
    """Have every model looked at once, as any caller can."""
    Client(port).ask(f"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())


def until_ready(port: int, key: str) -> None:
    """Return when the gateway knows its models: until then it answers 503."""
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        try:
            _, reply = Client(port).ask(Question("/api/show", ABSENT).raw(key))
        except OSError:
            reply = b""
        if reply.startswith(b"HTTP/1.1 403 "):
            list_all(port, key)
            return
        time.sleep(0.05)
    raise SystemExit("the gateway did not start in time")


if __name__ == "__main__":
    sys.exit(main())
