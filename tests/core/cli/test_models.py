"""`proxyctl list-models`, against backends on real sockets."""

import time
from pathlib import Path
from typing import Any

import pytest

from herdgate.testing.simulated import SimModel

from .conftest import Loop, Run, Simulate, Use, json_of, proxyctl


def test_json_is_what_scripts_rely_on(simulate: Simulate, use: Use, dead: dict[str, str]) -> None:
    one = simulate("one", SimModel("llama3.2", digest="a" * 64, size=5), "qwen3:8b")
    two = simulate("two", "LLAMA3.2:latest", "team/thinker")
    use(one, dead, two)

    answer = json_of("list-models")

    assert list(answer) == ["backends", "union", "models", "cache"]
    first, broken, last = answer["backends"]
    assert first["models"][0] == {"name": "llama3.2:latest", "digest": "a" * 64, "size": 5}
    assert {**first, "models": len(first["models"])} == {
        "name": "one",
        "base_url": one.url,
        "ok": True,
        "error": None,
        "version": one.behaviour.version,
        "models": 2,
    }
    assert broken["ok"] is False
    assert "refused" in broken["error"]
    assert broken["models"] == []
    assert last["name"] == "two"
    assert answer["union"] == 3
    holders = {model["name"]: model["backends"] for model in answer["models"]}
    assert holders == {"llama3.2:latest": ["one", "two"], "qwen3:8b": ["one"], "team/thinker:latest": ["two"]}
    assert answer["cache"] == {"kind": "sqlite", "entries": 0}


def test_the_table_says_where_a_model_is_served_from(simulate: Simulate, use: Use, dead: dict[str, str]) -> None:
    use(simulate("one", "llama3.2"), dead, simulate("two", "llama3.2", "qwen3:8b"))

    lines = proxyctl("list-models").stdout.splitlines()

    rows = [line.split() for line in lines if "llama3.2" in line or "qwen3" in line]
    assert [(row[0], row[-1]) for row in rows] == [("*", "one"), ("llama3.2:latest", "one"), ("*", "two")]
    assert any("failed: cannot connect" in line for line in lines)
    assert lines[-1].startswith("2 models on 2 of 3 backends; 0 entries in the shared catalogue cache")
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_who_only_looks_makes_no_state(simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2"))
    assert json_of("list-models")["cache"] == {"kind": "sqlite", "entries": 0}
    for command in (["probe"], ["ps"], ["show", "llama3.2"], ["plugins", "list"], ["config", "check"]):
        proxyctl(*command)
    assert [file.name for file in place.iterdir() if file.name.startswith("state.db")] == []


def test_nobody_answers(use: Use, dead: dict[str, str]) -> None:
    use(dead)
    assert json_of("list-models", code=1)["union"] == 0


def test_a_state_that_is_away_is_no_reason_not_to_ask(
    simulate: Simulate, use: Use, dead: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(simulate("one", "llama3.2"))
    monkeypatch.setenv("HERDGATE_STATE", dead["base_url"].replace("http://", "redis://:secret@"))

    cache = json_of("list-models")["cache"]
    said = proxyctl("list-models").stdout

    assert cache["kind"] == "redis"
    assert cache["entries"] is None
    assert "refuses" in cache["error"]
    assert "cannot be read" in said
    assert "secret" not in said + cache["error"]


def test_a_slow_backend_delays_nobody(simulate: Simulate, use: Use, aside: Loop) -> None:
    slow = simulate("slow", "llama3.2")
    aside.run(slow.freeze())
    use(slow, simulate("one", "llama3.2"))
    began = time.monotonic()

    answer = json_of("list-models", "--timeout", "0.5")

    assert time.monotonic() - began < 3
    assert [backend["ok"] for backend in answer["backends"]] == [False, True]
    assert answer["backends"][0]["error"] == "no answer within 0.5 s"
    aside.run(slow.thaw())


def test_the_hooks_of_plugins_count(simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2", "secret-model", version="1.2.3"))
    (place / "mine.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from herdgate import BackendSettings, ModelEntry, hookimpl\n"
        "class Mine:\n"
        "    herdgate_api = 1\n"
        "    @hookimpl\n"
        "    @asynccontextmanager\n"
        "    async def lifespan(self, app):\n"
        "        self.started = True\n"
        "        yield\n"
        "    def list(self):\n"
        "        assert self.started\n"
        "        return [BackendSettings(name='mine', base_url='http://mine', tags=('single',))]\n"
        "    @hookimpl\n"
        "    def backend_sources(self): return self\n"
        "    @hookimpl\n"
        "    def list_models(self, backend):\n"
        "        return [ModelEntry.from_tags({'name': 'only'})] if 'single' in backend.tags else None\n"
        "    @hookimpl\n"
        "    def shape_catalogue(self, entries):\n"
        "        return [entry for entry in entries if not entry.name.model.startswith('secret')]\n"
    )
    write_plugins(place, "./mine.py:Mine", "configured_backends", "ollama_discovery", "api_keys")

    answer = json_of("list-models")

    found = {backend["name"]: [model["name"] for model in backend["models"]] for backend in answer["backends"]}
    assert found == {"mine": ["only:latest"], "one": ["llama3.2:latest"]}


def test_a_faulty_plugin_is_a_row_without_a_traceback(run: Run, simulate: Simulate, use: Use, place: Path) -> None:
    use(simulate("one", "llama3.2"))
    (place / "bad.py").write_text(
        "from herdgate import hookimpl\n"
        "class Bad:\n"
        "    herdgate_api = 1\n"
        "    @hookimpl\n"
        "    def list_models(self, backend): raise KeyError('oops')\n"
    )
    write_plugins(place, "configured_backends", "./bad.py:Bad", "ollama_discovery")

    program = run("list-models")

    assert program.end() == 1
    assert program.said.count("plugin bad failed in list_models: KeyError: 'oops'") == 1
    assert "Traceback" not in program.said


def test_a_faulty_source_stops_the_command(place: Path) -> None:
    (place / "bad.py").write_text(
        "from herdgate import hookimpl\n"
        "class Bad:\n"
        "    herdgate_api = 1\n"
        "    def list(self): raise OSError('no inventory')\n"
        "    @hookimpl\n"
        "    def backend_sources(self): return self\n"
    )
    write_plugins(place, "./bad.py:Bad")

    result = proxyctl("list-models", code=2)

    assert result.stderr == "Error: plugin bad failed in backend_sources: OSError: no inventory\n"


def test_cloud_models_are_shown_but_not_offered(simulate: Simulate, use: Use) -> None:
    use(simulate("one", SimModel("big", remote_host="https://ollama.com", remote_model="big")))

    assert json_of("list-models")["union"] == 0
    assert "cloud is off for this backend" in proxyctl("list-models").stdout


def test_disabled_backends_are_left_out(simulate: Simulate, use: Use, dead: dict[str, Any]) -> None:
    use(simulate("one", "llama3.2"), {**dead, "enabled": False})
    assert [backend["name"] for backend in json_of("list-models")["backends"]] == ["one"]


def test_broken_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_PORT", "many")
    assert "HERDGATE_PORT" in proxyctl("list-models", code=2).stderr


def write_plugins(place: Path, *uses: str) -> None:
    (place / "plugins.toml").write_text("".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses))
