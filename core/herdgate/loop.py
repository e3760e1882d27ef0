"""The event loop of every process, and how its memory is kept, chosen in one place."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

COLLECT_AFTER = (10_000, 20, 50)
"""Requests make hundreds of objects each and nearly none of them in cycles: Python's default of 700 looks far too
often.
"""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in a new event loop of asyncio's own, which starts faster."""
    return _run(main, asyncio.new_event_loop)


def run_server(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in the loop for many connections.

    That is uvloop where there is one: it takes a fifth less CPU for a chunk of a stream and a tenth less for a request.
    It accepts one connection per turn, for which `front/crowd.py` makes up.
    """
    try:
        from uvloop import new_event_loop
    except ImportError:  # not on every system that Sanic runs on
        return run(main)
    return _run(main, new_event_loop)


def _run(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> T:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)


def settle_memory() -> None:
    """To be called when a process has started: what is there by now stays, so the collector need not look at it.

    It does not look once more either: that takes 30 ms, in which callers already wait, and finds some hundred objects.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
