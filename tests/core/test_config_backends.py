"""Which backends there are, and what may be wrong with a list of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from herdgate.config import ConfigError, Settings, load

HOME = {"HOME": "/home/op"}
LIST = '[{"name": "env1", "base_url": "http://e1"}, {"name": "env2", "base_url": "http://e2"}]'
TABLES = '[[backend]]\nname = "file1"\nbase_url = "http://f1"\n[[backend]]\nname = "file2"\nbase_url = "http://f2"\n'


def read(directory: Path, environ: Mapping[str, str] | None = None, toml: str | None = None) -> Settings:
    if toml is not None:
        (directory / "plugins.toml").write_text(toml)
    return load({}, {**HOME, **(environ or {})}, directory)


def problems_of(directory: Path, environ: Mapping[str, str] | None = None, toml: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(directory, environ, toml)
    return [str(problem) for problem in caught.value.problems]


def names(settings: Settings) -> list[str]:
    return [backend.name for backend in settings.backends]


class TestWhichListCounts:
    def test_without_any_list_there_is_one_backend_named_default(self, tmp_path: Path) -> None:
        (backend,) = read(tmp_path).backends
        assert (backend.name, backend.base_url, backend.auth_token) == ("default", "http://127.0.0.1:11434", None)

    def test_its_address_and_token_come_from_variables(self, tmp_path: Path) -> None:
        settings = read(tmp_path, {"OLLAMA_BASE_URL": "https://o.example.com/x/", "OLLAMA_AUTH_TOKEN": "t"})
        (backend,) = settings.backends
        assert (backend.name, backend.base_url) == ("default", "https://o.example.com/x")
        assert backend.auth_token is not None
        assert backend.auth_token.get_secret_value() == "t"
        assert settings.origins["backend[0].base_url"] == "environment OLLAMA_BASE_URL"
        assert settings.origins["backend[0].name"] == "default"

    @pytest.mark.parametrize("nothing", ["", "  \n", "[]", " [ ] "])
    @pytest.mark.parametrize("toml", ["", "backend = []"])
    def test_an_empty_list_is_an_absent_one(self, tmp_path: Path, nothing: str, toml: str) -> None:
        settings = read(tmp_path, {"OLLAMA_BACKENDS": nothing, "OLLAMA_BASE_URL": "http://single"}, toml)
        assert [backend.base_url for backend in settings.backends] == ["http://single"]
        assert settings.notices == ()

    def test_the_file_lists_in_order(self, tmp_path: Path) -> None:
        settings = read(tmp_path, {"OLLAMA_BACKENDS": "[]"}, TABLES)
        assert names(settings) == ["file1", "file2"]
        assert settings.origins["backend[1].base_url"] == "plugins.toml:6"
        assert settings.origins["backend[1].verify"] == "default"

    def test_the_environment_takes_the_place_of_the_files_list_whole(self, tmp_path: Path) -> None:
        settings = read(tmp_path, {"OLLAMA_BACKENDS": LIST}, TABLES)
        assert names(settings) == ["env1", "env2"]
        assert settings.origins["backend[0].base_url"] == "environment OLLAMA_BACKENDS"
        assert settings.notices == ("the file's [[backend]] list is unused: OLLAMA_BACKENDS takes its place, whole",)

    def test_a_list_makes_the_single_backends_variables_useless_which_is_said(self, tmp_path: Path) -> None:
        single = {"OLLAMA_BASE_URL": "no url at all", "OLLAMA_AUTH_TOKEN": "s3kr1t"}
        settings = read(tmp_path, {**single, "OLLAMA_BACKENDS": LIST})
        assert names(settings) == ["env1", "env2"]
        assert len(settings.notices) == 2
        assert settings.notices[0].startswith(
            "OLLAMA_BASE_URL (environment OLLAMA_BASE_URL) is unused: OLLAMA_BACKENDS"
        )
        assert "s3kr1t" not in str(settings.notices)
        assert len(read(tmp_path, single, TABLES).notices) == 2

    def test_a_variable_one_slip_away_from_ours_is_noticed_others_of_ollama_are_not(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path, {"OLLAMA_BACKEND": LIST, "OLLAMA_BASEURL": "x", "OLLAMA_HOST": "h", "OLLAMA_MODELS": "m"}
        )
        assert settings.notices == (
            "the variable OLLAMA_BACKEND has no effect: did you mean OLLAMA_BACKENDS?",
            "the variable OLLAMA_BASEURL has no effect: did you mean OLLAMA_BASE_URL?",
        )

    @pytest.mark.parametrize("broken", ["[", '{"name": "a"}', "[3]", '[{"name": "a"}]'])
    def test_a_broken_list_never_turns_into_the_single_backend(self, tmp_path: Path, broken: str) -> None:
        problems = problems_of(tmp_path, {"OLLAMA_BACKENDS": broken, "OLLAMA_BASE_URL": "not an address"})
        assert all(problem.startswith("environment: OLLAMA_BACKENDS") for problem in problems)


class TestAddressesOfTheSingleBackend:
    @pytest.mark.parametrize(
        ("written", "address"),
        [
            ("127.0.0.1:11434", "http://127.0.0.1:11434"),
            ("0.0.0.0", "http://0.0.0.0:11434"),
            ("gpu1", "http://gpu1:11434"),
            ("gpu1/ollama", "http://gpu1:11434/ollama"),
            ("gpu1:8080/ollama/", "http://gpu1:8080/ollama"),
            ("[::1]", "http://[::1]:11434"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("http://gpu1", "http://gpu1"),
            ("https://gpu1", "https://gpu1"),
        ],
    )
    def test_may_be_written_as_for_ollama(self, tmp_path: Path, written: str, address: str) -> None:
        assert read(tmp_path, {"OLLAMA_BASE_URL": written}).backends[0].base_url == address

    @pytest.mark.parametrize(
        "written", ["ftp://gpu1", "gpu 1", "u:s3kr1t@gpu1", "::1", "gpu1:x", "http://gpu1?x=s3kr1t"]
    )
    def test_or_are_refused(self, tmp_path: Path, written: str) -> None:
        (problem,) = problems_of(tmp_path, {"OLLAMA_BASE_URL": written})
        assert problem.startswith("environment: OLLAMA_BASE_URL: ")
        assert "s3kr1t" not in problem

    def test_in_a_list_the_scheme_is_needed(self, tmp_path: Path) -> None:
        (problem,) = problems_of(tmp_path, {"OLLAMA_BACKENDS": '[{"name": "a", "base_url": "gpu1:11434"}]'})
        assert problem.startswith(
            'environment: OLLAMA_BACKENDS[0].base_url: it must start with http:// or https://; found "gpu1:11434"; acc'
        )


class TestTheVariable:
    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ('[{"name": "a"', "this is not JSON: Expecting ',' delimiter (line 1, column 14)"),
            ('[\n{"name": "a"\n]', "(line 3, column 1)"),
            ("http://gpu1", "this is not JSON: Expecting value (line 1, column 1)"),
            ('{"name": "a", "base_url": "http://a"}', "this is not a list"),
            ('"x"', "this is not a list"),
            ('[{"name": "a", "name": "b", "base_url": "http://a"}]', 'the key "name" is given twice in one object'),
            ('[{"name": "a", "base_url": "http://a", "idle_timeout": NaN}]', "NaN is no JSON"),
            ("[" * 100_000, "nested too deeply"),
            (f"[{'9' * 5000}]", "a number in it has too many digits"),
        ],
    )
    def test_must_be_a_json_array(self, tmp_path: Path, value: str, reason: str) -> None:
        (problem,) = problems_of(tmp_path, {"OLLAMA_BACKENDS": value})
        assert problem.startswith("environment: OLLAMA_BACKENDS: ")
        assert reason in problem
        assert 'accepted: a list such as [{"name": "gpu1"' in problem

    @pytest.mark.parametrize("key", ["ca_file", "client_cert", "client_key"])
    @pytest.mark.parametrize(
        ("file", "reason"),
        [
            ("~nouser/a.pem", "nobody called nouser has a home directory here"),
            ("a\0.pem", "cannot have a NUL character"),
        ],
    )
    def test_files_have_paths(self, tmp_path: Path, key: str, file: str, reason: str) -> None:
        value = json.dumps([{"name": "a", "base_url": "https://a", key: file}])
        (problem,) = problems_of(tmp_path, {"OLLAMA_BACKENDS": value})
        assert problem.startswith(f"environment: OLLAMA_BACKENDS[0].{key}: ")
        assert reason in problem

    def test_each_entry_is_named_by_its_index(self, tmp_path: Path) -> None:
        value = json.dumps(
            [{"name": "a", "base_url": "http://a", "verfy": 1}, "b", {"name": "c", "headers": {"X-A": 1}}]
        )
        problems = problems_of(tmp_path, {"OLLAMA_BACKENDS": value})
        assert problems[0] == 'environment: OLLAMA_BACKENDS[0].verfy: unknown key; did you mean "verify"?'
        assert problems[1].startswith("environment: OLLAMA_BACKENDS[1]: this is not a table; accepted: an object as in")
        assert problems[2].startswith("environment: OLLAMA_BACKENDS[2].base_url: is missing; accepted: an address")
        assert problems[3].startswith("environment: OLLAMA_BACKENDS[2].headers.X-A: found a value that is not shown")
        assert len(problems) == 4


class TestAllTogether:
    def test_names_are_unique_case_aside(self, tmp_path: Path) -> None:
        value = '[{"name": "a", "base_url": "http://a"}, {"name": "A", "base_url": "http://b"}]'
        (problem,) = problems_of(tmp_path, {"OLLAMA_BACKENDS": value})
        assert problem == 'environment: OLLAMA_BACKENDS[1].name: found "A", which OLLAMA_BACKENDS[0] has already'

    def test_in_the_file_the_line_of_the_second_name_is_given(self, tmp_path: Path) -> None:
        (problem,) = problems_of(tmp_path, toml=TABLES.replace("file2", "file1"))
        assert problem == 'plugins.toml:5: backend[1].name: found "file1", which backend[0] has already'

    def test_one_address_twice_is_worth_a_notice(self, tmp_path: Path) -> None:
        settings = read(tmp_path, toml=TABLES.replace("http://f2", "HTTP://F1/"))
        assert settings.notices == ("the backends file1 and file2 have the same base_url",)

    def test_a_disabled_backend_stays_in_the_list(self, tmp_path: Path) -> None:
        settings = read(tmp_path, toml=TABLES + "enabled = false")
        assert [backend.enabled for backend in settings.backends] == [True, False]

    def test_at_least_one_must_be_enabled(self, tmp_path: Path) -> None:
        toml = TABLES.replace("base_url", "enabled = false\nbase_url")
        (problem,) = problems_of(tmp_path, toml=toml)
        assert problem.startswith("plugins.toml:3: backend[0].enabled: every backend is disabled")

    def test_files_are_relative_to_the_file_that_names_them(self, tmp_path: Path) -> None:
        directory = tmp_path / "etc"
        directory.mkdir()
        (directory / "h.toml").write_text('[[backend]]\nname = "a"\nbase_url = "https://a"\nca_file = "ca.pem"')
        (problem,) = problems_of(tmp_path, {"HERDGATE_CONFIG": "etc/h.toml"})
        assert problem.startswith(f"etc/h.toml:4: backend[0].ca_file: cannot read {directory / 'ca.pem'}: No such file")
        assert problem.endswith('found "ca.pem"; accepted: the path of a readable PEM file')
