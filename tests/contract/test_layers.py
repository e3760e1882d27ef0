"""The import contracts of pyproject.toml hold, and each breaks on the import that it is there to forbid.

A contract whose pattern matches nothing is kept whatever one writes, hence the second half.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of both source roots that a test may spoil."""
    for folder in ("core", "plugins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-cache", "--no-logo", "--contract", contract],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tree / "core"), str(tree / "plugins")])},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


CONTRACTS = ["core-imports-no-plugin", "plugins-import-the-public-core", "layers"]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_contract_is_kept(tree: Path, contract: str) -> None:
    result = lint(tree, contract)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("contract", "module", "line", "reported"),
    [
        (
            "core-imports-no-plugin",
            "core/herdgate/names.py",
            "import herdgate_plugins",
            "herdgate.names -> herdgate_plugins",
        ),
        (
            "plugins-import-the-public-core",
            "plugins/herdgate_plugins/intruder.py",
            "from herdgate import names",
            "herdgate_plugins.intruder -> herdgate.names",
        ),
        (
            "plugins-import-the-public-core",
            "plugins/herdgate_plugins/intruder.py",
            "from herdgate.state.sqlite import *",
            "herdgate_plugins.intruder -> herdgate.state.sqlite",
        ),
        ("layers", "core/herdgate/names.py", "import herdgate.hooks", "herdgate.names -> herdgate.hooks"),
    ],
)
def test_contract_breaks_on_the_import_it_forbids(
    tree: Path, contract: str, module: str, line: str, reported: str
) -> None:
    with (tree / module).open("a") as file:
        file.write(f"\n{line}\n")

    result = lint(tree, contract)

    assert result.returncode == 1, result.stdout + result.stderr
    assert reported in result.stdout


def test_a_plugin_may_import_the_public_core(tree: Path) -> None:
    (tree / "plugins/herdgate_plugins/guest.py").write_text("import herdgate\nfrom herdgate import *\n")

    result = lint(tree, "plugins-import-the-public-core")

    assert result.returncode == 0, result.stdout + result.stderr


# The same read off the source, where a contract of the linter cannot look: inside functions, by name, between plugins.


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it; a relative import begins with its dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def sources(root: str) -> list[Path]:
    return sorted((ROOT / root).rglob("*.py"))


def _package_of(path: Path) -> str:
    """What the modules of a plugin that is a package have in common; they may import each other."""
    return ".".join(path.parent.relative_to(ROOT / "plugins").parts)


@pytest.mark.parametrize("path", sources("plugins"), ids=lambda path: path.stem)
def test_a_built_in_plugin_imports_nothing_of_ours_but_the_public_names(path: Path) -> None:
    ours = {name for name in imports(path) if name.startswith((".", "herdgate"))}
    own = {name for name in ours if path.parent.stem != "herdgate_plugins" and name.startswith(_package_of(path))}
    assert ours - own <= {"herdgate"}
    assert "import_module" not in path.read_text()


@pytest.mark.parametrize("path", sources("core"), ids=lambda path: str(path.relative_to(ROOT / "core")))
def test_the_core_names_no_plugin_package(path: Path) -> None:
    assert not {name for name in imports(path) if name.startswith("herdgate_plugins")}
    assert not re.search(r"""["']herdgate_plugins""", path.read_text())
