"""What users of the wheel have: it is built, installed with the examples into an environment of its own, and the
examples' tests run against it there. Slow, so `make downstream` runs it and nothing else does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from tests.contract.documents import ROOT
from tests.contract.test_examples import EXAMPLES

pytestmark = [pytest.mark.downstream, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel of Herdgate, those of the examples, and their test tools."""
    place = tmp_path_factory.mktemp("downstream")
    wheels = place / "wheels"
    for project in (ROOT, *(ROOT / "examples" / example for example in EXAMPLES)):
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", wheels, cwd=project)
    venv.create(place / "env", with_pip=True)
    python = place / "env" / "bin" / "python"
    pins = re.findall(r"^\S+==\S+(?: ; [^\\\n]+)?", (ROOT / "requirements" / "dev.lock").read_text(), re.MULTILINE)
    (place / "constraints.txt").write_text("\n".join(pins))
    install: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*install, "--constraint", place / "constraints.txt", *wheels.iterdir(), "pytest", "pytest-asyncio")
    return python


def test_it_is_the_wheel_that_is_tested(python: Path) -> None:
    where = run(python, "-c", "import herdgate, herdgate_plugins; print(herdgate.__file__, herdgate_plugins.__file__)")
    assert all(str(python.parents[1]) in each for each in where.split())


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_passes_its_tests_against_the_wheel(example: str, python: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / example / "tests", tmp_path / "tests")
    shutil.copy(ROOT / "examples" / example / "pyproject.toml", tmp_path)
    # `pythonpath` would find the example's sources, were they here: what is imported is what is installed.
    assert " passed" in run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)


def test_all_of_them_work_together(python: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "test_together.py", tmp_path)
    shutil.copy(ROOT / "examples" / "weighted" / "pyproject.toml", tmp_path)
    command = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_together.py")
    assert "2 passed" in run(*command, cwd=tmp_path)


def test_they_are_listed_with_their_distributions(python: Path, tmp_path: Path) -> None:
    (tmp_path / "plugins.toml").write_text('[[plugin]]\nuse = "weighted"\nweights = {}\n')
    listed = run(python.parent / "proxyctl", "plugins", "list", cwd=tmp_path)
    assert re.search(r"^select_candidates +1 +weighted +herdgate-weighted +0\.1\.0$", listed, re.MULTILINE), listed
