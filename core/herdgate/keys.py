"""API keys: what is kept of one, making and revoking them in a `State`, and recognising one that a caller presents.

Of a key's secret only the SHA-256 is kept. A fast hash is right here: a secret is 256 random bits, so there is nothing
to guess, and a slow hash, made for passwords that people choose, would only slow every request down.

All times are seconds since the epoch. Records are never removed: a revoked key stays, with the time of its revocation.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from herdgate.names import InvalidModelName, ModelPattern
from herdgate.state import State, StateUnavailable

SPACE = "keys"
"""The space of the state that holds the records, by id."""

SECRET_PREFIX = "hg_"  # noqa: S105 -- the part of every secret that is none

_ID = re.compile(r"k_[0-9a-f]{12}")
_LONGEST_NAME = 64
_ATTEMPTS = 50
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_DURATION = 36500 * 86400

_log = logging.getLogger(__name__)


class KeyRecord(BaseModel):
    """What is kept of a key. Fields that a newer herdgate wrote are carried along when the record is written again."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    name: str
    """Unique among live keys."""
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    """See `hash_secret`."""
    models: tuple[str, ...]
    """Patterns of the models this key may use, as they were typed; see `herdgate.names.ModelPattern`."""
    admin: bool = False
    created: float
    expires: float | None = None
    revoked: float | None = None
    rpm: int | None = None
    """Requests per minute at most; None: no limit."""
    cloud: bool = False
    """Whether the patterns cover models that run in Ollama's cloud."""
    deadline: float | None = None
    """Seconds that one request may take at most, its whole reply included; None: no limit."""

    def live(self, now: float) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked is None and not self.expired(now)

    def expired(self, now: float) -> bool:
        """Return whether the key's time has run out."""
        return self.expires is not None and now >= self.expires


class KeyProblem(Exception):  # noqa: N818
    """Something about keys cannot be done as asked; the message says why, for people."""


class BadKey(KeyProblem, ValueError):  # noqa: N818
    """A key cannot be made from these values."""


class NameTaken(KeyProblem):
    """A live key has the name already."""


class NoSuchKey(KeyProblem, LookupError):  # noqa: N818
    """No key has this name or id."""


class AlreadyRevoked(KeyProblem):
    """The key was revoked before."""


class Refused(Enum):
    """Why a presented secret is not accepted. For the audit log: a caller gets the same reply for each."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyIndex:
    """Key records, by hash, as they were at one moment; no I/O."""

    def __init__(self, records: Iterable[KeyRecord]) -> None:
        self._by_hash = {record.hash: record for record in records}

    def look_up(self, secret: str, now: float) -> KeyRecord | Refused:
        """Return the record of the key whose secret this is, if the key is live."""
        presented = hash_secret(secret)
        record = self._by_hash.get(presented)
        # The dictionary's own comparison tells a caller nothing, for nobody can steer a hash towards another one. The
        # constant-time one keeps that true should the index ever find records in another way.
        if record is None or not hmac.compare_digest(record.hash, presented):
            return Refused.UNKNOWN
        return _if_live(record, now)

    def named(self, name_or_id: str, now: float) -> KeyRecord | Refused:
        """Return the record of the key with this id, or with this name and in use, or else the latest of this name."""
        try:
            return _if_live(_find(list(self._by_hash.values()), name_or_id, now), now)
        except NoSuchKey:
            return Refused.UNKNOWN


class KeyStore:
    """The keys in a `State`. Every method raises `StateUnavailable` when the state does."""

    def __init__(self, state: State, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock

    async def create(
        self,
        name: str,
        models: Sequence[str],
        *,
        admin: bool = False,
        expires_at: float | None = None,
        rpm: int | None = None,
        cloud: bool = False,
        deadline: float | None = None,
    ) -> tuple[KeyRecord, SecretStr]:
        """Make a key; return its record, and the secret, which is kept nowhere.

        Raises `BadKey` and, also if another process makes a key of this name at the same moment, `NameTaken`.
        """
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)  # 43 characters
        record = KeyRecord(
            id=f"k_{secrets.token_hex(6)}",
            name=name,
            hash=hash_secret(secret),
            models=tuple(models),
            admin=admin,
            created=self._clock(),
            expires=expires_at,
            rpm=rpm,
            cloud=cloud,
            deadline=deadline,
        )
        _check(record)

        def decide(records: Sequence[KeyRecord]) -> KeyRecord:
            if any(other.name == name and other.live(record.created) for other in records):
                raise NameTaken(f"there is a key named {name!r} already: revoke it first, or choose another name")
            return record

        return await self._change(decide), SecretStr(secret)

    async def list(self) -> list[KeyRecord]:
        """Return all keys ever made, oldest first."""
        records = [_read(key, value) for key, value in (await self._state.items(SPACE)).items()]
        return sorted((record for record in records if record), key=lambda record: (record.created, record.id))

    async def find(self, name_or_id: str) -> KeyRecord:
        """Return the key with this id, or else the live key of this name, or else its latest. Raises `NoSuchKey`."""
        return _find(await self.list(), name_or_id, self._clock())

    async def revoke(self, name_or_id: str) -> KeyRecord:
        """Revoke a key, found as `find` does; return its new record. Raises `NoSuchKey` and `AlreadyRevoked`."""

        def decide(records: Sequence[KeyRecord]) -> KeyRecord:
            now = self._clock()
            record = _find(records, name_or_id, now)
            if record.revoked is not None:
                when = datetime.fromtimestamp(record.revoked, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
                raise AlreadyRevoked(f"the key {record.name!r} ({record.id}) was revoked already, on {when}")
            return record.model_copy(update={"revoked": now})

        return await self._change(decide)

    async def ever_made(self) -> bool:
        """Return whether any key was ever made, be it revoked by now."""
        return await self._state.count(SPACE) > 0

    async def version(self) -> int:
        """Return the version of the keys; see `State.version`."""
        return await self._state.version(SPACE)

    async def _change(self, decide: Callable[[Sequence[KeyRecord]], KeyRecord]) -> KeyRecord:
        """Write the record that was decided on for the keys as they are, deciding anew if they change meanwhile."""
        for _ in range(_ATTEMPTS):
            seen = await self._state.version(SPACE)
            record = decide(await self.list())
            if await self._state.put(SPACE, record.id, record.model_dump_json().encode(), at=seen):
                return record
        raise StateUnavailable(f"the keys at {self._state.place} are being changed by others all the time; try again")


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of the secret in lower-case hexadecimal, which is what a record keeps of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def parse_duration(text: str) -> int:
    """Return the seconds of a duration like `30s`, `15m`, `12h` or `30d`. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,12})([smhd])", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h or d, like 30s, 15m, 12h or 30d")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not 1 <= seconds <= _LONGEST_DURATION:
        raise ValueError(f"the duration {text!r} is not between 1s and 36500d")
    return seconds


def _check(record: KeyRecord) -> None:
    """Raise `BadKey` if a new record makes no sense."""
    name = record.name
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise BadKey(f"a key's name is 1 to {_LONGEST_NAME} printable characters, with no space at either end")
    if name.startswith(SECRET_PREFIX) or _ID.fullmatch(name):
        # Not repeated in the message: whoever types it may have pasted a secret.
        raise BadKey(f"a key's name must not look like a secret ({SECRET_PREFIX}…) or an id (k_…)")
    if not record.models and not record.admin:
        raise BadKey(f"the key {name!r} would be good for nothing: it is no admin key and names no models ('*' is all)")
    for pattern in record.models:
        try:
            ModelPattern.parse(pattern)
        except InvalidModelName as error:
            raise BadKey(str(error)) from None
    if record.expired(record.created):
        raise BadKey(f"the key {name!r} would have expired before it was made")
    if record.rpm is not None and record.rpm < 1:
        raise BadKey(f"a limit of {record.rpm} requests per minute lets nothing through: the least is 1")
    if record.deadline is not None and record.deadline <= 0:
        raise BadKey(f"no request can be answered within {record.deadline:g} seconds")


def _if_live(record: KeyRecord, now: float) -> KeyRecord | Refused:
    if record.revoked is not None:
        return Refused.REVOKED
    return Refused.EXPIRED if record.expired(now) else record


def _find(records: Sequence[KeyRecord], name_or_id: str, now: float) -> KeyRecord:
    for record in records:
        if record.id == name_or_id:
            return record
    named = [record for record in records if record.name == name_or_id]
    if named:
        return max(named, key=lambda record: (record.live(now), record.created))
    if name_or_id.startswith(SECRET_PREFIX):
        raise NoSuchKey("this looks like a key's secret: give the key's name or id, which `proxyctl keys list` shows")
    raise NoSuchKey(f"no key has the name or id {name_or_id!r}: `proxyctl keys list` shows them all")


def _read(key: str, value: bytes) -> KeyRecord | None:
    """Return the record; None, with a warning, if it cannot be read: one broken record must not lock everyone out."""
    try:
        return KeyRecord.model_validate_json(value)
    except ValidationError as error:
        fields = {".".join(map(str, problem["loc"])) or "JSON" for problem in error.errors(include_input=False)}
        _log.warning("the key record %s cannot be read (%s): the key is refused", key, ", ".join(sorted(fields)))
        return None
