"""Having backends change what they hold: the requests, apart from how a command shows them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from herdgate.cli.diagnosis import diagnose
from herdgate.cli.discover import Asked, Backends
from herdgate.cli.failures import BadAnswer, BadUsage
from herdgate.errors import message_of
from herdgate.exchange import UpstreamRequest
from herdgate.names import InvalidModelName, ModelName
from herdgate.upstream.client import Upstream, UpstreamFailed, UpstreamReply

SILENCE = 600.0
"""Seconds that a backend may be silent while it works: verifying a model of 100 GB takes minutes."""
_LONGEST_LINE = 1024 * 1024


class NotDone(Exception):  # noqa: N818 - an answer
    """A backend did not do it; the message says why. `status` is that of its reply, if there was one."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Holder:
    """A backend that has the model."""

    upstream: Upstream
    asked: Asked


def model_name(text: str) -> ModelName:
    """The model of this name. Raises BadUsage."""
    try:
        return ModelName.parse(text)
    except InvalidModelName as error:
        raise BadUsage(f"{text!r}: {error}") from error


def chosen(backends: Backends, names: Sequence[str]) -> list[Upstream]:
    """The backends of these names, in configured order; all of them if no name is given. Raises BadUsage."""
    known = {upstream.backend.name.lower(): upstream for upstream in backends.upstreams}
    for name in names:
        if name.lower() not in known:
            there = ", ".join(upstream.backend.name for upstream in backends.upstreams) or "none"
            raise BadUsage(f"no backend is named {name}; there are: {there}")
    wanted = {name.lower() for name in names}
    return [upstream for name, upstream in known.items() if not wanted or name in wanted]


async def asked_who_has(
    backends: Backends, upstreams: Sequence[Upstream], name: ModelName
) -> tuple[list[Holder], list[Asked]]:
    """Which of these backends have a model, and which of them could not say. Raises BadAnswer if none could."""
    answers = await asyncio.gather(*map(backends.models_of, upstreams))
    failed = [asked for asked in answers if asked.problem is not None]
    if len(failed) == len(answers):
        told = "; ".join(f"{asked.settings.name}: {asked.problem.text}" for asked in failed if asked.problem)
        raise BadAnswer(f"no backend answers: {told}" if told else "there is no backend")
    holders = [
        Holder(upstream, asked)
        for upstream, asked in zip(upstreams, answers, strict=True)
        if any(entry.name.key == name.key for entry in asked.entries)
    ]
    return holders, failed


async def tell(upstream: Upstream, method: str, path: str, body: dict[str, object] | None) -> bytes:
    """One request, as routing would send it, and the whole answer. Raises NotDone."""
    return b"".join([piece async for piece in _answer(upstream, method, path, body)])


async def work(upstream: Upstream, path: str, body: dict[str, object]) -> AsyncGenerator[dict[str, object], None]:
    """What a backend says, line by line, while it works on this. Raises NotDone, unless it ends with `success`."""
    finished = False
    try:
        async with aclosing(_lines(_answer(upstream, "POST", path, body))) as lines:
            async for line in lines:
                if (problem := message_of(line)) is not None:
                    raise NotDone(problem)
                said = json.loads(line)
                if isinstance(said, dict):
                    finished = said.get("status") == "success"
                    yield said
    except ValueError as error:
        raise NotDone("it answered something that is not JSON") from error
    if not finished:
        raise NotDone("it stopped before the end")


async def _answer(
    upstream: Upstream, method: str, path: str, body: dict[str, object] | None
) -> AsyncGenerator[bytes, None]:
    headers: tuple[tuple[str, str], ...] = (("accept", "application/json"),)
    content = b""
    if body is not None:
        headers, content = (*headers, ("content-type", "application/json")), json.dumps(body).encode()
    reply: UpstreamReply | None = None
    try:
        async with asyncio.timeout(SILENCE):
            reply = await upstream.send(UpstreamRequest(method, path, headers, content))
        if not 200 <= reply.head.status < 300:
            async with asyncio.timeout(SILENCE):
                said = await reply.whole()
            raise NotDone(message_of(said) or f"status {reply.head.status} for {path}", reply.head.status)
        while True:
            async with asyncio.timeout(SILENCE):
                piece = await reply.more()
            if not piece:
                return
            yield piece
    except (UpstreamFailed, httpx.HTTPError, TimeoutError) as error:
        raise NotDone(diagnose(error, upstream.settings, SILENCE).text) from error
    finally:
        if reply is not None:
            await reply.aclose()


async def _lines(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise ValueError("a line without end")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest
