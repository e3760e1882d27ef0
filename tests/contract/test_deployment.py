"""The files that operators start from are true: every setting in them exists and is accepted."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from herdgate.config import Settings, load, reference

ROOT = Path(__file__).parents[2]
COMPOSITION = (ROOT / "docker-compose.yml").read_text()

COMMENTED_SETTING = re.compile(r"#(?P<setting>(?P<name>[A-Z_]+)=.*)")
PLACEHOLDER = re.compile(r"\$\{(?P<name>\w+)(?::[-?].*)?\}")


def examples() -> list[tuple[str, str]]:
    """The settings that `.env.example` shows, commented out there: name and line."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return [(match["name"], match["setting"]) for line in lines if (match := COMMENTED_SETTING.fullmatch(line))]


@pytest.mark.parametrize(("name", "setting"), examples())
def test_a_setting_of_the_example_is_accepted(name: str, setting: str, tmp_path: Path) -> None:
    (tmp_path / "plugins.toml").touch()
    if name == "HERDGATE_ADMIN_KEY_FILE":
        (tmp_path / "key").write_text("hg_0123456789abcdef0123456789abcdef")
        setting = f"{name}=key"
    (tmp_path / ".env").write_text(f"{setting}\n")

    load({}, {}, tmp_path)


def test_the_example_shows_every_variable_there_is() -> None:
    known = {row.environment for row in reference() if row.environment}
    assert {name for name, _ in examples()} == known


def composed(environ: dict[str, str], directory: Path) -> Settings:
    """What the gateway of docker-compose.yml makes of its files and environment."""
    (directory / "plugins.toml").write_bytes((ROOT / "deploy" / "plugins.toml").read_bytes())
    written = re.findall(r"^      (\w+): (.+)$", COMPOSITION, re.MULTILINE)
    inside = {name: PLACEHOLDER.sub(lambda match: environ.get(match["name"], ""), value) for name, value in written}
    image = re.findall(r"\b((?:HERDGATE|XDG)_\w+)=(\S+)", (ROOT / "Dockerfile").read_text())
    return load({}, dict(image) | inside, directory)


KEY = "hg_0123456789abcdef0123456789abcdef"


def test_the_composition_uses_its_own_services(tmp_path: Path) -> None:
    settings = composed({"HERDGATE_ADMIN_KEY": KEY}, tmp_path)

    services = re.findall(r"^  (ollama-\d):", COMPOSITION.partition("\nvolumes:")[0], re.MULTILINE)
    assert len(services) == 2
    assert [backend.base_url for backend in settings.backends] == [f"http://{name}:11434" for name in services]
    assert settings.server.host == "0.0.0.0"
    assert settings.server.state == SecretStr("redis://redis:6379/0")
    assert settings.admin_key == SecretStr(KEY)


def test_the_environment_replaces_the_backends_of_the_composition(tmp_path: Path) -> None:
    elsewhere = '[{"name": "far", "base_url": "https://ollama.example.com"}]'

    settings = composed({"HERDGATE_ADMIN_KEY": KEY, "OLLAMA_BACKENDS": elsewhere}, tmp_path)

    assert [backend.name for backend in settings.backends] == ["far"]
