"""`proxyctl config show` and the settings reference."""

from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from herdgate.backend import BackendSettings
from herdgate.config import MASK, Row, describe, load, reference
from herdgate.config.schema import KNOWN_VARIABLES, SECTIONS

TOML = """\
[server]
state = "redis://user:s3kr1t-1@redis:6379/1"
max_body = 1000
total_deadline = "1h30m"
trusted_proxies = ["10.0.0.0/8", "::1"]
[[backend]]
name = "a"
base_url = "http://a"
auth_token = "s3kr1t-2"
headers = { X-Team = "s3kr1t-3", X-Other = "s3kr1t-4" }
tags = ["fast", "big"]
[[plugin]]
use = "own"
password = "s3kr1t-5"
credential = "s3kr1t-6"
pin = 3141592
token_length = 2718281
file = "out.log"
rate = 5
steps = [1, 2]
"""


class Own(BaseModel):
    password: str
    credential: SecretStr
    pin: SecretStr
    token_length: int
    file: str
    rate: int
    steps: list[int]


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Row]:
    return described(tmp_path)


def described(tmp_path: Path, models: dict[str, type[BaseModel]] | None = None) -> dict[str, Row]:
    (tmp_path / "plugins.toml").write_text(TOML)
    environ = {"HOME": "/home/op", "HERDGATE_ADMIN_KEY": "s3kr1t-7-long-enough", "HERDGATE_PORT": "5"}
    listed = describe(load({"workers": 2}, environ, tmp_path), models)
    assert len({row.key for row in listed}) == len(listed)
    return {row.key: row for row in listed}


@pytest.mark.parametrize(
    ("key", "value", "origin"),
    [
        ("server.workers", "2", "flag --workers"),
        ("server.port", "5", "environment HERDGATE_PORT"),
        ("server.state", "redis://redis:6379/1", "plugins.toml:2"),
        ("server.max_body", "1000 bytes", "plugins.toml:3"),
        ("server.total_deadline", "5400 s", "plugins.toml:4"),
        ("server.trusted_proxies", "10.0.0.0/8, ::1/128", "plugins.toml:5"),
        ("server.drain", "30 s", "default"),
        ("server.log_format", "text on a terminal, else json", "default"),
        ("discovery.interval", "15 s", "default"),
        ("metrics.public", "false", "default"),
        ("admin_key", MASK, "environment HERDGATE_ADMIN_KEY"),
        ("backend[0].name", "a", "plugins.toml:7"),
        ("backend[0].auth_token", MASK, "plugins.toml:9"),
        ("backend[0].headers", f"X-Team: {MASK}, X-Other: {MASK}", "plugins.toml:10"),
        ("backend[0].tags", "fast, big", "plugins.toml:11"),
        ("backend[0].max_concurrency", "none", "default"),
        ("plugin[0].use", "own", "plugins.toml:12"),
        ("plugin[0].rate", "5", "plugins.toml:19"),
        ("plugin[0].file", MASK, "plugins.toml:18"),
    ],
)
def test_each_row_has_value_and_origin(rows: dict[str, Row], key: str, value: str, origin: str) -> None:
    assert rows[key] == Row(key, value, origin)


def test_every_setting_has_a_row(rows: dict[str, Row]) -> None:
    expected = {f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields}
    expected |= {f"backend[0].{name}" for name in BackendSettings.model_fields}
    assert expected <= rows.keys()


def test_no_secret_is_shown_with_or_without_the_plugins_model(tmp_path: Path, rows: dict[str, Row]) -> None:
    for listed in (rows, described(tmp_path, {"own": Own})):
        text = str(list(listed.values()))
        assert "s3kr1t" not in text
        assert "2718281" not in text
    assert "3141592" not in text


def test_with_the_plugins_model_its_harmless_settings_are_shown(tmp_path: Path) -> None:
    rows = described(tmp_path, {"own": Own})
    assert rows["plugin[0].file"].value == "out.log"
    assert rows["plugin[0].steps"].value == "[1, 2]"


def test_the_reference_has_every_setting_with_meaning_and_what_it_accepts() -> None:
    rows = reference()
    assert {row.environment for row in rows} - {""} == KNOWN_VARIABLES
    keys = {row.key for row in rows}
    assert {f"[{section}] {name}" for section, model in SECTIONS.items() for name in model.model_fields} <= keys
    assert {f"[[backend]] {name}" for name in BackendSettings.model_fields} <= keys
    for row in rows:
        assert row.meaning.endswith("."), row
        assert row.accepted, row
        assert row.default, row


def test_the_reference_knows_defaults_in_readable_form() -> None:
    defaults = {row.key: row.default for row in reference() if row.key}
    assert defaults["[server] max_body"] == "100 MiB"
    assert defaults["[server] drain"] == "30 s"
    assert defaults["[server] port"] == "11435"
    assert defaults["[[backend]] first_event_timeout"] == "600 s"
    assert defaults["[[backend]] name"] == "required"
    assert "XDG_STATE_HOME" in defaults["[server] state"]
