"""The event loop of every process, and how its memory is kept, chosen in one place."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

COLLECT_AFTER = (10_000, 20, 50)
"""Requests make hundreds of objects each and nearly none of them in cycles: Python's default of 700 looks far too
often.
"""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in a new event loop.

    It is asyncio's own, although uvloop takes a little less CPU for a chunk of a stream: uvloop accepts one connection
    per turn of the loop, and in a burst of a thousand clients the last ones waited six times as long.
    """
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(main)


def settle_memory() -> None:
    """To be called when a process has started: what is there by now stays, so the collector need not look at it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
