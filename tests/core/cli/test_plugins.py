"""`proxyctl plugins`: what runs, what a hook is, whether a plugin is sound."""

import json
import os
from pathlib import Path

import pytest

from herdgate.hooks import INFO, described
from herdgate.quarantine import LeftOut
from herdgate.quarantineboard import Board
from herdgate.state import open_state

from .conftest import Loop, json_of, proxyctl

SORTER = '''
from herdgate import hookimpl
from pydantic import BaseModel, Field, SecretStr

class Sorter:
    """Sorts candidates by price.

    Ties stay as they are.
    """

    herdgate_api = 1
    advisory = True

    class Settings(BaseModel):
        prices: dict[str, float] = Field(description="Price by backend.")
        token: SecretStr = SecretStr("hidden-default")
        headers: dict[str, str] = {}
        limit: int | None = None

    def __init__(self, settings):
        self.settings = settings

    @hookimpl
    def select_candidates(self, candidates):
        return candidates
'''
LISTED = """
[[plugin]]
use = "configured_backends"

[[plugin]]
use = "./sorter.py:Sorter"
prices = { near = 1.5 }
token = "hidden-token"
headers = { Authorization = "hidden-header", Team = "lab" }

[[plugin]]
use = "herdgate_plugins.ollama_discovery:OllamaDiscovery"
"""


@pytest.fixture
def listed(place: Path) -> Path:
    (place / "sorter.py").write_text(SORTER)
    (place / "plugins.toml").write_text(LISTED)
    return place


COMMANDS = """
import click
from herdgate import hookimpl

class Count:
    herdgate_api = 1

    @hookimpl
    def register_commands(self):
        @click.command()
        @click.argument("number", type=int)
        def count(number):
            "Count to NUMBER."
            click.echo(" ".join(map(str, range(1, number + 1))))

        @click.group()
        def more():
            "Group of more."

        more.add_command(count)
        return [count, more]
"""


def test_a_plugin_adds_commands(place: Path) -> None:
    (place / "count.py").write_text(COMMANDS)
    (place / "plugins.toml").write_text('[[plugin]]\nuse = "./count.py:Count"\n')
    assert proxyctl("count", "3").stdout == "1 2 3\n"
    assert proxyctl("more", "count", "2").stdout == "1 2\n"
    assert "Count to NUMBER." in proxyctl("count", "--help").stdout
    assert proxyctl("count", "x", code=2).stderr
    assert json_of("plugins", "commands") == {
        "commands": [
            {"name": "count", "plugin": "count", "help": "Count to NUMBER."},
            {"name": "more", "plugin": "count", "help": "Group of more."},
        ],
        "problems": [],
    }
    assert proxyctl("plugins", "commands").stdout.splitlines()[1].split()[:2] == ["count", "count"]


def test_without_a_plugin_that_has_it_a_command_is_unknown(place: Path) -> None:
    assert "No such command 'count'" in proxyctl("count", code=2).stderr
    (place / "plugins.toml").write_text("[[plugin]]\nuse = 7\n")
    said = proxyctl("count", code=2).stderr
    assert "the configuration has mistakes" in said
    assert "No such command 'count'" in said


def test_list_tells_who_runs_in_which_order(listed: Path) -> None:
    answer = json_of("plugins", "list")

    assert [(plugin["name"], plugin["origin"]) for plugin in answer["plugins"]] == [
        ("configured_backends", "plugins.toml:2"),
        ("sorter", "plugins.toml:5"),
        ("ollama_discovery", "plugins.toml:11"),
    ]
    assert answer["plugins"][0]["distribution"] == "herdgate"
    assert answer["plugins"][1]["advisory"] is True
    assert answer["plugins"][1]["hooks"] == ["select_candidates"]
    assert list(answer["hooks"]) == list(INFO)
    assert answer["hooks"]["select_candidates"] == ["sorter"]
    assert answer["hooks"]["admit"] == []
    table = proxyctl("plugins", "list").stdout
    assert "sorter (advisory)" in table
    assert "plugins.toml:5" in table


def test_list_shows_who_is_left_out_by_a_running_gateway(place: Path, aside: Loop) -> None:
    assert json_of("plugins", "list")["quarantine"] == []
    assert not (place / "state.db").exists()
    left = LeftOut("sorter", "select_candidates", 9e9, 5)

    async def post() -> None:
        state = await open_state(f"sqlite://{place}/state.db")
        await Board(state).post(left, True)
        await state.close()

    aside.run(post())

    (row,) = json_of("plugins", "list")["quarantine"]
    assert (row["plugin"], row["hook"], row["until"], row["faults"]) == ("sorter", "select_candidates", 9e9, 5)
    assert str(os.getpid()) in row["process"]
    assert "LEFT OUT" in (table := proxyctl("plugins", "list").stdout)
    assert "2255-" in table


def test_list_does_without_a_state(place: Path) -> None:
    (place / "state.db").mkdir()
    assert json_of("plugins", "list")["quarantine"] is None
    assert "is not known" in proxyctl("plugins", "list").stdout


def test_the_built_in_list_applies_without_a_file() -> None:
    names = [plugin["name"] for plugin in json_of("plugins", "list")["plugins"]]
    assert names[0] == "configured_backends"
    assert "api_keys" in names


def test_show_explains_a_plugin_without_its_secrets(listed: Path) -> None:
    text = proxyctl("plugins", "show", "sorter").stdout
    answer = json_of("plugins", "show", "sorter")

    assert "Ties stay as they are." in text
    assert "Price by backend." in text
    assert "hidden" not in text + json.dumps(answer)
    settings = {row["name"]: row for row in answer["settings"]}
    assert settings["prices"]["value"] == "near: 1.5"
    assert settings["prices"]["default"] == "required"
    assert settings["token"]["value"] == settings["token"]["default"] == "********"
    assert settings["headers"]["value"] == "Authorization: ********, Team: lab"
    assert settings["limit"]["value"] == "none"
    assert "It has no settings." in proxyctl("plugins", "show", "configured_backends").stdout


def test_show_knows_only_what_is_loaded(listed: Path) -> None:
    assert 'did you mean "sorter"' in proxyctl("plugins", "show", "sorte", code=1).stderr


@pytest.mark.parametrize("hook", INFO)
def test_every_hook_is_explained(hook: str) -> None:
    text = proxyctl("plugins", "hooks", hook).stdout
    parts = described(hook)

    assert parts["summary"] in text
    assert parts["on_fault"] in text
    assert "    class " in text
    assert json_of("plugins", "hooks", hook)["when"] == parts["when"]


def test_hooks_are_listed_in_the_order_of_a_request() -> None:
    assert [hook["name"] for hook in json_of("plugins", "hooks")] == list(INFO)
    assert [line.split()[0] for line in proxyctl("plugins", "hooks").stdout.splitlines()[1:]] == list(INFO)


def test_an_unknown_hook() -> None:
    assert 'did you mean "admit"' in proxyctl("plugins", "hooks", "admitt", code=2).stderr


@pytest.mark.parametrize(
    "named", ["sorter.py", "./sorter.py:Sorter", "ollama_discovery", "herdgate_plugins.capacity:Capacity"]
)
def test_a_sound_plugin(listed: Path, named: str) -> None:
    assert json_of("plugins", "check", named)["problems"] == []
    assert proxyctl("plugins", "check", named).stdout.endswith("ok\n")


def test_a_listed_plugin_is_checked_with_its_settings(listed: Path) -> None:
    broken = (listed / "plugins.toml").read_text().replace("near = 1.5", 'near = "cheap"')
    (listed / "plugins.toml").write_text(broken)

    (problem,) = json_of("plugins", "check", "sorter.py", code=1)["problems"]

    assert "plugins.toml:7" in problem
    assert "prices" in problem


def test_settings_that_are_not_there_are_no_fault_of_the_plugin(place: Path) -> None:
    (place / "sorter.py").write_text(SORTER)

    answer = json_of("plugins", "check", "sorter.py")

    assert answer["ok"] is True
    assert "needs settings" in answer["notes"][0]
    assert "prices" in answer["notes"][0]


def test_every_problem_of_every_class_is_told(place: Path) -> None:
    (place / "bad.py").write_text(
        "from herdgate import hookimpl\n"
        "class Helper: pass\n"
        "class Typos:\n"
        "    herdgate_api = 1\n"
        "    @hookimpl\n"
        "    def select_candidate(self): ...\n"
        "    @hookimpl(tryfirst=True)\n"
        "    def admit(self, caller): ...\n"
        "class Old:\n"
        "    @hookimpl\n"
        "    def admit(self): ...\n"
    )

    problems = "\n".join(json_of("plugins", "check", "bad.py", code=1)["problems"])

    for expected in ("select_candidates", "tryfirst", "caller", "add the line `herdgate_api = 1` to class Old"):
        assert expected in problems
    assert "Helper" not in problems
    assert proxyctl("plugins", "check", "bad.py", code=1).stdout.endswith("4 problems\n")


CARELESS = """\
import time
import asyncio
import urllib.request
from httpx import get as fetch
from herdgate import Deny, Identity, hookimpl

def price(name):
    return fetch("http://prices.example/" + name).json()

class Careless:
    herdgate_api = 1

    @hookimpl
    def lifespan(self, app):
        time.sleep(1)

    @hookimpl
    def select_candidates(self, candidates):
        return sorted(candidates, key=self.cost) if candidates else "nothing"

    def cost(self, candidate):
        return price(candidate.backend.name)

    @hookimpl
    async def authenticate(self, credentials):
        if credentials.key is None:
            return Deny("no key")
        known = await asyncio.to_thread(urllib.request.urlopen, "http://portal.example")
        later = lambda: time.sleep(1)

        def other():
            return 7

        return Identity("team") if known else None

    @hookimpl
    def admit(self):
        time.sleep(0.1)
"""


def test_what_the_code_will_do_wrong_is_told_with_file_and_line(place: Path) -> None:
    (place / "careless.py").write_text(CARELESS)

    told = json_of("plugins", "check", "./careless.py:Careless", code=1)["problems"]

    where = f"({place}/careless.py, line "
    assert sorted(told) == sorted(
        [
            f"Careless.select_candidates returns 'nothing', but select_candidates may return list, tuple or None "
            f"{where}19)",
            f"Careless.authenticate returns Deny('no key'), but authenticate may return Identity, Rejected, Refusal or "
            f"None {where}27)",
            f"select_candidates calls httpx.get, which blocks every request; use httpx.AsyncClient {where}8)",
            f"admit calls time.sleep, which blocks every request; use await asyncio.sleep, in an async def {where}38)",
        ]
    )


def test_what_does_not_load_is_told_with_file_and_line(place: Path) -> None:
    (place / "old.py").write_text("import herdgate\n\n\nclass Old:\n    herdgate_api = 7\n")
    (problem,) = json_of("plugins", "check", "old.py", code=1)["problems"]
    assert problem.endswith(f"this Herdgate has API 1 ({place}/old.py, line 4)")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("class Nothing: pass\n", "has no plugin"),
        ("def broken(:\n", "is not Python"),
        ("import nowhere_to_be_found\nclass P:\n    herdgate_api = 1\n", "nowhere_to_be_found"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_plugins(place: Path, content: str | None, said: str) -> None:
    if content is not None:
        (place / "odd.py").write_text(content)

    result = proxyctl("plugins", "check", "odd.py", code=1)

    assert said in result.stdout
    assert "Traceback" not in result.output


def test_an_unknown_name() -> None:
    assert "no installed plugin" in proxyctl("plugins", "check", "nobody", code=1).stdout


def test_a_plugin_can_be_checked_while_the_settings_are_broken(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDGATE_PORT", "many")
    proxyctl("plugins", "check", "capacity")
    assert proxyctl("plugins", "check", "capacity", "--config", "absent.toml", code=2).stderr
