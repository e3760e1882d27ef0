"""`proxyctl pull`, `rm`, `ps` and `show`: what the backends are asked, what people and programs are told."""

from __future__ import annotations

import httpx
import pytest
from rich.console import Console

from herdgate.cli import pull as pulling
from herdgate.testing.faults import Cut, Events, Hang, Status
from herdgate.testing.simulated import SimModel, SimulatedOllama

from .conftest import Loop, Simulate, Use, json_of, proxyctl

MODEL = "llama3.2"


def asked(backend: SimulatedOllama) -> list[str]:
    return [f"{each.method} {each.path}" for each in backend.requests if each.path not in {"/api/tags", "/api/version"}]


@pytest.fixture
def pair(simulate: Simulate, use: Use) -> tuple[SimulatedOllama, SimulatedOllama]:
    one = simulate("one", MODEL, "only-one", registry=("fresh", "only-two"))
    two = simulate("two", MODEL, "only-two", registry=("fresh", "only-two"))
    use(one, two)
    return one, two


Pair = tuple[SimulatedOllama, SimulatedOllama]

# pull


@pytest.mark.parametrize(
    ("model", "options", "to"),
    [
        ("fresh", (), ["one"]),
        ("only-two", (), ["two"]),
        (MODEL, (), ["one", "two"]),
        ("fresh", ("--backend", "TWO"), ["two"]),
        ("fresh", ("--backend", "two", "--backend", "one"), ["one", "two"]),
        ("fresh", ("--all",), ["one", "two"]),
    ],
)
def test_a_model_is_pulled_to_where_it_belongs_or_where_it_is_said(
    pair: Pair, model: str, options: tuple[str, ...], to: list[str]
) -> None:
    for backend in pair:
        backend.behaviour.registry = ("fresh", "only-two", MODEL)
    said = json_of("pull", model, *options)
    assert said["ok"] is True
    assert [each["name"] for each in said["backends"]] == to
    assert all(
        each == {"name": each["name"], "ok": True, "error": None, "bytes": 1_300_000_000} for each in said["backends"]
    )
    assert [backend.name for backend in pair if asked(backend) == ["POST /api/pull"]] == to


def test_who_is_no_terminal_gets_a_line_for_each_step(pair: Pair) -> None:
    said = proxyctl("pull", "fresh").stdout.splitlines()
    assert said[0] == "one: pulling manifest"
    assert said[-3:] == ["one: verifying sha256 digest", "one: writing manifest", "one: success"]
    assert len([line for line in said if "pulling " in line]) == 2


def test_a_pull_that_fails_on_one_backend_goes_on_on_the_others(pair: Pair) -> None:
    one, two = pair
    two.behaviour.registry = ()
    said = json_of("pull", "fresh", "--all", code=1)
    assert said["ok"] is False
    assert [each["error"] for each in said["backends"]] == [None, "pull model manifest: file does not exist"]
    assert "fresh" in one.models
    assert "two: failed: pull model manifest: file does not exist" in proxyctl("pull", "fresh", "--all", code=1).stdout


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Status(500, "disk is full"), "disk is full"),
        (Cut(2), "connection closed before the last chunk"),
        (Events((b'{"status":"pulling manifest"}\n',)), "it stopped before the end"),
        (Events((b"hello\n",)), "it answered something that is not JSON"),
        (Events((b'{"status":"success"}\n{"error":"no"}\n',)), "no"),
    ],
)
def test_a_pull_that_does_not_end_with_success_is_none(pair: Pair, fault: Status | Cut | Events, why: str) -> None:
    pair[0].script("/api/pull", fault)
    said = json_of("pull", "fresh", code=1)
    assert why in said["backends"][0]["error"]


def test_a_backend_that_is_down_is_told(pair: Pair, aside: Loop) -> None:
    aside.run(pair[1].stop())
    said = json_of("pull", "fresh", "--all", code=1)
    assert said["backends"][0]["ok"] is True
    assert "is a server running there?" in said["backends"][1]["error"]
    aside.run(pair[0].stop())
    assert "no backend answers" in proxyctl("pull", "fresh", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a b",), "invalid model name"),
        (("fresh", "--backend", "three"), "no backend is named three; there are: one, two"),
        (("fresh", "--backend", "one", "--all"), "give --backend or --all, not both"),
    ],
)
def test_a_mistake_in_the_command_line_asks_nobody(pair: Pair, arguments: tuple[str, ...], message: str) -> None:
    assert message in proxyctl("pull", *arguments, code=2).stderr
    assert asked(pair[0]) == asked(pair[1]) == []


def test_the_backend_is_told_no_longer_than_somebody_waits(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("herdgate.cli.managing.SILENCE", 0.2)
    pair[0].script("/api/pull", Hang(1))
    assert json_of("pull", "fresh", code=1)["backends"][0]["error"] == "no answer within 0.2 s"


def test_a_terminal_sees_a_bar_for_each_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(force_terminal=True, width=150, record=True, color_system=None)
    monkeypatch.setattr(pulling, "console", lambda: terminal)
    pulls = [pulling.Pull("one"), pulling.Pull("two")]
    with pulling.Bars(pulls) as _:
        bars = pulling.Bars(pulls)
    with bars:
        pulls[0].hear({"status": "pulling ab", "digest": "sha256:ab", "total": 2_000_000_000, "completed": 500_000_000})
        pulls[0].hear({"status": "pulling cd", "digest": "sha256:cd", "total": 2_000_000_000})
        bars.show(pulls[0])
        pulls[1].error = "disk is full"
        bars.show(pulls[1])
    lines = terminal.export_text()
    assert "two: disk is full" in lines
    assert "pulling cd" in lines
    assert "0.5/4.0 GB" in lines


# rm


def test_a_model_is_deleted_from_every_backend_that_has_it(pair: Pair) -> None:
    said = json_of("rm", MODEL.upper())
    assert said == {
        "model": f"{MODEL.upper()}:latest",
        "ok": True,
        "backends": [{"name": name, "removed": True, "error": None} for name in ("one", "two")],
    }
    assert MODEL not in pair[0].models
    assert MODEL not in pair[1].models
    assert proxyctl("rm", MODEL, code=1).stdout == f"no backend has {MODEL}:latest\n"


def test_a_model_is_deleted_from_the_backend_that_is_named(pair: Pair) -> None:
    assert proxyctl("rm", MODEL, "--backend", "two").stdout == "two: deleted\n"
    assert MODEL in pair[0].models
    assert MODEL not in pair[1].models


def test_a_delete_that_does_not_reach_every_backend_is_no_success(pair: Pair, aside: Loop) -> None:
    pair[0].script("/api/delete", Status(500, "disk is full"))
    assert json_of("rm", MODEL, code=1)["backends"][0] == {"name": "one", "removed": False, "error": "disk is full"}
    aside.run(pair[0].stop())
    said = proxyctl("rm", "only-two", code=1).stdout
    assert "two: deleted" in said
    assert "one: failed: " in said


# ps


def test_what_is_loaded_is_told_for_each_backend(pair: Pair) -> None:
    pair[1].behaviour.registry = ()
    load(pair[1])
    said = json_of("ps")
    assert [(each["name"], each["ok"], [row["name"] for row in each["models"]]) for each in said["backends"]] == [
        ("one", True, []),
        ("two", True, [f"{MODEL}:latest"]),
    ]
    lines = proxyctl("ps").stdout.splitlines()
    assert lines[1].split() == ["one", "none"]
    assert lines[2].split()[:4] == ["two", f"{MODEL}:latest", "1.3", "GB"]
    assert [each["name"] for each in json_of("ps", "--backend", "two")["backends"]] == ["two"]


def load(backend: SimulatedOllama) -> None:
    httpx.post(f"{backend.url}/api/generate", json={"model": MODEL}, trust_env=False).raise_for_status()


@pytest.mark.parametrize(
    ("fault", "code", "shown"),
    [
        (Status(500, "no"), 1, "one: no"),
        (Events((b"[]",)), 1, "one: its answer is not that of an Ollama server"),
        (Hang(), 0, "busy (loading a model)"),
    ],
)
def test_a_backend_that_cannot_say_is_told(pair: Pair, fault: Status | Events | Hang, code: int, shown: str) -> None:
    pair[0].script("/api/ps", fault)
    assert shown in proxyctl("ps", "--timeout", "0.5", code=code).stdout


# show


def test_a_model_is_shown_as_each_backend_has_it(simulate: Simulate, use: Use) -> None:
    one, two = simulate("one", MODEL), simulate("two", SimModel(MODEL, digest="b" * 64, parameter_size="3B"))
    use(one, two, simulate("three", "other"))
    said = json_of("show", MODEL)
    assert [(each["name"], each["digest"][:3]) for each in said["backends"]][1] == ("two", "bbb")
    assert said["backends"][0]["show"]["details"]["parameter_size"] == "1B"
    assert said["failed"] == []
    text = proxyctl("show", MODEL).stdout
    assert "their digests differ" in text
    assert "three" not in text
    assert "their digests differ" not in proxyctl("show", MODEL, "--backend", "two").stdout


def test_a_model_that_nobody_has_is_a_bad_answer(pair: Pair) -> None:
    assert proxyctl("show", "nothing", code=1).stdout == "no backend has nothing:latest\n"


def test_a_backend_that_does_not_show_it_is_told(pair: Pair, aside: Loop) -> None:
    pair[0].script("/api/show", Status(500, "no"))
    assert json_of("show", MODEL, code=1)["backends"][0]["error"] == "no"
    aside.run(pair[0].stop())
    assert json_of("show", MODEL, code=1)["failed"][0]["name"] == "one"
