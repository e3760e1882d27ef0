"""Callers are known by API keys that are kept, as hashes, in the state.

Every process has all keys in memory and asks the state twice a second whether they have changed, so that no request
waits for the state, and a revocation works everywhere within a second. Protected mode: while no key was ever made, a
gateway that only this machine can reach serves callers without one; from the first key on a key is needed, and there
is no way back.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

from herdgate import (
    App,
    CannotStart,
    Credentials,
    Identity,
    KeyIndex,
    KeyRecord,
    KeyStore,
    Refusal,
    Refused,
    Rejected,
    StateUnavailable,
    hash_secret,
    hookimpl,
)

log = logging.getLogger("herdgate.keys")

SYNC_EVERY = 0.5
"""Seconds between two looks at the state."""
FRESH = 2.0
"""Seconds for which the copy in memory may be taken for complete: an unknown key is then really unknown."""
LOOK_WITHIN = 0.9
"""Seconds that an unknown key may wait for the state: what is new there takes several of its answers."""
TRUSTED = 60.0
"""Seconds for which known keys, or callers without one before the first key, are served while the state is away. After
that nobody can tell whether they were revoked, or a key was made.
"""

_PROTECTED = "api_keys.protected"
_OUR_KEYS = "hg_"
"""How all keys made here begin, and none of those that client libraries make up."""
AWAY = "keys cannot be checked at the moment, please try again"
_Answer = Identity | Rejected | Refusal | None

ADMIN = Identity("admin", models=("*",), admin=True, cloud=True)
OPEN = Identity("anonymous", models=("*",), anonymous=True, cloud=True, unprotected=True)


class ApiKeys:
    """Recognises callers by `Authorization: Bearer` or `x-api-key`."""

    herdgate_api = 1

    def __init__(self) -> None:
        self._admin_hash: str | None = None
        self._index = KeyIndex(())
        self._identities: dict[str, Identity] = {}
        """Of those in the index that have come since it was read, by hash: all requests of a key share one."""
        self._version = -1
        self._synced_at = float("-inf")
        self._failed_at = float("-inf")
        self._seen_a_key = False
        self._may_be_open = False
        self._syncing = asyncio.Lock()

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        """Read the keys, say in which mode the gateway runs, and keep the keys in step."""
        self._admin_hash = app.admin_key_hash
        self._memory = app.memory
        self._seen_a_key = self._admin_hash is not None or _PROTECTED in app.memory
        self._store = KeyStore(app.state)
        self._remember()
        await self._sync()
        self._check_exposure(app)
        follower = asyncio.create_task(self._follow(), name="api keys")
        try:
            yield
        finally:
            follower.cancel()
            await asyncio.wait([follower])

    def _check_exposure(self, app: App) -> None:
        """Say who is served. Where the operator lists `anonymous`, that plugin alone says what is open to whom."""
        listed = "anonymous" in app.plugins
        self._may_be_open = app.loopback and not listed
        if listed:
            log.info("open: the plugin anonymous serves callers without a key (keys are kept in %s)", app.state.place)
        elif self._seen_a_key:
            log.info("protected: callers need an API key (keys are kept in %s)", app.state.place)
        elif app.loopback:
            log.info(
                "open: no key was ever made, callers on this machine need none (keys will be kept in %s)",
                app.state.place,
            )
        else:
            raise CannotStart(
                f"{app.host} can be reached from other machines and there is no API key yet, so anybody could use the "
                f"backends. Make a key first (proxyctl keys create --name NAME --models '*'), set HERDGATE_ADMIN_KEY, "
                f'listen on 127.0.0.1, or list the plugin "anonymous" in plugins.toml to serve everybody on purpose.'
            )

    @hookimpl
    def authenticate(self, credentials: Credentials) -> _Answer | Awaitable[_Answer]:
        """Who the key belongs to. Before the first key anything goes: client libraries insist on sending some key.

        Only a key that is not known here is waited for.
        """
        secret = credentials.key.get_secret_value() if credentials.key is not None else None
        if self._open:
            # While the state is away, the first key may be made elsewhere; who shows it must be taken for its owner.
            if self._age() >= TRUSTED:
                return Refusal(AWAY, status=503, retry_after=5)
            return OPEN if secret is None or not secret.startswith(_OUR_KEYS) else self._look_again(secret)
        if secret is None:
            return None
        if self._admin_hash is not None and hmac.compare_digest(hash_secret(secret), self._admin_hash):
            return ADMIN
        found = self._index.look_up(secret, time.time())
        return self._look_again(secret) if found is Refused.UNKNOWN else self._answer(found)

    @hookimpl
    async def identify(self, name: str) -> Identity | Rejected | None:
        """Who a key belongs to, by its name or id; `admin` is the key that the settings give, if no other has the
        name.
        """
        with suppress(StateUnavailable, TimeoutError):  # a key made a moment ago would be missed, no more
            async with asyncio.timeout(LOOK_WITHIN):
                await self._sync()
        found = self._index.named(name, time.time())
        if isinstance(found, KeyRecord):
            return _identity(found)
        if found is not Refused.UNKNOWN:
            return Rejected(f"the key is {found.value}")
        return ADMIN if name == ADMIN.name and self._admin_hash is not None else None

    def _answer(self, found: KeyRecord | Refused) -> _Answer:
        if isinstance(found, Refused):
            return Rejected(f"the key is {found.value}")
        if self._age() >= TRUSTED:
            return Refusal(AWAY, status=503, retry_after=5)
        known = self._identities.get(found.hash)
        if known is None:
            known = self._identities[found.hash] = _identity(found)
        return known

    async def _look_again(self, secret: str) -> _Answer:
        """A key that is not known here may have been made a moment ago, by another process."""
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                await self._sync()
        except (StateUnavailable, TimeoutError):
            if self._age() > FRESH and not self._open:
                return Refusal(AWAY, status=503, retry_after=5)
        return OPEN if self._open else self._answer(self._index.look_up(secret, time.time()))

    @property
    def _open(self) -> bool:
        return self._may_be_open and not self._seen_a_key

    def _age(self) -> float:
        return time.monotonic() - self._synced_at

    async def _sync(self) -> None:
        """Bring the copy in step, once for all who wait: if that fails, it fails for all. Raises StateUnavailable."""
        asked_at = time.monotonic()
        async with self._syncing:
            if self._synced_at >= asked_at:
                return
            if self._failed_at >= asked_at:
                raise StateUnavailable("the keys could not be read a moment ago")
            started = time.monotonic()
            try:
                await self._read()
            except StateUnavailable:
                self._failed_at = time.monotonic()
                raise
            self._synced_at = started

    async def _read(self) -> None:
        version = await self._store.version()
        if version == self._version:
            return
        # Asked for by itself: a record that cannot be read is a key that was made, too.
        self._seen_a_key = self._seen_a_key or await self._store.ever_made()
        self._index, self._identities, self._version = KeyIndex(await self._store.list()), {}, version
        self._remember()

    def _remember(self) -> None:
        """Not even a reload opens a gateway that has seen a key."""
        if self._seen_a_key:
            self._memory[_PROTECTED] = True

    async def _follow(self) -> None:
        away = False
        while True:
            await asyncio.sleep(SYNC_EVERY)
            try:
                await self._sync()
                if away:
                    log.info("keys are in step with the state again")
                away = False
            except StateUnavailable as error:
                if not away:
                    log.warning("known keys are served for %g s more at most: %s", TRUSTED, error)
                away = True


def _identity(record: KeyRecord) -> Identity:
    return Identity(
        record.name,
        key_id=record.id,
        models=record.models,
        admin=record.admin,
        requests_per_minute=record.rpm,
        cloud=record.cloud,
        total_deadline=record.deadline,
    )
