"""Where settings come from and which one counts."""

import os
import pickle
import pwd
from collections.abc import Mapping
from pathlib import Path

import pytest

from herdgate.config import OLLAMA_ORIGINS, ConfigError, Settings, load

HOME = {"HOME": "/home/op"}


def read(
    directory: Path,
    environ: Mapping[str, str] | None = None,
    *,
    toml: str | None = None,
    dotenv: str | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    if toml is not None:
        (directory / "plugins.toml").write_text(toml)
    if dotenv is not None:
        (directory / ".env").write_text(dotenv)
    return load(flags or {}, {**HOME, **(environ or {})}, directory)


def problems_of(
    directory: Path,
    environ: Mapping[str, str] | None = None,
    *,
    toml: str | None = None,
    dotenv: str | None = None,
    flags: Mapping[str, object] | None = None,
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(directory, environ, toml=toml, dotenv=dotenv, flags=flags)
    return [str(problem) for problem in caught.value.problems]


class TestDefaults:
    def test_they_are_those_of_the_contract(self, tmp_path: Path) -> None:
        settings = read(tmp_path)
        server = settings.server
        assert (server.host, server.port, server.workers) == ("127.0.0.1", 11435, 1)
        assert server.state.get_secret_value() == "sqlite:///home/op/.local/state/herdgate/herdgate.db"
        assert (server.log_level, server.log_format) == ("info", None)
        assert (server.max_body, server.total_deadline, server.drain) == (100 * 1024 * 1024, None, 30.0)
        assert (server.trusted_proxies, server.allowed_hosts) == ((), ())
        assert server.cors_origins == OLLAMA_ORIGINS
        assert settings.discovery.interval == 15.0
        assert settings.metrics.public is False
        assert settings.admin_key is None
        assert settings.file is None
        assert settings.notices == ()
        assert set(settings.origins.values()) == {"default"}

    def test_ollamas_origins(self) -> None:
        assert {"http://localhost", "https://127.0.0.1:*", "http://0.0.0.0:*", "app://*", "vscode-file://*"} <= set(
            OLLAMA_ORIGINS
        )
        assert len(OLLAMA_ORIGINS) == 17

    @pytest.mark.parametrize(
        ("environ", "path"),
        [
            ({"XDG_STATE_HOME": "/var/lib/op"}, "/var/lib/op/herdgate/herdgate.db"),
            ({"XDG_STATE_HOME": "/a b/%"}, "/a%20b/%25/herdgate/herdgate.db"),
            ({"XDG_STATE_HOME": "relative"}, "/home/op/.local/state/herdgate/herdgate.db"),
            ({"XDG_STATE_HOME": ""}, "/home/op/.local/state/herdgate/herdgate.db"),
        ],
    )
    def test_the_state_is_where_xdg_says(self, tmp_path: Path, environ: dict[str, str], path: str) -> None:
        assert read(tmp_path, environ).server.state.get_secret_value() == f"sqlite://{path}"

    def test_without_home_the_user_database_says_where_it_is(self, tmp_path: Path) -> None:
        home = pwd.getpwuid(os.getuid()).pw_dir
        state = load({}, {}, tmp_path).server.state.get_secret_value()
        assert state == f"sqlite://{home}/.local/state/herdgate/herdgate.db"

    def test_without_any_home_the_place_must_be_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody(_: int) -> object:
            raise KeyError

        monkeypatch.setattr(pwd, "getpwuid", nobody)
        with pytest.raises(ConfigError, match=r"environment: HERDGATE_STATE: is missing; accepted: sqlite:///"):
            load({}, {}, tmp_path)
        assert load({}, {"HERDGATE_STATE": "redis://r"}, tmp_path).server.state.get_secret_value() == "redis://r"


class TestPrecedence:
    TOML = "[server]\nport = 1\nhost = '10.0.0.1'\nworkers = 2\nlog_level = 'debug'"
    DOTENV = "HERDGATE_PORT=2\nHERDGATE_HOST=10.0.0.2\nHERDGATE_WORKERS=3"

    def test_flag_environment_dotenv_file_default(self, tmp_path: Path) -> None:
        environ = {"HERDGATE_PORT": "3", "HERDGATE_HOST": "10.0.0.3"}
        settings = read(tmp_path, environ, toml=self.TOML, dotenv=self.DOTENV, flags={"port": 4, "host": None})
        server = settings.server
        assert (server.port, server.host, server.workers, server.log_level) == (4, "10.0.0.3", 3, "debug")
        assert server.log_format is None
        assert settings.origins["server.port"] == "flag --port"
        assert settings.origins["server.host"] == "environment HERDGATE_HOST"
        assert settings.origins["server.workers"] == ".env:3"
        assert settings.origins["server.log_level"] == "plugins.toml:5"
        assert settings.origins["server.log_format"] == "default"

    def test_an_empty_variable_is_an_absent_one(self, tmp_path: Path) -> None:
        environ = dict.fromkeys(("HERDGATE_PORT", "HERDGATE_ADMIN_KEY", "HERDGATE_CONFIG", "OLLAMA_BASE_URL"), " ")
        settings = read(tmp_path, environ, toml="[server]\nport = 1")
        assert settings.server.port == 1
        assert settings.admin_key is None
        assert settings.backends[0].base_url == "http://127.0.0.1:11434"

    @pytest.mark.parametrize(
        ("variable", "value", "key", "expected"),
        [
            ("HERDGATE_HOST", "[::]", "host", "::"),
            ("HERDGATE_PORT", "0", "port", 0),
            ("HERDGATE_WORKERS", "8", "workers", 8),
            ("HERDGATE_LOG_LEVEL", "WARNING", "log_level", "warning"),
            ("HERDGATE_LOG_FORMAT", "json", "log_format", "json"),
        ],
    )
    def test_each_variable(self, tmp_path: Path, variable: str, value: str, key: str, expected: object) -> None:
        settings = read(tmp_path, {variable: value})
        assert getattr(settings.server, key) == expected
        assert settings.origins[f"server.{key}"] == f"environment {variable}"

    def test_the_state_and_the_interval(self, tmp_path: Path) -> None:
        settings = read(tmp_path, {"HERDGATE_STATE": "redis://:pw@r/1", "HERDGATE_DISCOVERY_INTERVAL": "1m"})
        assert settings.server.state.get_secret_value() == "redis://:pw@r/1"
        assert settings.discovery.interval == 60.0

    def test_everything_the_file_can_say(self, tmp_path: Path) -> None:
        server = read(
            tmp_path,
            toml="""
            [server]
            max_body = "2 MiB"
            total_deadline = "30m"
            trusted_proxies = ["10.0.0.0/8", "::1"]
            cors_origins = ["https://Chat.example.com", "http://localhost:*", "*"]
            allowed_hosts = ["Gateway.example.com", "*.example.org", "10.0.0.1", "::1"]
            drain = 0
            """,
        ).server
        assert (server.max_body, server.total_deadline, server.drain) == (2 * 1024 * 1024, 1800.0, 0.0)
        assert [str(network) for network in server.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
        assert server.cors_origins == ("https://chat.example.com", "http://localhost:*", "*")
        assert server.allowed_hosts == ("gateway.example.com", "*.example.org", "10.0.0.1", "::1")

    def test_the_process_environment_is_neither_read_nor_changed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HERDGATE_PORT", "1")
        before = dict(os.environ)
        settings = read(tmp_path, dotenv="HERDGATE_HOST=10.0.0.1\nOLLAMA_BASE_URL=http://gpu1")
        assert settings.server.port == 11435
        assert dict(os.environ) == before

    def test_settings_can_be_sent_to_a_worker(self, tmp_path: Path) -> None:
        settings = read(tmp_path, {"HERDGATE_ADMIN_KEY": "k" * 32}, toml="[[plugin]]\nuse = 'x'\nday = 2026-01-01")
        assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301


class TestDotenv:
    def test_values_are_taken_as_they_are(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path,
            {"PASSWORD": "expanded"},
            dotenv="# comment\r\n\r\nexport OLLAMA_AUTH_TOKEN='a$PASSWORD${PASSWORD}' # c\r\nOLLAMA_BASE_URL=http://g",
        )
        token = settings.backends[0].auth_token
        assert token is not None
        assert token.get_secret_value() == "a$PASSWORD${PASSWORD}"
        assert settings.backends[0].base_url == "http://g"
        assert settings.origins["backend[0].auth_token"] == ".env:3"

    def test_a_list_may_take_several_lines(self, tmp_path: Path) -> None:
        dotenv = 'X=1\nOLLAMA_BACKENDS=\'[\n{"name": "a", "base_url": "http://a"}\n]\'\nHERDGATE_PORT=5'
        settings = read(tmp_path, dotenv=dotenv)
        assert [backend.name for backend in settings.backends] == ["a"]
        assert settings.origins["backend[0].name"] == ".env:2"
        assert settings.origins["server.port"] == ".env:5"

    def test_what_belongs_to_others_is_left_alone(self, tmp_path: Path) -> None:
        read(tmp_path, dotenv="COMPOSE_PROFILES=x\nnot a line at all\nFLAG\nOLLAMA_MODELS=/m\nOLLAMA_HOST=h")

    def test_mistakes_have_their_line(self, tmp_path: Path) -> None:
        dotenv = "\n\nHERDGATE_PROT=1\n\nHERDGATE_PORT=x\nHERDGATE_HOST 3\nHERDGATE_WORKERS"
        assert problems_of(tmp_path, dotenv=dotenv) == [
            ".env:3: HERDGATE_PROT: unknown variable; did you mean HERDGATE_PORT?",
            '.env:5: HERDGATE_PORT: found "x"; accepted: a whole number from 0 to 65535',
            ".env:6: this is not a line of the form NAME=value",
            ".env:7: HERDGATE_WORKERS: this is not a line of the form NAME=value",
        ]

    def test_an_unreadable_file_is_a_mistake(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes(b"HERDGATE_PORT=\xff")
        assert problems_of(tmp_path) == [".env: cannot be read: it is not UTF-8 text"]


class TestFile:
    def test_a_file_named_by_flag_variable_or_dotenv(self, tmp_path: Path) -> None:
        for number in (1, 2, 3):
            (tmp_path / f"{number}.toml").write_text(f"[server]\nport = {number}")
        dotenv, environ = "HERDGATE_CONFIG=3.toml", {"HERDGATE_CONFIG": str(tmp_path / "2.toml")}
        assert read(tmp_path, environ, dotenv=dotenv, flags={"config": "1.toml"}).server.port == 1
        assert read(tmp_path, environ).server.port == 2
        assert read(tmp_path).origins["server.port"] == "3.toml:2"

    def test_a_file_elsewhere_is_named_in_full(self, tmp_path: Path) -> None:
        directory = tmp_path / "cwd"
        directory.mkdir()
        other = tmp_path / "other.toml"
        other.write_text("[server]\nport = -1")
        assert problems_of(directory, flags={"config": other})[0].startswith(f"{other}:2: server.port: found -1")

    def test_a_named_file_must_exist(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path, {"HERDGATE_CONFIG": "none.toml"}) == [
            "environment: HERDGATE_CONFIG: none.toml: cannot be read: No such file or directory"
        ]
        assert problems_of(tmp_path, flags={"config": "none.toml"}) == [
            "command line: --config: none.toml: cannot be read: No such file or directory"
        ]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("~nouser/own.toml", "nobody called nouser has a home directory here"),
            ("own\0.toml", "a path cannot have a NUL character in it"),
            ("x" * 5000, "cannot be read: File name too long"),
        ],
    )
    def test_a_path_that_can_be_none_is_refused(self, tmp_path: Path, name: str, reason: str) -> None:
        (problem,) = problems_of(tmp_path, {"HERDGATE_CONFIG": name})
        assert problem.startswith("environment: HERDGATE_CONFIG: ")
        assert problem.endswith(reason)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"[server]\nport = \n", "plugins.toml:2: this is not TOML: Invalid value (column 8)"),
            (b"[server]\r\n\r\nport = \r\n", "plugins.toml:3: this is not TOML: Invalid value (column 8)"),
            (b"[server", "plugins.toml:1: this is not TOML: Expected ']'"),
            (b"[server]\n[server]", "plugins.toml:2: this is not TOML: Cannot declare"),
            (b"a = '\xff'", "plugins.toml: cannot be read: it is not UTF-8 text"),
            (b"a = " + b"[" * 5000, "plugins.toml: its lists or tables are nested too deeply"),
            (b"a = " + b"9" * 5000, "plugins.toml: a number in it has too many digits"),
        ],
    )
    def test_what_is_no_toml_is_refused_with_its_line(self, tmp_path: Path, content: bytes, problem: str) -> None:
        (tmp_path / "plugins.toml").write_bytes(content)
        (found,) = problems_of(tmp_path)
        assert found.startswith(problem)

    def test_a_byte_order_mark_does_not_matter(self, tmp_path: Path) -> None:
        (tmp_path / "plugins.toml").write_bytes(b"\xef\xbb\xbf[server]\r\nport = 5\r\n")
        assert read(tmp_path).origins["server.port"] == "plugins.toml:2"


class TestAdminKey:
    def test_from_a_variable(self, tmp_path: Path) -> None:
        settings = read(tmp_path, {"HERDGATE_ADMIN_KEY": "k" * 20})
        assert settings.admin_key is not None
        assert settings.admin_key.get_secret_value() == "k" * 20
        assert settings.origins["admin_key"] == "environment HERDGATE_ADMIN_KEY"

    def test_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("k" * 20 + "\n")
        settings = read(tmp_path, dotenv="HERDGATE_ADMIN_KEY_FILE=key")
        assert settings.admin_key is not None
        assert settings.admin_key.get_secret_value() == "k" * 20
        assert settings.origins["admin_key"] == ".env:1"

    def test_the_environment_beats_dotenv_whichever_way_it_is_given(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("f" * 20)
        settings = read(tmp_path, {"HERDGATE_ADMIN_KEY_FILE": "key"}, dotenv="HERDGATE_ADMIN_KEY=dddddddddddddddddddd")
        assert settings.admin_key is not None
        assert settings.admin_key.get_secret_value() == "f" * 20

    def test_a_short_one_is_worth_a_notice(self, tmp_path: Path) -> None:
        (notice,) = read(tmp_path, {"HERDGATE_ADMIN_KEY": "s3kr1t"}).notices
        assert notice.startswith("the admin key (environment HERDGATE_ADMIN_KEY) has fewer than 16 characters")
        assert "s3kr1t" not in notice

    def test_mistakes(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        both = {"HERDGATE_ADMIN_KEY": "k" * 20, "HERDGATE_ADMIN_KEY_FILE": "empty"}
        assert "keep one of the two" in problems_of(tmp_path, both)[0]
        for name, reason in {"none": "No such file", "empty": "is empty", "binary": "not a text file"}.items():
            (problem,) = problems_of(tmp_path, {"HERDGATE_ADMIN_KEY_FILE": name})
            assert problem.startswith("environment: HERDGATE_ADMIN_KEY_FILE: ")
            assert reason in problem
            assert str(tmp_path / name) in problem
        assert "no spaces" in problems_of(tmp_path, {"HERDGATE_ADMIN_KEY": "a b"})[0]
        for name, reason in {"~nouser/key": "nobody called nouser has", "a\0b": "cannot have a NUL"}.items():
            (problem,) = problems_of(tmp_path, {"HERDGATE_ADMIN_KEY_FILE": name})
            assert problem.startswith("environment: HERDGATE_ADMIN_KEY_FILE: ")
            assert reason in problem
