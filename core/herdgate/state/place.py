"""The URL that names a state store: read here, without I/O, so that a bad one is refused with the other settings.

No message repeats the URL: a mistyped one may show its password anywhere, even in what parses as the scheme.
"""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pydantic import SecretStr

from herdgate.state.unavailable import StateUnavailable

ACCEPTED = "sqlite:///absolute/path, redis://[[user]:password@]host[:port][/database] or rediss://… (Redis over TLS)"
_REDIS_PORT = 6379
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class InvalidStateURL(StateUnavailable, ValueError):  # noqa: N818
    """The text is no URL of a state store; the message says what is wrong and what is accepted."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the URL of the state store {problem}; accepted: {ACCEPTED}")


@dataclass(frozen=True, slots=True)
class SqlitePlace:
    """An SQLite file, by its absolute path."""

    path: Path

    def __str__(self) -> str:
        return f"sqlite://{quote(str(self.path))}"


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A Redis server and the database in it; `str()` leaves the credentials out."""

    host: str
    port: int = _REDIS_PORT
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: SecretStr | None = None
    tls: bool = False
    tls_files: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def parse_place(url: str) -> SqlitePlace | RedisPlace:
    """Read the URL of a state store. Raises `InvalidStateURL`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidStateURL("cannot be read (are there brackets that belong to no IPv6 address?)") from None
    match parts.scheme:
        case "sqlite":
            return _sqlite(parts)
        case "redis" | "rediss":
            return _redis(parts)
        case _:
            raise InvalidStateURL("begins with none of the known schemes" if url else "is empty")


def _sqlite(parts: SplitResult) -> SqlitePlace:
    if parts.query or parts.fragment:
        raise InvalidStateURL("has a ? or # in its path (write %3F or %23)")
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/"):
        raise InvalidStateURL("names a relative path (an absolute one has three slashes after sqlite:)")
    if path.endswith("/") or "\0" in path:
        raise InvalidStateURL("names no file")
    if path == "/:memory:":
        raise InvalidStateURL("names a database in memory, which no other process could share")
    return SqlitePlace(Path("/" + path.lstrip("/")))


def _redis(parts: SplitResult) -> RedisPlace:
    try:
        port = parts.port
    except ValueError:
        raise InvalidStateURL("has a bad port (write / : @ # ? in a password as %2F %3A %40 %23 %3F)") from None
    if not parts.hostname:
        raise InvalidStateURL("names no host")
    if parts.fragment:
        raise InvalidStateURL("has a # in it (write %23 in a password)")
    database = parts.path.strip("/")
    if database and not (database.isascii() and database.isdigit()):
        raise InvalidStateURL("has a database that is no number")
    return RedisPlace(
        host=parts.hostname,
        port=_REDIS_PORT if port is None else port,
        database=int(database or 0),
        username=unquote(parts.username) if parts.username else None,
        password=SecretStr(unquote(parts.password)) if parts.password else None,
        tls=parts.scheme == "rediss",
        tls_files=_tls_files(parts),
    )


def _tls_files(parts: SplitResult) -> tuple[tuple[str, str], ...]:
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    if not all(name in _TLS_FILES for name, _ in options):
        # Timeouts and retries are not for the URL to set: no call may outlast its bound.
        raise InvalidStateURL(f"has options other than {', '.join(_TLS_FILES)}")
    if options and parts.scheme != "rediss":
        raise InvalidStateURL("has options for TLS, but only rediss:// uses TLS")
    return options
