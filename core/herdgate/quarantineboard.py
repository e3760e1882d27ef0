"""Who is left out of which hook, told through the state, so that `proxyctl` learns it from every process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import time
from dataclasses import asdict

from herdgate.quarantine import LeftOut
from herdgate.state import State, StateUnavailable

log = logging.getLogger("herdgate.plugins")

SPACE = "quarantine"


class Board:
    """The entries of this process. A state that is away costs nothing but the news."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._process = f"{socket.gethostname()} {os.getpid()}"
        self._mark = secrets.token_hex(4)  # a configuration that ends takes away its own entries, not its successor's
        self._turn = asyncio.Lock()

    async def post(self, left: LeftOut, out: bool) -> None:
        """Tell that a plugin is left out, or no more; and take away what processes that are gone left behind."""
        async with self._turn:  # an entry is never taken away before it is there
            try:
                await self._post(left, out)
            except StateUnavailable as error:
                log.debug("who is left out could not be told: %s", error)

    async def _post(self, left: LeftOut, out: bool) -> None:
        if out:
            record = {**asdict(left), "process": self._process}
            await self._state.put(SPACE, self._key(left), json.dumps(record).encode())
        else:
            await self._state.delete(SPACE, self._key(left))
        for key, value in (await self._state.items(SPACE)).items():
            if _read(value) is None:
                await self._state.delete(SPACE, key)

    def _key(self, left: LeftOut) -> str:
        return f"{left.plugin} {left.hook} {self._process} {self._mark}"


async def posted(state: State) -> list[tuple[str, LeftOut]]:
    """Who is left out at the moment, each with the process that does so (host and number). Raises StateUnavailable."""
    read = map(_read, (await state.items(SPACE)).values())
    return [found for found in read if found is not None]


def _read(value: bytes) -> tuple[str, LeftOut] | None:
    """An entry that still holds."""
    try:
        record = json.loads(value)
        process = str(record.pop("process"))
        left = LeftOut(**record)
        return (process, left) if left.until > time.time() else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
