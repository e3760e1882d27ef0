"""What a reader of the documentation types or follows is there: generated pages, links, commands, names."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import click
import pytest
from tests.contract.documents import ROOT, Document, document, documents

from herdgate.cli import main
from herdgate.config import reference
from herdgate.surface import find

DOCUMENTS = documents()
INDIRECT = ["plugins.toml", ".env.example", "docker-compose.yml", "deploy/plugins.toml"]
"""Files for operators whose comments name commands."""


def test_the_generated_pages_are_those_of_the_code() -> None:
    command = [sys.executable, "scripts/generate_docs.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Document) -> None:
    for target in page.links():
        path, _, anchor = target.partition("#")
        place = (page.path.parent / path).resolve() if path else page.path
        assert place.exists(), f"{page.name} links to {target}"
        assert place.is_relative_to(ROOT)
        if anchor:
            assert anchor in document(str(place.relative_to(ROOT))).anchors(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", ["configuration.md", "operating.md", "security.md", "hooks.md"])
def test_readers_find_every_page_from_the_first_one(name: str) -> None:
    assert f"docs/{name}" in document("README.md").links()


# commands


def commands() -> Iterator[tuple[str, str]]:
    """Every `proxyctl …` that is shown, with where."""
    for page in DOCUMENTS:
        yield from ((page.name, line) for line in page.code() if "proxyctl" in line)
    for name in INDIRECT:
        for line in (ROOT / name).read_text("utf-8").splitlines():
            found = re.findall(r"`([^`]+)`", line) if "`" in line else re.findall(r"^# {3}(.*)", line)
            yield from ((name, code) for code in found if "proxyctl" in code)


def problem_of(line: str) -> str | None:
    """Why no such command exists."""
    for text in re.findall(r"\bproxyctl\b([^|;&)#]*)", line):
        command: click.Command = main
        for word in shlex.split(text):
            if word.startswith("-"):
                known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
                if word.partition("=")[0] not in known:
                    return f"{command.name} has no option {word}"
            elif isinstance(command, click.Group):
                found = command.get_command(click.Context(command), word)
                if found is None:
                    return f"{command.name} has no command {word}"
                command = found
    return None


@pytest.mark.parametrize(("where", "line"), list(commands()))
def test_a_command_that_is_shown_exists(where: str, line: str) -> None:
    assert problem_of(line) is None, where


@pytest.mark.parametrize(
    "line", ["proxyctl fly", "proxyctl keys fly", "proxyctl serve --fly", "KEY=$(proxyctl keys create --fly x)"]
)
def test_a_command_that_does_not_exist_would_be_noticed(line: str) -> None:
    assert problem_of(line)


def test_a_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {target for page in DOCUMENTS for line in page.code() for target in re.findall(r"\bmake (\w+)", line)}
    assert {"demo", "test"} <= shown <= targets


# names


def test_a_variable_that_is_named_exists() -> None:
    known = {row.environment for row in reference()}
    for page in DOCUMENTS:
        text = page.prose + "".join(block.text for block in page.blocks("sh"))
        assert set(re.findall(r"\b(?:HERDGATE_[A-Z_]+|OLLAMA_BA[A-Z_]+)\b", text)) <= known, page.name


def test_a_path_of_the_api_that_is_named_exists() -> None:
    for page in DOCUMENTS:
        paths = {path for code in page.code() for path in re.findall(r"(?<![\w.*-])/(?:api|v1)/[\w/]+", code)}
        assert not [path for path in paths if find(path) is None], page.name


def test_the_files_of_the_layout_exist() -> None:
    (layout,) = (block.text for block in document("CONTRIBUTING.md").blocks("text") if "core/herdgate" in block.text)
    names = [name for line in layout.splitlines() for name in re.findall(r"[\w/.]+(?:\.py|\.toml|/)(?=\s|$)", line)]
    assert len(names) > 30
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "core/herdgate" / name).exists(), name


def test_the_layers_of_the_architecture_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (checked,) = (contract["layers"] for contract in contracts if contract["id"] == "layers")
    blocks = [block.text.splitlines() for block in document("docs/architecture.md").blocks("text")]
    (shown,) = (lines for lines in blocks if lines[0] == "cli")
    assert shown == [re.sub(r"[()]", "", layer).replace(" : ", "  ") for layer in checked]
