"""`proxyctl serve --workers N`: replaced when they die, drained when told, never left behind."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Chat, Program, Run, Simulate, Use, body, json_of, status
from .test_serve import LATE, refused

ONCE = """
from contextlib import asynccontextmanager
from pathlib import Path
from herdgate import hookimpl

class Once:
    herdgate_api = 1

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app):
        Path("taken").touch(exist_ok=False)
        yield
"""
"""A plugin that can be loaded by one process only."""
PLUGINS = "".join(
    f'[[plugin]]\nuse = "{use}"\n' for use in ("configured_backends", "ollama_discovery", "anonymous", "./once.py:Once")
)


def serve(run: Run, *options: str) -> Program:
    return run("serve", "--workers", "2", "--port", "0", *options)


def workers(program: Program) -> set[int]:
    """The processes whose parent is this program."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == program.process.pid and state != "Z":
            found.add(int(stat.parent.name))
    return found


def both(program: Program, without: int = 0) -> set[int]:
    """The two workers, once they are there."""
    program.until(lambda: len(workers(program) - {without}) == 2)
    return workers(program)


def alive(pid: int) -> bool:
    """Whether a process is there, and is no zombie that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def asked(port: int, times: int = 40) -> None:
    """Every one of these must be answered, each on a connection of its own."""
    for _ in range(times):
        assert status(port, "/") == 200


def serving(program: Program) -> set[int]:
    """Who has answered requests."""
    return {record["pid"] for record in program.records if record["message"].startswith("GET / ")}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
class TestWorkers:
    def test_all_serve_a_dead_one_is_replaced_and_all_stop(self, run: Run, simulate: Simulate, use: Use) -> None:
        use(simulate("one", "llama3.2"))
        program = serve(run)
        port = program.until_ready()
        first = both(program)
        asked(port)
        program.until(lambda: serving(program) == first)
        victim = min(first)

        os.kill(victim, signal.SIGKILL)
        asked(port)  # what would have been the dead one's waits for its successor
        second = both(program, without=victim)
        asked(port)
        program.until(lambda: second <= serving(program))

        assert program.stop() == 0
        assert not [pid for pid in first | second if alive(pid)]
        (death,) = [record for record in program.records if record["level"] == "error"]
        assert death["message"] == f"worker {victim} ended (signal SIGKILL); it is replaced in 0.1 s"

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_to_all_at_once_still_drains(
        self, run: Run, simulate: Simulate, use: Use, number: signal.Signals
    ) -> None:
        use(simulate("one", "llama3.2", pace=0.05))
        program = serve(run)
        port = program.until_ready()
        both(program)
        chat = Chat(port)

        os.killpg(program.process.pid, number)  # as a terminal and systemd do

        assert chat.ends_well()
        assert program.end() == 0

    def test_a_second_signal_does_not_wait(self, run: Run, simulate: Simulate, use: Use) -> None:
        use(simulate("one", "llama3.2", pace=30))
        program = serve(run)
        port = program.until_ready()
        chat = Chat(port)

        program.send(signal.SIGTERM)
        program.until(lambda: "stopping 2 workers" in program.said)
        program.send(signal.SIGTERM)

        assert not chat.ends_well()
        assert program.end() == 1

    def test_no_worker_outlives_its_supervisor(self, run: Run) -> None:
        program = serve(run)
        program.until_ready()
        orphans = both(program)

        program.send(signal.SIGKILL)
        program.end()

        program.until(lambda: not [pid for pid in orphans if alive(pid)])
        assert "the supervisor is gone" in program.said

    def test_workers_that_die_at_once_are_given_up(self, run: Run, place: Path) -> None:
        (place / "late.py").write_text(LATE.replace("await asyncio.sleep(20)", "import os; os._exit(7)"))
        (place / "plugins.toml").write_text('[[plugin]]\nuse = "./late.py:Late"\n')
        program = serve(run)

        assert program.end() == 1
        assert program.said.count("exit code 7") == 5
        assert "giving up: 5 workers in a row" in program.records[-1]["message"]

    def test_a_start_that_cannot_work_fails_once(self, run: Run) -> None:
        assert "there is no API key yet" in refused(serve(run, "--host", "0.0.0.0"))

    def test_a_port_that_another_gateway_has(self, run: Run) -> None:
        program = serve(run)
        port = program.until_ready()
        assert "Address already in use" in refused(run("serve", "--workers", "2", "--port", str(port)))
        assert "Address already in use" in refused(run("serve", "--port", str(port)))
        assert program.stop() == 0

    def test_a_key_that_is_revoked_is_refused_by_every_worker(self, run: Run, simulate: Simulate, use: Use) -> None:
        use(simulate("one", "llama3.2"))
        made = json_of("keys", "create", "--name", "alice", "--models", "*")
        program = serve(run)
        port = program.until_ready()
        both(program)

        def statuses() -> set[int]:
            return {status(port, "/api/tags", {"x-api-key": made["key"]}) for _ in range(20)}

        assert statuses() == {200}
        json_of("keys", "revoke", "alice")
        program.until(lambda: statuses() <= {401, 429})  # the latter after many of the former
        assert program.stop() == 0

    def test_a_reload_may_be_larger_than_a_socket_takes(self, run: Run, simulate: Simulate, place: Path) -> None:
        one = simulate("one", "llama3.2")
        backend = '[[backend]]\nname = "{}"\nbase_url = "{}"\nenabled = {}\n'.format
        many = "".join(backend(f"gpu{number}", f"http://gpu{number}", "false") for number in range(1000))
        program = serve(run)
        port = program.until_ready()
        both(program)

        (place / "plugins.toml").write_text(f"[server]\nstop_delay = 0\n{backend('one', one.url, 'true')}{many}")
        program.send(signal.SIGHUP)
        program.until(lambda: "reloaded: the new configuration" in program.said)
        program.until(lambda: all("llama3.2" in body(port, "/api/tags") for _ in range(20)))
        assert program.stop() == 0

    def test_a_reload_that_ends_those_who_prepare_is_none(
        self, run: Run, simulate: Simulate, use: Use, place: Path
    ) -> None:
        use(simulate("one", "llama3.2"))
        program = serve(run)
        port = program.until_ready()
        before = both(program)

        (place / "late.py").write_text(LATE.replace("await asyncio.sleep(20)", "import os; os.abort()"))
        (place / "plugins.toml").write_text('[server]\nstop_delay = 0\n[[plugin]]\nuse = "./late.py:Late"\n')
        program.send(signal.SIGHUP)
        program.until(lambda: "ended while it prepared for it" in program.said)
        program.until(lambda: len(workers(program)) == 2 and workers(program) != before)
        program.until(lambda: status(port, "/readyz") == 200)

        assert program.said.count("not reloaded") == 1
        assert program.stop() == 0

    def test_workers_leave_no_numbers_behind(self, run: Run, simulate: Simulate, place: Path) -> None:
        backend = simulate("one", "llama3.2")
        listed = f'[server]\nstop_delay = 0\n[[backend]]\nname = "one"\nbase_url = "{backend.url}"\n'
        (place / "plugins.toml").write_text(listed)
        program = serve(run)
        program.until_ready()

        def posted() -> int:
            with closing(sqlite3.connect(place / "state.db")) as state:
                (number,) = state.execute("SELECT count(*) FROM entry WHERE space = 'metrics'").fetchone()
            return int(number)

        program.until(lambda: posted() == 2)
        assert program.stop() == 0
        assert posted() == 0

    def test_a_reload_reaches_all_workers_or_none(self, run: Run, simulate: Simulate, place: Path) -> None:
        one, two = simulate("one", "llama3.2"), simulate("two", "qwen3:8b")
        file = place / "plugins.toml"
        listed = '[server]\nstop_delay = 0\n[[backend]]\nname = "{0.name}"\nbase_url = "{0.url}"\n'.format
        (place / "once.py").write_text(ONCE)
        file.write_text(listed(one))
        program = serve(run)
        port = program.until_ready()
        before = both(program)

        file.write_text(listed(two))
        os.killpg(program.process.pid, signal.SIGHUP)  # as a terminal does that is closed
        program.until(lambda: "reloaded: the new configuration" in program.said)
        program.until(lambda: all("qwen3:8b" in body(port, "/api/tags") for _ in range(20)))

        file.write_text(listed(one) + PLUGINS)
        program.send(signal.SIGHUP)
        program.until(lambda: "the configuration is not reloaded" in program.said)
        assert all("qwen3:8b" in body(port, "/api/tags") for _ in range(20))

        assert program.said.count("not reloaded") == 1
        assert program.said.count("reloaded: ") == 1
        assert workers(program) == before
        (victim, _) = sorted(before)
        os.kill(victim, signal.SIGKILL)
        both(program, without=victim)
        program.until(lambda: all("qwen3:8b" in body(port, "/api/tags") for _ in range(20)))
        assert program.stop() == 0
