"""The example plugins are projects that work: their tests pass, they load, their packages and READMEs are right."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from tests.contract.distributions import dist_info
from tests.contract.documents import ROOT, document

import herdgate
from herdgate.config import load
from herdgate.plugins import load_plugins

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/pyproject.toml"))


def project(example: str) -> dict[str, Any]:
    metadata: dict[str, Any] = tomllib.loads((ROOT / "examples" / example / "pyproject.toml").read_text())["project"]
    return metadata


def entry_point(example: str) -> tuple[str, str]:
    """The one name under which it can be used, and `module:Class`."""
    ((name, target),) = project(example)["entry-points"]["herdgate.plugins"].items()
    return name, target


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_own_tests_pass_without_an_installation(example: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT / "examples" / example,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_all_of_them_work_together(tmp_path: Path) -> None:
    for example in EXAMPLES:
        metadata, (name, target) = project(example), entry_point(example)
        dist_info(tmp_path, metadata["name"], metadata["version"], f"{name} = {target}")
    paths = [str(tmp_path), *(str(ROOT / "examples" / example) for example in EXAMPLES)]
    options = ["-q", "-p", "no:cacheprovider", "-c", "weighted/pyproject.toml", "--rootdir", "."]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_together.py"],
        cwd=ROOT / "examples",
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_its_readme_says_of_plugins_toml_loads(example: str, tmp_path: Path) -> None:
    name, target = entry_point(example)
    module, _, cls = target.partition(":")
    (block,) = document(f"examples/{example}/README.md").blocks("toml")
    as_file = f'use = "{ROOT}/examples/{example}/{module}.py:{cls}"'
    assert f'use = "{name}"' in block.text
    (tmp_path / "plugins.toml").write_text(block.text.replace(f'use = "{name}"', as_file))

    (plugin,) = load_plugins(load({}, {"HOME": str(tmp_path)}, tmp_path).plugins)

    assert plugin.name == name, "an entry point that is not the class in snake_case would have two names"
    described = set(type(plugin.instance).Settings.model_fields)  # type: ignore[attr-defined]
    assert all(field in block.text for field in described - {"default"})


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_wheel_carries_the_module_and_the_entry_point(example: str, tmp_path: Path) -> None:
    name, target = entry_point(example)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "examples" / example, capture_output=True, timeout=50, check=True)
    (wheel,) = tmp_path.iterdir()

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (archive.read(each).decode() for each in names if each.endswith("entry_points.txt"))

    assert {each for each in names if each.endswith(".py")} == {f"{target.partition(':')[0]}.py"}
    assert entry_points.split() == ["[herdgate.plugins]", name, "=", target]


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_asks_for_a_herdgate_that_this_one_is(example: str) -> None:
    (needed,) = (
        requirement
        for text in project(example)["dependencies"]
        if (requirement := Requirement(text)).name == "herdgate"
    )
    assert needed.specifier.contains(herdgate.__version__)
