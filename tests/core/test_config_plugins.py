"""The list of plugins, and mistakes in a plugin's own settings."""

import tomllib
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from herdgate.config import ConfigError, Settings, load, settings_problems
from herdgate.config.sources import builtin_file

BUILTIN = [
    "configured_backends",
    "ollama_discovery",
    "authentication_limits",
    "api_keys",
    "limits",
    "model_access",
    "generic_403",
    "opening_check",
    "digest_guard",
    "priority_failover",
    "health",
    "capacity",
    "metrics",
    "access_log",
]


def read(directory: Path, toml: str | None = None) -> Settings:
    if toml is not None:
        (directory / "plugins.toml").write_text(toml)
    return load({}, {"HOME": "/home/op"}, directory)


@pytest.mark.parametrize("toml", [None, "", "plugin = []", "[server]\nport = 1"])
def test_without_a_list_the_built_in_one_applies(tmp_path: Path, toml: str | None) -> None:
    plugins = read(tmp_path, toml).plugins
    assert [entry.use for entry in plugins] == BUILTIN
    assert all(entry.origin.startswith("built-in plugins.toml:") for entry in plugins)


def test_the_built_in_file_is_the_one_of_the_repository() -> None:
    assert builtin_file().read_text() == (Path(__file__).parents[2] / "plugins.toml").read_text()


def test_what_the_built_in_file_shows_in_comments_is_valid(tmp_path: Path) -> None:
    text = builtin_file().read_text()
    toml = text.partition("# The rest of the settings")[2].replace("\n# ", "\n").replace("\n#\n", "\n\n")
    example = toml.partition("\n\n")[2].replace("Backends in order", "# Backends in order").replace("…", "x")
    assert {"server", "discovery", "metrics", "backend"} == set(tomllib.loads(example))
    read(tmp_path, example)


def test_entries_keep_order_settings_and_lines(tmp_path: Path) -> None:
    settings = read(tmp_path, "[[plugin]]\nuse = 'b'\n\n[[plugin]]\nuse = ' a '\nx = 1\ny = { z = [1, 'q'] }")
    first, second = settings.plugins
    assert (first.use, first.settings, first.origin) == ("b", {}, "plugins.toml:1")
    assert (second.use, second.settings, second.origin) == ("a", {"x": 1, "y": {"z": [1, "q"]}}, "plugins.toml:4")
    assert second.origins["y", "z", 1] == "plugins.toml:7"


def test_files_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "p.toml").write_text(
        "[[plugin]]\nuse = './mine.py:Mine'\n[[plugin]]\nuse = '../up.py:Up'\n[[plugin]]\nuse = 'pkg.mod:C'\n"
        "[[plugin]]\nuse = '/abs/x.py:X'"
    )
    plugins = load({"config": "etc/p.toml"}, {"HOME": "/home/op"}, tmp_path).plugins
    assert [entry.use for entry in plugins] == [
        f"{tmp_path}/etc/mine.py:Mine",
        f"{tmp_path}/up.py:Up",
        "pkg.mod:C",
        "/abs/x.py:X",
    ]


@pytest.mark.parametrize(("use", "found"), [("", "use is missing"), ("use = ''", 'found ""'), ("use = 3", "found 3")])
def test_use_is_required(tmp_path: Path, use: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[[plugin]]\n{use}\nmax_attempts = 1")
    (problem,) = caught.value.problems
    line = 2 if use else 1
    assert str(problem).startswith(f"plugins.toml:{line}: plugin[0].use: {found}; accepted: use = an entry point")


@pytest.mark.parametrize("use", ["./a\\u0000.py:A", "/a\\u0000.py:A", "a\\u0000"])
def test_a_use_has_no_nul_in_it(tmp_path: Path, use: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f'[[plugin]]\nuse = "{use}"')
    (problem,) = caught.value.problems
    assert str(problem).startswith("plugins.toml:2: plugin[0].use: it cannot have a NUL character in it; accepted: use")


class Limit(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rate: int = Field(ge=1)
    secret_word: str = ""
    credential: SecretStr | None = None


class Own(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prices: dict[str, float] = {}
    limits: list[Limit] = []
    sizes: list[Annotated[int, Field(ge=1)]] = []
    webhook: str = ""
    password: str = ""
    wanted: int

    @field_validator("webhook", "password")
    @classmethod
    def _quoting(cls, value: str) -> str:
        if value:
            raise ValueError(f"cannot use {value}")
        return value

    @model_validator(mode="after")
    def _always(self) -> "Own":
        raise ValueError("they do not fit together")


def own_problems(directory: Path, toml: str) -> list[str]:
    (entry,) = read(directory, f"[[plugin]]\nuse = 'own'\n{toml}").plugins
    with pytest.raises(ValidationError) as caught:
        Own.model_validate(entry.settings)
    return [str(problem) for problem in settings_problems(caught.value, entry, Own)]


def test_a_plugins_own_model_speaks_with_line_key_and_value(tmp_path: Path) -> None:
    toml = "prices = { a = 'x' }\nwantd = 1\nsizes = [\n  1,\n  0 ]\nlimits = [\n{ rate = 0 }]"
    assert own_problems(tmp_path, toml) == [
        'plugins.toml:3: plugin "own": prices.a: found "x"; accepted: a valid number, '
        "unable to parse string as a number",
        # Limit has a secret field, so nothing of a Limit is shown.
        'plugins.toml:9: plugin "own": limits[0].rate: found a value that is not shown because it may hold a secret; '
        "accepted: greater than or equal to 1",
        'plugins.toml:7: plugin "own": sizes[1]: found 0; accepted: greater than or equal to 1',
        'plugins.toml:1: plugin "own": wanted: is missing',
        'plugins.toml:4: plugin "own": wantd: unknown key; did you mean "wanted"?',
    ]


def test_what_concerns_the_whole_is_at_the_entry(tmp_path: Path) -> None:
    assert own_problems(tmp_path, "wanted = 1") == ['plugins.toml:1: plugin "own": they do not fit together']


@pytest.mark.parametrize(
    "toml",
    [
        "password = 's3kr1t'\nwanted = 1",
        "password = 's3kr1t '\nwanted = 1",
        "webhook = 'https://u:s3kr1t@h/'\nwanted = 1\npassword = 's3kr1t'",
        "wanted = 1\nlimits = [{ rate = 1, credential = ['s3kr1t'] }]",
        "wanted = 1\nlimits = [{ rate = 's3kr1t', credential = 's3kr1t' }]",
        "wanted = 1\nlimits = [{ rate = 1, secret_word = 5, s3 = 's3kr1t' }]",
        "wanted = 1\nunknown = 's3kr1t'",
        "wanted = 1\nunknown = { token = 's3kr1t' }",
    ],
)
def test_a_plugins_secret_is_in_no_message(tmp_path: Path, toml: str) -> None:
    problems = own_problems(tmp_path, toml)
    assert problems
    assert "s3kr1t" not in "\n".join(problems)


class Tree(BaseModel):
    depth: int = 0
    below: list["Tree"] = []


def test_a_model_that_contains_itself_is_no_trouble(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, "[[plugin]]\nuse = 'own'\nbelow = [{ below = [{ depth = 'x' }] }]").plugins
    with pytest.raises(ValidationError) as caught:
        Tree.model_validate(entry.settings)
    (problem,) = settings_problems(caught.value, entry, Tree)
    assert 'below[0].below[0].depth: found "x"' in str(problem)


def test_an_entry_does_not_show_its_settings(tmp_path: Path) -> None:
    assert "s3kr1t" not in repr(read(tmp_path, "[[plugin]]\nuse = 'own'\npassword = 's3kr1t'"))
