"""Lets admin keys manage models through the gateway: pull, push, create, copy, delete, load and unload."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from herdgate import (
    Action,
    Allow,
    Backend,
    Body,
    Call,
    Candidate,
    Exchange,
    Fleet,
    Identity,
    ModelName,
    Reply,
    Resource,
    Route,
    StreamedReply,
    hookimpl,
)
from herdgate_plugins.model_management.asking import Failed, ask, together
from herdgate_plugins.model_management.progress import Progress
from herdgate_plugins.model_management.targets import NoTarget, belongs, named, only, present

log = logging.getLogger("herdgate.plugins")

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
UNLOAD_WITHIN = 4.0
"""Seconds for the other backends to unload a model; an Ollama answers at once."""

_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_NOT_FOUND = 404


class ModelManagement:
    """Admin keys may manage models; for everybody else its paths stay the generic 403.

    A request names backends with the header `X-Herdgate-Backend: gpu1, gpu2`, or `all`. Without it a model is pulled
    to, copied on and deleted from the backends that have it, and pulled to the first one if none has it; pushed from
    and created on the first that has it, or its base; blobs go to the first backend.
    """

    herdgate_api = 1

    @hookimpl
    def authorise(self, identity: Identity, action: Action, resources: Sequence[Resource]) -> Allow | None:
        """Allow admins to manage. Other plugins may deny them single models."""
        del resources
        return Allow("an admin key") if action is Action.MANAGE and identity.admin else None

    @hookimpl
    def routes(self, fleet: Fleet) -> list[Route]:
        """The paths of Ollama's API that change what a backend holds."""
        self._fleet = fleet
        post = frozenset({"POST"})
        paths = {
            "/api/pull": (self._pull, post),
            "/api/push": (self._push, post),
            "/api/create": (self._create, post),
            "/api/copy": (self._copy, post),
            "/api/delete": (self._delete, frozenset({"DELETE"})),
            "/api/blobs/": (self._blob, frozenset({"HEAD", "POST"})),
        }
        return [
            Route(path, _with_targets(handler), Action.MANAGE, methods, deadline=None)
            for path, (handler, methods) in paths.items()
        ]

    # loading and unloading: ordinary requests, which the gateway routes

    @hookimpl
    def select_candidates(
        self, exchange: Exchange, candidates: Sequence[Candidate]
    ) -> Sequence[Candidate] | Awaitable[Sequence[Candidate]] | None:
        """Keep to the backends that an admin names. An unload goes to all that are left, not only to the first."""
        identity = exchange.identity
        if identity is None or not identity.admin:
            return None
        try:
            wanted = named(exchange.headers, self._fleet.backends)
        except NoTarget:
            return []
        kept = [each for each in candidates if wanted is None or each.backend in wanted]
        return self._unload_elsewhere(exchange, kept) if exchange.unloads and len(kept) > 1 else kept

    async def _unload_elsewhere(self, exchange: Exchange, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Have all but the first backend unload the model; the first one's answer goes to the caller."""
        assert exchange.endpoint is not None and exchange.body is not None  # noqa: S101, PT018 - it names a model
        path, body = exchange.endpoint.path, exchange.body.raw

        async def unload(backend: Backend) -> None:
            try:
                async with asyncio.timeout(UNLOAD_WITHIN):
                    await ask(self._fleet, backend, "POST", path, content=body, headers=JSON)
            except (Failed, TimeoutError) as error:
                log.warning("the model was not unloaded from backend %s: %s", backend.name, error or "no answer")

        await asyncio.gather(*(unload(each.backend) for each in candidates[1:]))
        return candidates

    # paths

    async def _pull(self, call: Call) -> Reply | StreamedReply:
        body, name, text = await _named_model(call)
        backends = self._named(call) or belongs(self._fleet.holders(name), self._fleet.backends)
        _refuse_cloud(name, backends)
        sent = {"model": text, "insecure": body.boolean("insecure", default=False), "stream": True}
        return await self._worked(call, body, backends, json.dumps(sent).encode())

    async def _push(self, call: Call) -> Reply | StreamedReply:
        body, name, text = await _named_model(call)
        backends = self._named(call) or present(self._fleet.holders(name))[:1]
        if not backends:
            raise NoTarget(f"model '{name.display}' not found", _NOT_FOUND)
        sent = {"model": text, "insecure": body.boolean("insecure", default=False), "stream": True}
        return await self._worked(call, body, [only(backends)], json.dumps(sent).encode())

    async def _create(self, call: Call) -> Reply | StreamedReply:
        body, _, _ = await _named_model(call)
        base = body.text("from")
        holders: Sequence[Candidate] = ()
        if base:
            source = call.model(base)
            await call.require(Action.MANAGE, source)
            holders = self._fleet.holders(source)
        backend = only(self._named(call) or belongs(holders, self._fleet.backends)[:1])
        if body.value("remote_host") and not backend.cloud:
            raise NoTarget(f"the backend {backend.name} may not send prompts elsewhere: cloud = true allows it")
        return await self._worked(call, body, [backend], _streaming(body))

    async def _copy(self, call: Call) -> Reply:
        body = await call.body()
        source, destination = (call.model(body.text(field)) for field in ("source", "destination"))
        await call.require(Action.MANAGE, source, destination)
        sent = {field: body.text(field) for field in ("source", "destination")}
        return await self._everywhere(call, source, "POST", "/api/copy", sent)

    async def _delete(self, call: Call) -> Reply:
        _, name, text = await _named_model(call)
        return await self._everywhere(call, name, "DELETE", "/api/delete", {"model": text})

    async def _blob(self, call: Call) -> Reply:
        digest = call.exchange.path.rpartition("/")[2]
        if not _DIGEST.fullmatch(digest):
            return call.error(400, "invalid digest format")
        backend, path = only(self._named(call) or belongs((), self._fleet.backends)), f"/api/blobs/{digest}"
        try:
            await ask(self._fleet, backend, "HEAD", path)
        except Failed as failed:
            if failed.status != _NOT_FOUND or call.exchange.method == "HEAD":
                return _failed(call, failed)
        else:
            return Reply(200)  # an Ollama that has it would not read it either
        length = {} if call.length is None else {"content-length": str(call.length)}
        try:
            await ask(self._fleet, backend, "POST", path, content=call.pieces(), headers=length)
        except Failed as failed:
            return _failed(call, failed)
        return Reply(201)

    # what they have in common

    def _named(self, call: Call) -> list[Backend] | None:
        return named(call.exchange.headers, self._fleet.backends)

    async def _worked(self, call: Call, body: Body, backends: Sequence[Backend], sent: bytes) -> Reply | StreamedReply:
        """Have the backends work; the caller sees how far they are, or, if it does not stream, how it ended."""
        lines = self._progress(call.exchange.path, backends, sent)
        if body.boolean("stream", default=True):
            return StreamedReply(200, LINES, lines)
        last = b"{}"
        async for line in lines:
            last = line
        return Reply(500 if b'"error"' in last else 200, JSON, last.rstrip())

    async def _progress(self, path: str, backends: Sequence[Backend], sent: bytes) -> AsyncIterator[bytes]:
        progress = Progress([backend.name for backend in backends])
        async for backend, said in together(self._fleet, backends, path, sent):
            line = None
            match said:
                case dict():
                    line = progress.step(backend.name, said)
                case Failed():
                    progress.failed(backend.name, str(said))
                case None:
                    progress.done(backend.name)
                    self._fleet.refresh(backend)
            if line is not None:
                yield _line(line)
        yield _line(progress.last())

    async def _everywhere(self, call: Call, name: ModelName, method: str, path: str, sent: dict[str, str]) -> Reply:
        """Ask every backend that is named or has the model. That one of them does not have it is no failure."""
        backends = self._named(call) or present(self._fleet.holders(name))
        content = json.dumps(sent).encode()

        async def one(backend: Backend) -> Failed | None:
            try:
                await ask(self._fleet, backend, method, path, content=content, headers=JSON)
            except Failed as failed:
                return failed
            self._fleet.refresh(backend)
            return None

        answers = await asyncio.gather(*map(one, backends))
        done = [backend.name for backend, failed in zip(backends, answers, strict=True) if failed is None]
        problems = [
            (backend.name, failed)
            for backend, failed in zip(backends, answers, strict=True)
            if failed is not None and failed.status != _NOT_FOUND
        ]
        if problems:
            texts = "; ".join(f"{backend}: {failed}" for backend, failed in problems)
            return call.error(502, f"{texts} (done on: {', '.join(done) or 'none'})")
        return Reply(200) if done else call.error(_NOT_FOUND, f"model '{name.display}' not found")


def _with_targets(handler: Any) -> Any:
    """The handler, whose NoTarget becomes an error of the caller's."""

    async def handle(call: Call) -> Reply | StreamedReply:
        try:
            reply: Reply | StreamedReply = await handler(call)
        except NoTarget as error:
            return call.error(error.status, str(error))
        return reply

    return handle


async def _named_model(call: Call) -> tuple[Body, ModelName, str]:
    """The body, the model it is about, and the client's own spelling of it, once the caller may manage that model."""
    body = await call.body()
    text = body.text("model") or body.text("name")
    name = call.model(text)
    await call.require(Action.MANAGE, name)
    return body, name, text


def _refuse_cloud(name: ModelName, backends: Sequence[Backend]) -> None:
    barred = [backend.name for backend in backends if name.source == "cloud" and not backend.cloud]
    if barred:
        raise NoTarget(f"the backend {barred[0]} may not use models of the cloud: cloud = true allows it")


def _streaming(body: Body) -> bytes:
    """The very body with `stream` on: the values as they came, under keys that every reader understands alike."""
    return body.replaced({"stream": b"true"})


def _failed(call: Call, failed: Failed) -> Reply:
    return call.error(failed.status if failed.status and failed.status < 500 else 502, str(failed))


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
