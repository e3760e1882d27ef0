"""The state on a Redis server: for gateways on several machines.

A space is one hash and one number, `herdgate:entries:SPACE` and `herdgate:version:SPACE`. The server should keep its
data over a restart and must not evict it (`appendonly yes`, `maxmemory-policy noeviction`).
"""

from typing import Any, Final, Literal, Self

from redis.commands.core import AsyncScript

from herdgate.state.place import RedisPlace
from herdgate.state.redis_link import RedisLink
from herdgate.state.redis_script import ADD, DELETE, PUT, PUT_AT, SCHEMA

_PREFIX = "herdgate:"
_SCHEMA_KEY = f"{_PREFIX}schema"


class RedisState:
    """A `State` on a Redis server. Made by `open`."""

    kind: Final[Literal["redis"]] = "redis"

    def __init__(self, place: RedisPlace) -> None:
        self.place: Final = str(place)
        self._link = RedisLink(place)
        register = self._link.redis.register_script
        self._put, self._put_at, self._add, self._delete = map(register, (PUT, PUT_AT, ADD, DELETE))

    @classmethod
    async def open(cls, place: RedisPlace) -> Self:
        """Connect, and check that the data there is of a known schema. Raises `StateUnavailable`."""
        state = cls(place)
        try:
            schema = await state._ask("GET", _SCHEMA_KEY)
            if schema not in (None, b"%d" % SCHEMA):
                raise state._link.unavailable(
                    f"its data has another schema than {SCHEMA}, the only one this herdgate knows: upgrade herdgate, "
                    "or choose another database number"
                )
        except BaseException:
            await state.close()
            raise
        return state

    async def get(self, space: str, key: str) -> bytes | None:
        """See `State.get`."""
        value: bytes | None = await self._ask("HGET", _entries(space), key)
        return value

    async def put(self, space: str, key: str, value: bytes, *, at: int | None = None) -> bool:
        """See `State.put`."""
        if at is None:
            return await self._change(self._put, space, key, value)
        return await self._change(self._put_at, space, key, value, at)

    async def add(self, space: str, key: str, value: bytes) -> bool:
        """See `State.add`."""
        return await self._change(self._add, space, key, value)

    async def delete(self, space: str, key: str) -> bool:
        """See `State.delete`."""
        return await self._change(self._delete, space, key)

    async def items(self, space: str) -> dict[str, bytes]:
        """See `State.items`."""
        return {key.decode(): value for key, value in (await self._ask("HGETALL", _entries(space))).items()}

    async def count(self, space: str) -> int:
        """See `State.count`."""
        return int(await self._ask("HLEN", _entries(space)))

    async def version(self, space: str) -> int:
        """See `State.version`."""
        return int(await self._ask("GET", _version(space)) or 0)

    async def close(self) -> None:
        """See `State.close`."""
        await self._link.close()

    async def _ask(self, *command: str) -> Any:
        return await self._link.call(lambda redis: redis.execute_command(*command))  # type: ignore[no-untyped-call]

    async def _change(self, script: AsyncScript, space: str, *arguments: str | bytes | int) -> bool:
        keys = (_entries(space), _version(space), _SCHEMA_KEY)
        return bool(await self._link.call(lambda _: script(keys, arguments), changes=True))


def _entries(space: str) -> str:
    return f"{_PREFIX}entries:{space}"


def _version(space: str) -> str:
    return f"{_PREFIX}version:{space}"
