"""What the operator reads when settings are wrong: everything, at once, with file and line."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from herdgate.config import ConfigError, load

HOME = {"HOME": "/home/op"}


def error_of(
    directory: Path,
    environ: Mapping[str, str] | None = None,
    *,
    toml: str = "",
    flags: Mapping[str, object] | None = None,
) -> ConfigError:
    (directory / "plugins.toml").write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, {**HOME, **(environ or {})}, directory)
    return caught.value


def problems_of(directory: Path, environ: Mapping[str, str] | None = None, *, toml: str = "") -> list[str]:
    return [str(problem) for problem in error_of(directory, environ, toml=toml).problems]


def test_all_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    toml = """\
[servr]
[server]
prot = 1
port = "abc"
trusted_proxies = ["10.1.2.3/8",
                   "x"]
[discovery]
interval = 0
[metrics]
public = "perhaps"
[[backend]]
name = "a b"
[[plugin]]
max_attempts = 3
"""
    environ = {"HERDGATE_WORKERS": "0", "HERDGATE_MAX_BODY": "1", "HERDGATE_LOG_LEVEL": "loud"}
    lines = str(error_of(tmp_path, environ, toml=toml, flags={"host": "a b"})).splitlines()
    assert lines[0] == "14 problems in the settings:"
    beginnings = [
        "environment: HERDGATE_MAX_BODY: unknown variable; set max_body in the table [server] of plugins.toml",
        'environment: HERDGATE_WORKERS: found "0"; accepted: a whole number from 1 to 1024',
        'environment: HERDGATE_LOG_LEVEL: found "loud"; accepted: debug, info, warning, error or critical',
        'plugins.toml:1: servr: unknown key; did you mean "server"?',
        'plugins.toml:3: server.prot: unknown key; did you mean "port"?',
        'plugins.toml:4: server.port: found "abc"; accepted: a whole number from 0 to 65535',
        "plugins.toml:5: server.trusted_proxies[0]: the address has bits outside the network: did you mean 10.0.0",
        'plugins.toml:6: server.trusted_proxies[1]: this is no IP address and no network; found "x"; ',
        "plugins.toml:8: discovery.interval: found 0; accepted: a number of seconds, or a text such as",
        'plugins.toml:10: metrics.public: found "perhaps"; accepted: true or false',
        "plugins.toml:11: backend[0].base_url: is missing; accepted: an address such as",
        'plugins.toml:12: backend[0].name: this is not a name for a backend; found "a b"; accepted: 1 to 63',
        "plugins.toml:13: plugin[0].use: use is missing; accepted: use = an entry point",
        'command line: --host: this is no host name and no IP address; found "a b"; accepted: a host name',
    ]
    found = [line.strip() for line in lines[1:]]
    assert len(found) == len(beginnings)
    for line in found:
        assert any(line.startswith(beginning) for beginning in beginnings), line
    in_file = [line for line in found if line.startswith("plugins.toml")]
    assert in_file == sorted(in_file, key=lambda line: int(line.split(":")[1]))


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        ("HERDGATE_WORKRES", "did you mean HERDGATE_WORKERS?"),
        ("HERDGATE_BACKENDS", "did you mean OLLAMA_BACKENDS?"),
        ("HERDGATE_DRAIN", "set drain in the table [server] of plugins.toml"),
        ("HERDGATE_METRICS_PUBLIC", "set public in the table [metrics] of plugins.toml"),
        ("HERDGATE_SERVICE_HOST", "enableServiceLinks: false"),
        ("HERDGATE_PORT_11435_TCP_ADDR", "enableServiceLinks: false"),
        ("HERDGATE_ZZZ", "there are HERDGATE_ADMIN_KEY, "),
    ],
)
def test_an_unknown_variable_comes_with_advice(tmp_path: Path, variable: str, advice: str) -> None:
    (problem,) = problems_of(tmp_path, {variable: "x"})
    assert problem.startswith(f"environment: {variable}: unknown variable; ")
    assert advice in problem


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("server = 3", "plugins.toml:1: server: found 3; accepted: a table [server]"),
        ("backend = 3", "plugins.toml:1: backend: found a value; accepted: [[backend]] tables"),
        ("[backend]\nname = 'a'", "plugins.toml:1: backend: found a table; accepted: [[backend]] tables"),
        ("backend = [3]", "plugins.toml:1: backend[0]: this is not a table"),
        ("[plugin]\nuse = 'a'", "plugins.toml:1: plugin: found a table; accepted: [[plugin]] tables"),
        ("plugin = ['a']", "plugins.toml:1: plugin[0]: this is not a table"),
        ("[[backends]]\nname = 'a'", 'plugins.toml:1: backends: unknown key; did you mean "backend"?'),
        ("quux = 1", "plugins.toml:1: quux: unknown key; accepted: backend, discovery, metrics, plugin, server"),
        ("[server]\nport = true", "plugins.toml:2: server.port: true and false are no numbers; found true;"),
        ("[server]\nhost = 5", "plugins.toml:2: server.host: found 5; accepted: a host name or an IP address"),
        ("[server]\ncors_origins = '*'", 'plugins.toml:2: server.cors_origins: found "*"; accepted: a list'),
        ("[server]\ncors_origins = ['http://a/']", "plugins.toml:2: server.cors_origins[0]: this is no origin"),
        ("[server]\nallowed_hosts = ['http://a']", "plugins.toml:2: server.allowed_hosts[0]: this is no host name"),
        (
            "[server]\nstate = 'mysql://h'",
            "plugins.toml:2: server.state: the URL of the state store begins with none",
        ),
        (
            "[server]\nstate = 'sqlite://rel.db'",
            "plugins.toml:2: server.state: the URL of the state store names a rel",
        ),
    ],
)
def test_one_mistake_one_line(tmp_path: Path, toml: str, problem: str) -> None:
    (found,) = problems_of(tmp_path, toml=toml)
    assert found.startswith(problem)
    assert found.count("accepted:") <= 1


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, {"HERDGATE_LOG_LEVEL": "x" * 1000})
    assert len(found) < 300


def test_a_number_too_long_to_be_written_is_not_shown(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, toml=f"[server]\nport = 0x{'f' * 5000}")
    assert found.startswith("plugins.toml:2: server.port: found a number of too many digits; accepted: ")


def test_a_problem_can_be_sent_to_another_process(tmp_path: Path) -> None:
    error = error_of(tmp_path, {"HERDGATE_PORT": "x"})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert again.problems == error.problems
    assert str(again) == str(error)
