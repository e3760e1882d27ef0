"""The command as a whole: help, version, exit codes, and what it does not import."""

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

import herdgate
from herdgate.cli import main

from .conftest import Run, Simulate, Use, proxyctl


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append(((*prefix, name), command))
        if isinstance(command, click.Group):
            found.extend(commands(command, (*prefix, name)))
    return found


def test_every_command_has_help() -> None:
    listed = commands(main)
    assert ("keys", "create") in [path for path, _ in listed]
    for path, command in listed:
        assert proxyctl(*path, "--help").stdout.startswith("Usage:")
        assert command.help, path


def test_everything_that_prints_data_prints_json() -> None:
    without = {
        path[0]
        for path, command in commands(main)
        if not isinstance(command, click.Group) and "--json" not in [o for p in command.params for o in p.opts]
    }
    assert without == {"serve", "demo"}


def test_help_lists_every_command() -> None:
    listing = proxyctl("--help").stdout
    for path, _ in commands(main):
        assert path[0] in listing


def test_version() -> None:
    assert herdgate.__version__ in proxyctl("--version").stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["keys", "nonsense"], ["probe", "--nonsense"]])
def test_bad_usage(arguments: list[str]) -> None:
    assert proxyctl(*arguments, code=2).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize(
    "arguments", ["--version", "--help", "keys list", "plugins hooks", "plugins list", "config show --json"]
)
@pytest.mark.parametrize("buffered", ["", "-u"])
def test_output_that_cannot_be_written_is_one_message(
    arguments: str, buffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = f'exec "$0" {buffered} -m herdgate.cli {arguments} >/dev/full'
    done = subprocess.run(["/bin/sh", "-c", command, sys.executable], capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("Note: ")]
    assert errors == ["Error: the output cannot be written: No space left on device"]
    assert done.returncode == 1


def test_errors_that_cannot_be_written_are_an_exit_code() -> None:
    command = 'exec "$0" -m herdgate.cli keys list >/dev/full 2>/dev/full'
    assert subprocess.run(["/bin/sh", "-c", command, sys.executable], check=False).returncode == 1


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20)
    return set(done.stdout.split())


def test_help_imports_nothing_that_takes_time() -> None:
    loaded = modules_after("from herdgate.cli import main\nmain(['--help'], standalone_mode=False)")
    assert "click" in loaded
    assert not loaded & {"pydantic", "sanic", "httpx", "rich", "redis", "asyncio"}


def test_serve_does_not_import_what_only_tables_need() -> None:
    loaded = modules_after("import herdgate.cli.serve")
    assert "sanic" in loaded
    assert "herdgate.cli.output" not in loaded


def test_ctrl_c_is_quiet(run: Run, simulate: Simulate, use: Use, aside: "object") -> None:
    backend = simulate("slow", "llama3.2")
    backend.behaviour.load_time = 60
    use(backend)
    aside.run(backend.freeze())  # type: ignore[attr-defined]
    program = run("list-models", "--timeout", "60")
    program.until(lambda: backend.requests)

    assert program.stop(signal.SIGINT) == 130
    assert program.said.strip() == ""
