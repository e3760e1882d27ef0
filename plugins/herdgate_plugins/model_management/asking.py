"""Asking backends to do something, one or several at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from herdgate import Backend, Fleet, message_of

log = logging.getLogger("herdgate.plugins")

SILENCE = 600.0
"""Seconds that a backend may be silent while it works: verifying a model of 100 GB takes minutes."""
_LONGEST_LINE = 1024 * 1024


class Failed(Exception):  # noqa: N818 - an answer
    """A backend did not do it; the message says why, without addresses and paths. `status` is its reply's, if any."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


async def ask(fleet: Fleet, backend: Backend, method: str, path: str, **more: Any) -> httpx.Response:
    """One question and its whole answer. Raises Failed."""
    try:
        async with fleet.client(backend, SILENCE) as client:
            reply = await client.request(method, path, **more)
    except (LookupError, httpx.HTTPError) as error:
        raise Failed(_unreachable(error)) from error
    if reply.is_success:
        return reply
    raise Failed(message_of(reply.content) or f"status {reply.status_code}", reply.status_code)


async def steps(fleet: Fleet, backend: Backend, path: str, body: bytes) -> AsyncIterator[dict[str, Any]]:
    """What a backend says while it works, line by line. Raises Failed, also for an error among the lines."""
    finished = False
    try:
        async with (
            fleet.client(backend, SILENCE) as client,
            client.stream(
                "POST",
                path,
                content=body,
                headers={"content-type": "application/json"},
                extensions={"unbounded": True},
            ) as reply,
        ):
            if not reply.is_success:
                raise Failed(message_of(await reply.aread()) or f"status {reply.status_code}", reply.status_code)
            async for line in _lines(reply):
                if (problem := message_of(line)) is not None:
                    raise Failed(problem)
                said = json.loads(line)
                if isinstance(said, dict):
                    finished = said.get("status") == "success"
                    yield said
    except (LookupError, httpx.HTTPError) as error:
        raise Failed(_unreachable(error)) from error
    except (ValueError, RecursionError) as error:
        raise Failed("it answered something that is not JSON") from error
    if not finished:
        raise Failed("it stopped before the end")


async def _lines(reply: httpx.Response) -> AsyncIterator[bytes]:
    """Lines end with a line feed and nothing else, whatever httpx thinks of U+2028."""
    rest = b""
    async for data in reply.aiter_raw():
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise ValueError("a line without end")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def _unreachable(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    return "it cannot be reached" if isinstance(error, httpx.ConnectError | LookupError) else "its connection broke"


async def together(
    fleet: Fleet, backends: Sequence[Backend], path: str, body: bytes
) -> AsyncIterator[tuple[Backend, dict[str, Any] | Failed | None]]:
    """What several backends say while they work, as it comes; None when one has finished, Failed when it could not.

    Leaving this early breaks off what they do. What goes wrong here is logged, and ends that backend's part as well.
    """
    heard: asyncio.Queue[tuple[Backend, dict[str, Any] | Failed | None]] = asyncio.Queue(maxsize=1)

    async def listen(backend: Backend) -> None:
        end = None
        try:
            async with aclosing(steps(fleet, backend, path, body)) as said:  # type: ignore[type-var]
                async for step in said:
                    await heard.put((backend, step))
        except Failed as failed:
            end = failed
        except Exception:  # the caller waits for an end of each, and has no deadline
            log.exception("backend %s could not be listened to", backend.name)
            end = Failed("what it answered could not be read")
        await heard.put((backend, end))

    tasks = [asyncio.create_task(listen(backend), name=f"manage {backend.name}") for backend in backends]
    try:
        left = len(tasks)
        while left:
            backend, said = await heard.get()
            left -= not isinstance(said, dict)
            yield backend, said
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
