"""Notice when the state is away, and when it is back."""

from __future__ import annotations

import asyncio
import logging

from herdgate.state import State, StateUnavailable

log = logging.getLogger("herdgate.state")

INTERVAL = 2.0
"""Seconds between two looks."""


class StateWatch:
    """Asks the state for next to nothing, again and again; `away` is what it learned last."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.away = False

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._state.version("catalogue")
            except StateUnavailable as error:
                if not self.away:
                    log.warning("state is away, requests go on from memory: %s", error)
                self.away = True
            else:
                if self.away:
                    log.info("state is back")
                self.away = False
