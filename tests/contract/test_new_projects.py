"""`proxyctl plugins new` writes, for every hook, a project that is whole: it loads, its own tests pass, linters have
nothing to say, and its wheel brings the plugin.
"""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

import herdgate
from herdgate.cli import main
from herdgate.cli.newproject.bodies import BODIES, NOTHING
from herdgate.cli.newproject.templates import TESTS
from herdgate.cli.newproject.writing import Names, files_of
from herdgate.config import load
from herdgate.hooks import INFO
from herdgate.plugins import load_plugins
from herdgate.pluginsource import name_of_class

HOOKS = list(INFO)


def new(hook: str, place: Path, name: str = "") -> None:
    name = name or f"my-{hook.replace('_', '-')}"
    command = ["plugins", "new", name, "--hook", hook, "--directory", str(place)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert f"cd {place}" in result.output


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project for each hook, under its name; for every hook that there may be later, one without a body here."""
    place = tmp_path_factory.mktemp("projects")
    for hook in HOOKS:
        new(hook, place / hook)
    return place


def run(command: list[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_their_own_tests_pass_at_once(projects: Path) -> None:
    """All in one run, which is quicker than one run for each."""
    folders = " ".join(str(projects / hook) for hook in HOOKS)
    config = f"[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\npythonpath = {folders}\n"
    (projects / "pytest.ini").write_text(config)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib"]
    run(command, projects)


def test_linters_have_nothing_to_say(projects: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        run([sys.executable, "-m", "ruff", *command, "--no-cache"], projects)


@pytest.mark.parametrize("hook", HOOKS)
def test_what_its_readme_says_loads(hook: str, projects: Path, tmp_path: Path) -> None:
    project = projects / hook
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    ((name, target),) = metadata["entry-points"]["herdgate.plugins"].items()
    module, _, cls = target.partition(":")
    entry = (project / "README.md").read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "plugins.toml").write_text(entry.replace(f'"{name}"', f'"{project}/{module}.py:{cls}"'))

    (plugin,) = load_plugins(load({}, {"HOME": str(tmp_path)}, tmp_path).plugins)

    assert (plugin.name, list(plugin.impls)) == (name, [hook])
    needed = Requirement(metadata["dependencies"][0])
    assert needed.specifier.contains(herdgate.__version__)


README_OF_EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/README.md"))


@pytest.mark.parametrize("readme", README_OF_EXAMPLES, ids=lambda path: path.parent.name)
def test_what_a_readme_installs_for_the_tests_is_their_group(readme: Path) -> None:
    """By name: the option for groups is not known to the pip that Python 3.11 brings."""
    assert_installs_the_tests(readme.parent)


def test_so_does_the_readme_of_a_new_project(projects: Path) -> None:
    for hook in HOOKS:
        assert_installs_the_tests(projects / hook)


def assert_installs_the_tests(project: Path) -> None:
    readme = (project / "README.md").read_text()
    assert "--group" not in readme
    group = tomllib.loads((project / "pyproject.toml").read_text())["dependency-groups"]["test"]
    wanted = " ".join(["pip install .", *(Requirement(each).name for each in group)])
    assert f"Tests: `{wanted}`" in readme


def test_each_hook_that_has_a_body_of_its_own_exists() -> None:
    assert set(BODIES) <= set(HOOKS)


def test_a_hook_without_a_body_gets_one_that_has_no_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BODIES, "admit")
    files = files_of(Names("strict"), "admit")
    assert NOTHING.setting in files["herdgate_strict.py"]
    compile(files["herdgate_strict.py"], "herdgate_strict.py", "exec")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_class_is_called_like_nothing_else_in_its_files(hook: str) -> None:
    """Whatever the file imports, defines or mentions would do as the name of a plugin."""
    module = files_of(Names("mine"), hook)["herdgate_mine.py"]
    words = {
        *re.findall(r"\b[A-Z][A-Za-z0-9]*\b", module),
        *re.findall(r"\b[A-Z][A-Za-z0-9]*\b", TESTS),
        "None",
        "True",
        "ValueError",
    }
    for word in words - {"Mine"}:
        names = Names(name_of_class(word).replace("__", "_"))
        files = files_of(names, hook)
        assert tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]["herdgate.plugins"] == {
            names.plugin: f"{names.module}:{word}Plugin"
        }
        assert files[f"{names.module}.py"] == module.replace("class Mine:", f"class {word}Plugin:")
        assert f"import {word}Plugin" in files[f"tests/test_{names.plugin}.py"]


COLLIDING = [
    ("filter_stream", "count"),
    ("routes", "route"),
    ("authenticate", "identity"),
    ("collect_metrics", "metric"),
]


@pytest.mark.parametrize(("hook", "name"), [*COLLIDING, ("mask_denial", "status"), ("select_candidates", "a1b")])
def test_a_project_with_such_a_name_is_whole(hook: str, name: str, tmp_path: Path) -> None:
    new(hook, tmp_path / name, name)
    run([sys.executable, "-m", "ruff", "check", "--no-cache"], tmp_path / name)
    run([sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"], tmp_path / name)


def test_the_wheel_brings_the_plugin(projects: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    run(command, projects / "admit")
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        assert "herdgate_my_admit.py" in archive.namelist()


def test_a_program_is_told_what_was_written(tmp_path: Path) -> None:
    command = ["plugins", "new", "mine", "--hook", "admit", "--directory", str(tmp_path / "mine"), "--json"]
    answer = json.loads(CliRunner().invoke(main, command).stdout)
    assert answer["plugin"] == "mine"
    assert all((Path(answer["directory"]) / file).is_file() for file in answer["files"])


# what is refused


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["plugins", "new", *arguments])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize("name", ["Big", "-x", "2fast", "a b", "a--b", "../up", "ünï"])
def test_a_bad_name(name: str) -> None:
    assert "is no name for a plugin" in refused("--hook", "admit", "--", name)


def test_an_unknown_hook() -> None:
    assert 'did you mean "admit"' in refused("mine", "--hook", "admitt")


def test_a_name_that_is_taken() -> None:
    assert "herdgate already brings a plugin of the name api_keys" in refused("api-keys", "--hook", "admit")


def test_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    assert "is not empty" in refused("new", "--hook", "admit", "--directory", str(tmp_path))
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    assert "cannot be written" in refused("new", "--hook", "admit", "--directory", str(tmp_path / "mine"))
