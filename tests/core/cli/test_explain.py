"""`proxyctl explain`: what the running gateway says, in words and as JSON; who may ask; what goes wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from herdgate.testing.gateway import RunningGateway, running_gateway

from .conftest import Loop, Simulate, json_of, proxyctl

ADMIN_KEY = "an-admin-key-for-these-commands"
DRAINED = """
from herdgate import hookimpl

class Drained:
    herdgate_api = 1

    @hookimpl
    def select_candidates(self, exchange, candidates):
        exchange.explain("%s is being repaired", candidates[0].backend.name)
        return candidates[1:]
"""


@pytest.fixture
def gateway(aside: Loop, simulate: Simulate, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningGateway]:
    """A running gateway in front of two backends, and an environment that leads to it."""
    backends = [simulate("gpu1", "llama3.2", "only-first"), simulate("gpu2", "llama3.2")]
    (place / "drained.py").write_text(DRAINED)
    builtin = (Path(__file__).parents[3] / "plugins.toml").read_text()
    started = running_gateway(
        *backends,
        toml=f'{builtin}\n[[plugin]]\nuse = "./drained.py:Drained"\n',
        env={"HERDGATE_ADMIN_KEY": ADMIN_KEY},
        directory=place,
    )
    running = aside.run(started.__aenter__())
    aside.run(running.make_key("llama3.2", name="alice"))
    monkeypatch.setenv("HERDGATE_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("HERDGATE_PORT", running.url.rpartition(":")[2])
    yield running
    aside.run(started.__aexit__(None, None, None))


def test_what_would_be_tried(gateway: RunningGateway) -> None:
    lines = proxyctl("explain", "--key", "alice", "--model", "llama3.2").stdout.splitlines()
    assert lines[0] == "alice asks for llama3.2:latest (POST /api/chat)"
    rows = [line.split() for line in lines[2:-3] if "unchanged" not in line]
    assert rows == [
        ["STEP", "PLUGIN", "SAYS", "BACKENDS", "LEFT", "WHY"],
        ["identify", "api_keys", "knows", "alice", "-"],
        ["authorise", "model_access", "allows", "-", "pattern", "llama3.2"],
        ["catalogue", "-", "2", "of", "2", "usable", "gpu1,", "gpu2"],
        ["select_candidates", "drained", "drops", "gpu1", "gpu2", "gpu1", "is", "being", "repaired"],
    ]
    assert lines[-2].startswith("Not asked, because it would count: admit (limits")
    assert lines[-1] == "It would try gpu2."


def test_as_json(gateway: RunningGateway) -> None:
    told = json_of("explain", "--key", "alice", "--model", "llama3.2")
    assert told["candidates"] == ["gpu2"]
    assert told["refused"] is None


@pytest.mark.parametrize(
    ("key", "model", "conclusion"),
    [
        ("alice", "only-first", "with status 403 by the gateway (authorise): no plugin allowed it."),
        ("admin", "nothing", "with status 403 by the gateway (catalogue): no backend has this model."),
        ("admin", "only-first", "with status 503 by the plugin drained (select_candidates): gpu1 is being repaired."),
    ],
)
def test_what_would_be_refused(gateway: RunningGateway, key: str, model: str, conclusion: str) -> None:
    result = proxyctl("explain", "--key", key, "--model", model, code=1)
    assert result.stdout.splitlines()[-1] == f"It would be refused {conclusion}"
    assert json_of("explain", "--key", key, "--model", model, code=1)["refused"]["status"] in {403, 503}


def test_somebody_whom_nobody_knows(gateway: RunningGateway) -> None:
    result = proxyctl("explain", "--key", "nobody", "--model", "llama3.2", code=1)
    assert result.stderr == "Error: no plugin knows a caller with the name or id nobody\n"


def test_words_from_elsewhere_do_not_steer_the_terminal(gateway: RunningGateway) -> None:
    result = proxyctl("explain", "--key", "admin", "--model", "a\x1b[31mb", code=1)
    assert "\x1b" not in result.output


def test_without_an_admin_key_it_says_which_one_to_give(place: Path) -> None:
    result = proxyctl("explain", "--key", "alice", "--model", "llama3.2", code=2)
    assert "set HERDGATE_ADMIN_KEY" in result.stderr
    assert "proxyctl keys create --admin" in result.stderr


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: "nonsense-nonsense", "does not know the key in HERDGATE_ADMIN_KEY"),
        (lambda running: running.make_key("*", name="bob"), "HERDGATE_ADMIN_KEY is no admin key"),
    ],
)
def test_a_key_that_is_no_admin_key(
    gateway: RunningGateway, aside: Loop, monkeypatch: pytest.MonkeyPatch, make: Callable[..., object], said: str
) -> None:
    made = make(gateway)
    key = made if isinstance(made, str) else aside.run(made)["authorization"].removeprefix("Bearer ")  # type: ignore[arg-type]
    monkeypatch.setenv("HERDGATE_ADMIN_KEY", key)
    result = proxyctl("explain", "--key", "alice", "--model", "llama3.2", code=1)
    assert said in result.stderr
    assert key not in result.output


def test_a_secret_given_as_a_name_is_not_sent_anywhere(place: Path) -> None:
    result = proxyctl("explain", "--key", "hg_secret", "--model", "llama3.2", code=2)
    assert "not the key itself" in result.stderr
    assert "hg_secret" not in result.output


def test_nothing_listens(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_ADMIN_KEY", ADMIN_KEY)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("HERDGATE_PORT", str(port))
        result = proxyctl("explain", "--key", "alice", "--model", "llama3.2", code=1)
    assert f"no gateway answers at http://127.0.0.1:{port}" in result.stderr


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "is no gateway of this version"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered with status 404"),
    ],
)
def test_something_else_listens(
    raw: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch, reply: bytes, said: str
) -> None:
    monkeypatch.setenv("HERDGATE_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("HERDGATE_PORT", raw(reply).rpartition(":")[2])
    assert said in proxyctl("explain", "--key", "alice", "--model", "llama3.2", code=1).stderr
