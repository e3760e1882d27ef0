import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from herdgate.state import CALL_LIMIT, State, StateAbsent, StateUnavailable, open_state
from herdgate.state.place import SqlitePlace
from herdgate.state.sqlite import SqliteState
from herdgate.testing.gateway import until

RunPython = Callable[..., Awaitable[str]]

IN_TIME = CALL_LIMIT + 0.1
"""What a call may take at most."""


def url(path: Path) -> str:
    return str(SqlitePlace(path))


def mode(path: Path, new: int | None = None) -> int:
    if new is not None:
        path.chmod(new)
    return path.stat().st_mode & 0o777


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def move_all(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for path in files(source):
        path.rename(target / path.name)


def copy_all(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def everything(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path, content: bytes) -> None:
    """Change the content of the file itself, and leave nothing of its write-ahead log."""
    path.write_bytes(content)
    for file in files(path.parent):
        if file != path:
            file.unlink()


async def make(path: Path) -> None:
    await (await open_state(url(path))).close()


async def use(path: Path) -> None:
    state = await open_state(url(path))
    try:
        await state.items("space")
        for n in range(50):
            await state.put("space", str(n), bytes(1000))
    finally:
        await state.close()


@contextmanager
def in_another_process(path: Path, *statements: str) -> Iterator[None]:
    """Another process executes the statements and then sits there with its connection open."""
    code = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        assert process.stdin is not None
        process.stdin.close()


@asynccontextmanager
async def no_blocking_of_the_loop() -> AsyncIterator[None]:
    gaps = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - before)

    ticker = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticker.cancel()
        await asyncio.wait({ticker})
    assert max(gaps) < 0.2


async def unavailable_in_time(call: Awaitable[object]) -> str:
    began = time.monotonic()
    with pytest.raises(StateUnavailable) as refusal:
        await call
    assert time.monotonic() - began < IN_TIME
    return str(refusal.value)


# The file


async def test_a_file_may_take_longer_to_be_made_than_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("herdgate.state.sqlite.CALL_LIMIT", 0.0)
        state = await open_state(f"sqlite:///{tmp_path}/state.db")
    await state.close()


async def test_file_and_directories_are_made_for_this_user_alone(sqlite_state: State, sqlite_path: Path) -> None:
    await sqlite_state.put("space", "key", b"value")
    assert sqlite_path in files(sqlite_path.parent)
    assert {mode(path) for path in files(sqlite_path.parent)} == {0o600}  # the write-ahead log as well
    assert mode(sqlite_path.parent) == mode(sqlite_path.parent.parent) == 0o700


async def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    before = mode(tmp_path, 0o750)
    await make(tmp_path / "herdgate.db")
    assert mode(tmp_path) == before


async def test_uses_a_write_ahead_log(sqlite_state: State, sqlite_path: Path, run_python: RunPython) -> None:
    ask = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode').fetchone()[0])"
    assert await run_python(ask, sqlite_path) == "wal\n"


async def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    state = await open_state(url(tmp_path / "empty.db"))
    assert await state.add("space", "key", b"value")
    await state.close()


async def test_odd_characters_in_the_path(tmp_path: Path) -> None:
    path = tmp_path / "50% off? #1 é"
    state = await open_state(url(path))
    await state.put("space", "key", b"value")
    assert path.is_file()
    await state.close()


def a_directory(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("backends = []\n" * 100)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipe (name TEXT)")
    connection.close()


def newer(path: Path) -> None:
    asyncio.run(make(path))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def truncated(path: Path) -> None:
    asyncio.run(use(path))
    path.write_bytes(path.read_bytes()[:4096])


def scribbled_over(path: Path) -> None:
    asyncio.run(use(path))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (a_directory, "is a directory: name a file in it"),
        (text, "no SQLite file: name another one"),
        (foreign, "another program's SQLite file: name another one"),
        (newer, "has schema 2, but this herdgate knows only schema 1: upgrade herdgate"),
        (truncated, "damaged: restore it from a backup"),
        (scribbled_over, "damaged: restore it from a backup"),
        (below_a_file, "cannot be created .*Not a directory"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_advice(
    tmp_path: Path, spoil: Callable[[Path], None], advice: str
) -> None:
    path = tmp_path / "place" / "herdgate.db"
    path.parent.mkdir()
    await asyncio.to_thread(spoil, path)
    with pytest.raises(StateUnavailable, match=advice) as refusal:
        await use(path)
    assert str(path) in str(refusal.value)


async def test_who_only_reads_does_not_make_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "herdgate.db"
    with pytest.raises(StateAbsent, match=f"there is no state file at {path} yet"):
        await open_state(url(path), create=False)
    assert files(tmp_path) == []
    await make(path)
    state = await open_state(url(path), create=False)
    assert await state.count("space") == 0
    await state.close()


async def test_a_foreign_file_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "recipes.db"
    foreign(path)
    before = path.read_bytes()
    with pytest.raises(StateUnavailable):
        await open_state(url(path))
    assert path.read_bytes() == before
    assert files(tmp_path) == [path]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop the rights of root, for whom every file is writable."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory(tmp_path: Path) -> Path:
    """A directory that a user without rights can reach."""
    for directory in (tmp_path, *list(tmp_path.parents)[:3]):
        directory.chmod(0o755)
    return tmp_path


async def test_a_directory_without_the_right_to_write(open_directory: Path) -> None:
    mode(open_directory, 0o555)
    with as_nobody(), pytest.raises(StateUnavailable, match=r"cannot be created \(Permission denied"):
        await open_state(url(open_directory / "new" / "herdgate.db"))


async def test_a_file_without_the_right_to_write(open_directory: Path) -> None:
    path = open_directory / "herdgate.db"
    await make(path)
    mode(path, 0o444)
    with as_nobody(), pytest.raises(StateUnavailable, match="may not read and write it: change its owner or its mode"):
        await open_state(url(path))


async def test_a_writable_file_in_a_directory_that_is_not(open_directory: Path) -> None:
    path = open_directory / "herdgate.db"
    await make(path)
    mode(path, 0o666)
    mode(open_directory, 0o555)
    with as_nobody(), pytest.raises(StateUnavailable, match="right to write the file and its directory"):
        await open_state(url(path))


OPEN_WITHOUT_DESCRIPTORS = """
import os, resource, sys
from pathlib import Path
from herdgate.state import StateUnavailable
from herdgate.state.sqlite_file import OpenFile

file, free, create = OpenFile(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3] == "create"
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    for descriptor in taken[:free]:
        os.close(descriptor)
try:
    file.guard(lambda: file.open(create=create))
except StateUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize("free", [0, 1, 2])
@pytest.mark.parametrize("create", ["create", ""])
async def test_too_few_descriptors(sqlite_path: Path, run_python: RunPython, free: int, create: str) -> None:
    await make(sqlite_path)
    told = await run_python(OPEN_WITHOUT_DESCRIPTORS, sqlite_path, free, create)
    assert f"{sqlite_path} cannot be used: there is no file descriptor left: raise the limit (ulimit -n)" in told


WRITE_UNTIL_IT_FAILS = """
import asyncio, resource, sys
from herdgate.state import StateUnavailable, open_state

async def main(url):
    state = await open_state(url)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    written = 0
    try:
        while True:
            await state.put("space", str(written), bytes(10_000))
            written += 1
    except StateUnavailable as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert written == await state.count("space") > 0
    await state.put("space", "more", bytes(10_000))
    assert await state.count("space") == written + 1
    await state.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_a_disk_that_takes_no_more(sqlite_path: Path, run_python: RunPython) -> None:
    told = await run_python(WRITE_UNTIL_IT_FAILS, url(sqlite_path))
    assert f"{sqlite_path} cannot be used: the disk reports an error" in told


# While in use


async def test_a_removed_file_is_missed_and_its_successor_used(sqlite_state: State, sqlite_path: Path) -> None:
    await sqlite_state.put("space", "key", b"old")
    version = await sqlite_state.version("space")
    for path in files(sqlite_path.parent):
        path.unlink()
    assert "put it back, or restart" in await unavailable_in_time(sqlite_state.get("space", "key"))
    assert files(sqlite_path.parent) == []

    successor = await open_state(url(sqlite_path))
    await successor.put("space", "key", b"new")
    assert await sqlite_state.get("space", "key") == b"new"
    assert await sqlite_state.version("space") == await successor.version("space") > version
    await successor.close()


async def test_a_file_put_in_its_place_is_used(sqlite_state: State, sqlite_path: Path, tmp_path: Path) -> None:
    await sqlite_state.put("space", "key", b"old")
    state = await open_state(url(tmp_path / "restored" / "herdgate.db"))
    await state.put("space", "key", b"new")
    await state.close()
    move_all(sqlite_path.parent, tmp_path / "aside")
    move_all(tmp_path / "restored", sqlite_path.parent)
    assert await sqlite_state.get("space", "key") == b"new"
    assert await sqlite_state.put("space", "key", b"newer")
    assert await sqlite_state.get("space", "key") == b"newer"


async def test_a_restored_backup_never_comes_to_a_version_seen_before(sqlite_path: Path, tmp_path: Path) -> None:
    await use(sqlite_path)
    copy_all(sqlite_path.parent, tmp_path / "backup")
    state = await open_state(url(sqlite_path))
    await state.put("space", "key", b"after the backup")
    seen = await state.version("space")
    move_all(sqlite_path.parent, tmp_path / "aside")
    move_all(tmp_path / "backup", sqlite_path.parent)
    assert await state.version("space") < seen
    await state.put("space", "key", b"other")
    assert await state.version("space") > seen
    await state.close()


async def test_damage_in_place_is_told_and_a_repair_seen(sqlite_path: Path) -> None:
    state = await open_state(url(sqlite_path))
    for n in range(5):
        await state.put("space", str(n), bytes(1_000_000))  # together more than SQLite keeps in memory
    await state.close()
    good = everything(sqlite_path)
    state = await open_state(url(sqlite_path))
    assert await state.count("space") == 5
    overwrite(sqlite_path, b"\xff" * len(good))
    assert "cannot be used" in await unavailable_in_time(state.items("space"))
    overwrite(sqlite_path, good)
    assert len(await state.items("space")) == 5
    assert await state.put("space", "more", b"value")
    await state.close()


async def test_damage_is_told_and_a_repair_seen(sqlite_state: State, sqlite_path: Path, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    await sqlite_state.put("space", "key", b"value")
    move_all(sqlite_path.parent, aside)
    text(sqlite_path)
    assert "no SQLite file" in await unavailable_in_time(sqlite_state.get("space", "key"))
    assert "no SQLite file" in await unavailable_in_time(sqlite_state.put("space", "key", b"value"))
    move_all(aside, sqlite_path.parent)
    assert await sqlite_state.get("space", "key") == b"value"


async def test_another_process_writing_for_long_stops_no_reader(sqlite_state: State, sqlite_path: Path) -> None:
    await sqlite_state.put("space", "key", b"value")
    with in_another_process(sqlite_path, "BEGIN IMMEDIATE"):
        async with no_blocking_of_the_loop():
            assert await sqlite_state.get("space", "key") == b"value"
            calls = (sqlite_state.put("space", "key", b"new") for _ in range(10))
            reasons = await asyncio.gather(*map(unavailable_in_time, calls))
        assert any("another process holds it locked" in reason for reason in reasons)
        assert await sqlite_state.get("space", "key") == b"value"
    assert await sqlite_state.put("space", "key", b"new")


async def test_a_file_locked_by_another_process_is_not_waited_for(sqlite_path: Path) -> None:
    await make(sqlite_path)
    lock = ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "DELETE FROM entry")
    with in_another_process(sqlite_path, *lock):
        async with no_blocking_of_the_loop():
            assert "locked" in await unavailable_in_time(open_state(url(sqlite_path)))
    await make(sqlite_path)


async def test_a_hanging_disk_is_not_waited_for_and_calls_do_not_pile_up(sqlite_path: Path) -> None:
    state = await SqliteState.open(SqlitePlace(sqlite_path))
    hanging = threading.Event()
    state._worker.submit(hanging.wait)  # as the thread would be inside a read that never returns
    began = time.monotonic()
    reasons = await asyncio.gather(
        *(unavailable_in_time(state.add("space", str(n), b"value")) for n in range(20)),
        unavailable_in_time(state.count("space")),
    )
    assert all("no answer within" in reason for reason in reasons)
    assert time.monotonic() - began < IN_TIME
    hanging.set()
    assert await state.count("space") == 0  # none of those calls is carried out late
    await state.close()


async def test_closing_with_a_hanging_disk_is_not_waited_for(sqlite_path: Path) -> None:
    state = await SqliteState.open(SqlitePlace(sqlite_path))
    hanging = threading.Event()
    state._worker.submit(hanging.wait)
    call = asyncio.create_task(state.get("space", "key"))
    began = time.monotonic()
    await state.close()
    assert time.monotonic() - began < IN_TIME
    await unavailable_in_time(call)
    hanging.set()
    await until(lambda: state._file._connection is None)  # a disk that comes back finds nobody who keeps the file open


# Several processes

WRITE = """
import asyncio, sys
from herdgate.state import open_state

async def main(url, name, times):
    state = await open_state(url)
    last, won = 0, 0
    for n in range(int(times)):
        won += await state.add("contest", str(n), name.encode())
        await state.put("all", f"{name} {n}", b"value")
        version = await state.version("all")
        assert version > last
        last = version
    await state.close()
    print(won)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_several_processes_write_at_once(sqlite_path: Path, run_python: RunPython) -> None:
    """They also find no file and make it at the same moment."""
    processes, times = 4, 30
    won = await asyncio.gather(*(run_python(WRITE, url(sqlite_path), n, times) for n in range(processes)))
    assert sum(map(int, won)) == times
    state = await open_state(url(sqlite_path))
    assert await state.count("all") == processes * times
    winners = list((await state.items("contest")).values())
    assert [winners.count(b"%d" % n) for n in range(processes)] == [int(number) for number in won]
    await state.close()


async def test_many_stores_of_one_process_make_the_file_at_once(sqlite_path: Path) -> None:
    states = await asyncio.gather(*(open_state(url(sqlite_path)) for _ in range(12)))
    assert sorted(await asyncio.gather(*(state.add("space", "key", b"value") for state in states))) == [False] * 11 + [
        True
    ]
    for state in states:
        await state.close()


async def test_a_killed_writer_leaves_everything_in_order(sqlite_path: Path) -> None:
    await make(sqlite_path)
    code = WRITE.replace("main(*sys.argv[1:])", "main(sys.argv[1], 'doomed', 10**9)")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, url(sqlite_path))
    state = await open_state(url(sqlite_path))
    while await state.count("all") < 20:
        pass
    process.kill()
    await process.wait()
    count = await state.count("all")
    assert await state.put("all", "after", b"value")
    assert await state.count("all") == count + 1
    with sqlite3.connect(sqlite_path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    await state.close()
