"""`proxyctl config`: every mistake at once, every setting with its origin."""

import json
from pathlib import Path

import pytest

from .conftest import json_of, proxyctl


def test_all_is_well(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_BACKEND", "http://typo")

    result = proxyctl("config", "check")

    assert result.stdout.startswith("ok: 1 backend, ")
    assert "127.0.0.1 port 11435" in result.stdout
    assert "notice: the variable OLLAMA_BACKEND has no effect" in result.stdout
    assert json_of("config", "check")["ok"] is True


def test_a_list_that_serves_nothing_is_worth_notices(place: Path) -> None:
    (place / "plugins.toml").write_text('[[plugin]]\nuse = "generic_403"\n')

    result = proxyctl("config", "check")

    assert result.stdout.startswith("ok: 0 backends, 1 plugin")
    notices = [line for line in result.stdout.splitlines() if line.startswith("notice: no plugin ")]
    assert [line[line.index("(") + 1 : line.index(")")] for line in notices] == [
        "backend_sources",
        "list_models",
        "authenticate",
        "authorise",
    ]
    assert len(json_of("config", "check")["notices"]) == 4


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (("configured_backends",), "ok: 1 backend, "),
        (("configured_backends", "./inventory.py:Inventory"), "ok: 1 backend and those of inventory, "),
        (("./inventory.py:Inventory",), "ok: the backends of inventory, "),
    ],
)
def test_the_backends_are_those_that_plugins_give(place: Path, listed: tuple[str, ...], said: str) -> None:
    (place / "inventory.py").write_text(
        "from herdgate import hookimpl\nclass Inventory:\n    herdgate_api = 1\n"
        "    @hookimpl\n    def backend_sources(self): raise RuntimeError('nothing is started here')\n"
    )
    others = ("ollama_discovery", "anonymous", "model_access")
    (place / "plugins.toml").write_text("".join(f'[[plugin]]\nuse = "{use}"\n' for use in (*listed, *others)))

    result = proxyctl("config", "check")

    assert result.stdout.startswith(said)
    assert "notice" not in result.stdout


def test_mistakes_in_settings_and_plugins_are_told_together(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_PORT", "many")
    (place / ".env").write_text("HERDGATE_WORKERS=0\n")
    (place / "plugins.toml").write_text(
        '[discovery]\ninterval = "never"\n[[plugin]]\nuse = "capacity"\nsize = 3\n[[plugin]]\nuse = "nobody"\n'
    )

    result = proxyctl("config", "check", code=2)
    answer = json_of("config", "check", code=2)

    assert result.stdout == ""
    assert result.stderr.startswith("Error: 5 problems in the settings:")
    expected = ["HERDGATE_PORT", ".env:1: HERDGATE_WORKERS", "plugins.toml:2", "size", "nobody"]
    for said in expected:
        assert said in result.stderr
    assert "Traceback" not in result.output
    assert answer["ok"] is False
    assert len(answer["problems"]) == 5


def test_a_file_that_cannot_be_read(place: Path) -> None:
    (place / "plugins.toml").write_text("[[plugin]\n")
    assert "plugins.toml:1" in proxyctl("config", "check", code=2).stderr
    assert "absent.toml" in proxyctl("config", "check", "--config", "absent.toml", code=2).stderr


def test_show_tells_origins_and_no_secrets(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_ADMIN_KEY", "hidden-admin-key-0123456789")
    monkeypatch.setenv("HERDGATE_STATE", "redis://user:hidden-password@redis.example:6379/2")
    (place / ".env").write_text("HERDGATE_PORT=12000\n")
    (place / "own.toml").write_text(
        '[[backend]]\nname = "a"\nbase_url = "http://a"\nauth_token = "hidden-token"\nheaders = { X-Key = "hidden" }\n'
        '[[plugin]]\nuse = "configured_backends"\n[[plugin]]\nuse = "./p.py:P"\nnote = "hidden-note"\nlevel = "fine"\n'
    )
    (place / "p.py").write_text(
        "from herdgate import hookimpl\nfrom pydantic import BaseModel, SecretStr\n"
        "class P:\n    herdgate_api = 1\n"
        "    class Settings(BaseModel):\n        note: SecretStr\n        level: str\n"
        "    def __init__(self, settings): pass\n"
        "    @hookimpl\n    def exchange_ended(self): ...\n"
    )

    rows = {row["key"]: row for row in json_of("config", "show", "--config", "own.toml")["settings"]}
    text = proxyctl("config", "show", "--config", "own.toml").stdout

    assert (rows["server.port"]["value"], rows["server.port"]["origin"]) == ("12000", ".env:1")
    assert rows["server.state"]["value"] == "redis://redis.example:6379/2"
    assert rows["server.host"]["origin"] == "default"
    assert rows["backend[0].auth_token"]["origin"] == "own.toml:4"
    assert rows["plugin[1].note"]["value"] == "********"
    assert rows["plugin[1].level"]["value"] == "fine"
    assert "hidden" not in json.dumps(rows) + text


def test_show_with_a_plugin_that_cannot_be_loaded(place: Path) -> None:
    (place / "plugins.toml").write_text('[[plugin]]\nuse = "nobody"\nnote = "maybe-secret"\n')

    result = proxyctl("config", "show")

    assert "nobody" in result.stdout
    assert "Warning: 1 problem" in result.stderr
    assert "maybe-secret" not in result.output
