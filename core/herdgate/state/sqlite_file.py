"""The SQLite file of a state store: its directory, permissions and schema, and what SQLite's errors mean for people."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from herdgate.descriptors import SHORT
from herdgate.state.unavailable import StateAbsent, StateUnavailable

T = TypeVar("T")

BUSY_TIMEOUT = 0.6
"""Seconds to wait for another process's lock."""

SCHEMA = 1
"""The schema this code reads and writes. A file with a higher one was written by a newer herdgate."""

_APPLICATION = 0x48455244  # "HERD": tells the gateway's file from any other program's SQLite file
_RETRY = 0.01

_TABLES = (
    "CREATE TABLE entry (space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, key))"
    " WITHOUT ROWID",
    "CREATE TABLE version (space TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
)

# Primary result codes. What SQLite itself says ("unable to open database file") tells an operator too little.
_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process holds it locked",
    sqlite3.SQLITE_READONLY: "it is read-only: give this user the right to write the file and its directory",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: this user needs the right to write the file and its directory",
    sqlite3.SQLITE_IOERR: "the disk reports an error; the file needs a local disk, not a network share",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore it from a backup, or move it away to start anew without any keys",
    sqlite3.SQLITE_NOTADB: "it is no SQLite file: name another one, or move it away if it was the gateway's",
}

_NO_DESCRIPTOR = "there is no file descriptor left: raise the limit (ulimit -n)"
_creating = threading.Lock()


def unusable(path: Path, why: str) -> StateUnavailable:
    """Return the error for a file that cannot be used."""
    return StateUnavailable(f"the state file {path} cannot be used: {why}")


def _is_busy(error: sqlite3.Error) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)  # absent on errors of the module itself
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def _explain(path: Path, error: sqlite3.Error) -> StateUnavailable:
    """Return the error that says what an error of SQLite means for the operator. Nothing may be closed before."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_CANTOPEN and _no_descriptor_left():
        return unusable(path, _NO_DESCRIPTOR)
    return unusable(path, str(error) if code is None else _ADVICE.get(code & 0xFF, str(error)))


def _no_descriptor_left() -> bool:
    """SQLite does not say why it could not open something."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in SHORT
    return False


class OpenFile:
    """The file with its connection, which is made anew when it has to be. For one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def open(self, *, create: bool) -> None:
        """Make sure there is a file that can be used. Raises `StateUnavailable`."""
        if create:
            _create_if_absent(self.path)
        elif _is_absent(self.path):
            raise StateAbsent(f"there is no state file at {self.path} yet: proxyctl serve and keys create make it")
        self.connection()

    def connection(self) -> sqlite3.Connection:
        """Return the connection to what lies at the path now. Raises `StateUnavailable`."""
        identity = _identity(self.path)
        if self._connection is None or identity != self._identity:
            # Without this a process would go on with a file that was moved away, and never see a key revoked in the
            # one that took its place.
            self.close()
            self._connection = _connect(self.path)
            self._identity = identity
        return self._connection

    def guard(self, work: Callable[[], T]) -> T:
        """Do the work, turning errors of SQLite into `StateUnavailable`."""
        try:
            return work()
        except sqlite3.Error as error:
            explained = _explain(self.path, error)
            if not _is_busy(error):
                self.close()  # the next call starts with a new connection: what was wrong may have been put right
            raise explained from None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        why = f"it cannot be reached ({error.strerror}): put it back, or restart to begin with an empty one"
        raise unusable(path, why) from None
    return status.st_dev, status.st_ino


def _is_absent(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # whatever it is, it is in the way of using the file as well
    return False


def _create_if_absent(path: Path) -> None:
    """Make the file (mode 0600) and the directories above it (0700) if they are missing. Raises `StateUnavailable`."""
    try:
        for directory in reversed([path.parent, *path.parent.parents]):
            if not directory.exists():
                directory.mkdir(0o700, exist_ok=True)
        # Closing a file drops every POSIX lock this process has on it, SQLite's too. So the file is opened only to
        # create it, and no other store of this process may reach it in between.
        with _creating:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        why = f"it cannot be created ({error.strerror}: {error.filename})"
        raise unusable(path, _NO_DESCRIPTOR if error.errno in SHORT else why) from None


def _connect(path: Path) -> sqlite3.Connection:
    """Open an existing file, giving it the schema if it is empty. Raises `StateUnavailable`."""
    _check(path)
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise _explain(path, error) from None
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        explained = _explain(path, error)
        connection.close()
        raise explained from None
    except StateUnavailable:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN")
    present = _has_schema(connection, path)  # first of all: another program's file must stay as it is
    connection.execute("COMMIT")
    _use_wal(connection)
    # A revoked key must stay revoked after a power failure, so a commit is on the disk before it counts.
    connection.execute("PRAGMA synchronous = FULL")
    if not present:
        connection.execute("BEGIN IMMEDIATE")
        if not _has_schema(connection, path):  # or else another process was faster
            _create_schema(connection)
        connection.execute("COMMIT")


def _check(path: Path) -> None:
    """Refuse what SQLite would take, or would refuse without saying why."""
    if path.is_dir():
        raise unusable(path, "it is a directory: name a file in it")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise unusable(path, "this user may not read and write it: change its owner or its mode")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging: readers then never wait for a writer. The file remembers it."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while _pragma(connection, "journal_mode") != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Of several processes that switch a new file at once SQLite fails some without using the busy timeout.
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)


def _create_schema(connection: sqlite3.Connection) -> None:
    for statement in (*_TABLES, f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {SCHEMA}"):
        connection.execute(statement)


def _has_schema(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file has our schema; False if it is empty. Raises `StateUnavailable` for anyone else's.

    To be called in a transaction: what it reads must belong together.
    """
    application, schema = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application != _APPLICATION:
        with closing(connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")) as cursor:
            if application or schema or cursor.fetchone():
                raise unusable(path, "it is another program's SQLite file: name another one")
        return False
    if schema != SCHEMA:
        known = f"it has schema {schema}, but this herdgate knows only schema {SCHEMA}"
        raise unusable(path, f"{known}: upgrade herdgate, or name another file")
    return True


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    with closing(connection.execute(f"PRAGMA {name}")) as cursor:
        return cursor.fetchone()[0]
