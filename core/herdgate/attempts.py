"""Failover: one backend after another, until one gives a reply whose opening is good.

Nothing has gone to the caller while this runs, so every step may still be taken back. Each attempt is made from the
caller's own request again; what an earlier attempt changed is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import httpx
import msgspec

from herdgate.access import Refusal
from herdgate.backend import Candidate
from herdgate.errors import message_of
from herdgate.exchange import Attempt, AttemptOutcome, Exchange, Head, UpstreamRequest, record
from herdgate.failure import Failure, GiveUp, Kind, Phase, Skip, TryNext, default_verdict
from herdgate.faults import PluginFault
from herdgate.lastline import ended_well
from herdgate.opening import Framing, Opening, foreign, framing_of, holds
from herdgate.runtime import Runtime
from herdgate.scope import Scope
from herdgate.upstream.client import Upstream, UpstreamFailed, UpstreamReply, failure_of
from herdgate.waits import Wait

log = logging.getLogger("herdgate.requests")

ERROR_BODY_LIMIT = 64 * 1024
"""How much of a backend's error body is read, in bytes."""
ERROR_BODY_DEADLINE = 5.0
_SUCCESSES = frozenset({200, 201})
"""The only ones that these APIs have: others speak of a part of the reply, or of none."""
_SHOWN = 200
"""How much of what went wrong the log gets, in characters: a backend chooses its own words."""


class Exhausted(Exception):  # noqa: N818 - an answer, not a fault
    """No backend gave a usable reply; these are the failures, in order.

    `skipped` are the candidates that may still be waited for: plugins left them out, and no failure ended the search.
    `refusal` is what the plugins said that would not wait for them.
    """

    def __init__(
        self, failures: Sequence[Failure], skipped: Sequence[Candidate] = (), refusal: Refusal | None = None
    ) -> None:
        super().__init__(f"{len(failures)} attempts failed")
        self.failures = tuple(failures)
        self.skipped = tuple(skipped)
        self.refusal = refusal


class _Failed(Exception):  # noqa: N818 - it carries a Failure
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Opened(msgspec.Struct):
    """A reply with a good opening.

    `reply` gives what comes after `opening`, if `complete` does not say that this is all. `scope` holds the connection
    and the plugins' leases; whoever gets this closes it.
    """

    attempt: Attempt
    upstream: Upstream
    reply: UpstreamReply
    framing: Framing
    opening: bytes
    complete: bool
    scope: Scope

    @property
    def head(self) -> Head:
        """Status and headers of the reply."""
        return self.reply.head


class Attempts:
    """The failover loop of one exchange."""

    def __init__(self, exchange: Exchange, request: UpstreamRequest, runtime: Runtime) -> None:
        self._exchange = exchange
        self._request = request
        self._points = runtime.points
        self._discovery = runtime.discovery
        self._waits = runtime.process.waits
        self._failures: list[Failure] = []

    async def open(self, candidates: Sequence[Candidate]) -> Opened:
        """Try the candidates in order. The caller closes the `scope` of what it gets. Raises Exhausted.

        May be called again, with candidates that were skipped: earlier failures count on.
        """
        skipped: list[Candidate] = []
        for candidate in candidates:
            attempt = Attempt(len(self._exchange.attempts) + 1, candidate)
            record(self._exchange, "attempts", (*self._exchange.attempts, attempt))
            scope = Scope()
            try:
                return await self._ask(attempt, scope)
            except _Failed as failed:
                attempt.failed(failed.failure)
                await scope.close()
                self._fail(attempt, failed.failure, skipped)
            except BaseException:
                attempt.outcome = AttemptOutcome.ABANDONED
                await scope.close()
                raise
        raise Exhausted(self._failures, skipped)

    def _fail(self, attempt: Attempt, failure: Failure, skipped: list[Candidate]) -> None:
        """Note what went wrong. Raises Exhausted if nobody else is to be asked."""
        verdict = self._judge(attempt, failure, self._failures)
        self._failures.append(failure)
        if failure.kind is Kind.SKIPPED:
            skipped.append(attempt.candidate)
        if failure.status == 404:
            self._discovery.refresh(attempt.backend)
        if isinstance(verdict, GiveUp):
            raise Exhausted(self._failures)

    def _judge(self, attempt: Attempt, failure: Failure, earlier: Sequence[Failure]) -> TryNext | GiveUp:
        """A skipped attempt sent nothing and says nothing, so nobody is asked about it."""
        if failure.kind is Kind.SKIPPED:
            return TryNext()
        said = "".join(each if each.isprintable() else " " for each in failure.detail[:_SHOWN])
        of = (self._exchange.id, attempt.number, attempt.backend.name)
        log.info("request %s: attempt %d at %s failed: %s", *of, said)
        try:
            verdict = self._points.judge_failure(self._exchange, attempt, failure)
        except PluginFault:
            verdict = None
        return verdict or default_verdict(failure, earlier)

    async def _ask(self, attempt: Attempt, scope: Scope) -> Opened:
        """One backend. What is taken for it goes into `scope`. Raises _Failed."""
        upstream = self._discovery.upstream(attempt.backend)
        if upstream is None:
            raise _Failed(Failure(Kind.SKIPPED, Phase.CONNECT, "the backend was just taken out of the configuration"))
        request = await self._prepared(attempt, scope)
        limit = upstream.settings.first_event_timeout
        phase = Phase.SENT
        clock = self._waits.loop.time
        attempt.sent_at = started = clock()
        try:
            with self._waits.until(started + limit) as deadline:
                attempt.stop_waiting = deadline.end
                reply = await upstream.send(request)
                scope.push(reply.close)
                phase = Phase.OPENING
                attempt.status = reply.head.status
                framing, opening, complete = await self._opened(upstream, reply, deadline)
        except TimeoutError as error:
            raise _Failed(_gave_up(attempt, phase, limit)) from error
        except UpstreamFailed as failed:
            raise _Failed(failed.failure) from failed
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _Failed(failure_of(error, phase)) from error
        finally:
            attempt.stop_waiting = None
        attempt.first_event_after = clock() - started
        return Opened(attempt, upstream, reply, framing, opening, complete, scope)

    async def _prepared(self, attempt: Attempt, scope: Scope) -> UpstreamRequest:
        """What the plugins have to say before anything is sent."""
        try:
            answer = await self._points.around_attempt.enter(scope, self._exchange, attempt)
            if isinstance(answer, Skip):
                raise _Failed(Failure(Kind.SKIPPED, Phase.CONNECT, answer.reason))
            if not self._points.prepare_upstream.impls:
                return self._request
            return await self._points.prepare_upstream(self._exchange, attempt, self._request)
        except PluginFault as fault:
            kind = Kind.SKIPPED if fault.hook == "around_attempt" else Kind.PLUGIN
            raise _Failed(Failure(kind, Phase.CONNECT, str(fault))) from fault

    async def _opened(self, upstream: Upstream, reply: UpstreamReply, deadline: Wait) -> tuple[Framing, bytes, bool]:
        """How the reply is framed, what was read of it, and whether that is all."""
        head = reply.head
        if not 200 <= head.status < 300:
            raise _Failed(await _status_failure(reply))
        endpoint = self._exchange.endpoint
        framing = framing_of(head, may_stream=endpoint is not None and endpoint.streams is not None)
        if head.status not in _SUCCESSES:
            raise _Failed(Failure(Kind.MALFORMED, Phase.OPENING, f"a success of another kind: status {head.status}"))
        if "content-encoding" in head.headers and (failure := _compressed(head)):
            raise _Failed(failure)
        if framing is not Framing.WHOLE and (failure := foreign(framing, self._exchange.family)):
            raise _Failed(failure)
        opening, end = reply.arrived(), None
        if framing is Framing.NDJSON:
            end = opening.find(b"\n") + 1 or None
        if end is None and not (framing is Framing.WHOLE and reply.complete and holds(opening)):
            opening, end = await _read_opening(framing, reply, opening, deadline, upstream.settings.idle_timeout)
        if end is None:
            self._inspect(head, opening)
            if framing is Framing.NDJSON and not ended_well(opening, whole=True, delimited=reply.delimited):
                raise _Failed(Failure(Kind.BROKEN, Phase.OPENING, "the stream ended inside its first line"))
        elif framing is not Framing.WHOLE:  # of a reply too long to be held nobody can tell anything yet
            self._inspect(head, opening[:end])
        return framing, opening, end is None

    def _inspect(self, head: Head, event: bytes) -> None:
        try:
            failure = self._points.inspect_opening(self._exchange, head, event)
        except PluginFault as fault:
            failure = Failure(Kind.PLUGIN, Phase.OPENING, str(fault))
        if failure is not None:
            raise _Failed(failure)


def _compressed(head: Head) -> Failure | None:
    """Whether the body is said to be compressed, which nobody asked for: neither plugins nor callers could read it."""
    coding = head.headers.get("content-encoding")
    if not coding or coding.lower() == "identity":
        return None
    return Failure(Kind.MALFORMED, Phase.OPENING, f"a compressed reply ({coding:.40}), which was not asked for")


def _gave_up(attempt: Attempt, phase: Phase, limit: float) -> Failure:
    """Nobody waits for this attempt any longer: its time was over, or a plugin had it left."""
    if attempt.left_because is not None:
        return Failure(Kind.DEAD, phase, attempt.left_because)
    return Failure(Kind.TIMEOUT, phase, f"no first event within {limit:g} s")


async def _read_opening(
    framing: Framing, reply: UpstreamReply, data: bytes, deadline: Wait, idle_timeout: float
) -> tuple[bytes, int | None]:
    """Read on, behind `data`, until the opening is complete. Returns what was read and where its first event ends; None
    if the body has ended.

    Once a reply that does not stream has begun, only its silences are limited, not its length in time.
    """
    opening = Opening(framing)
    loop = asyncio.get_running_loop()
    data = data or await reply.more()
    while data:
        end = opening.feed(data)
        if end is not None:
            return bytes(opening.buffer), end
        if failure := opening.overlong():
            raise _Failed(failure)
        if framing is Framing.WHOLE and not reply.complete:
            deadline.due = loop.time() + idle_timeout
        data = await reply.more()
    if failure := opening.ended():
        raise _Failed(failure)
    return bytes(opening.buffer), None


async def _status_failure(reply: UpstreamReply) -> Failure:
    """An error status, with what the body says. A body that is slow or broken says nothing, the status still counts."""
    head = reply.head
    body = bytearray()
    try:
        async with asyncio.timeout(ERROR_BODY_DEADLINE):
            while data := await reply.more():
                body += data
                if len(body) > ERROR_BODY_LIMIT:
                    break
    except (TimeoutError, httpx.HTTPError):
        pass
    message = message_of(bytes(body))
    detail = f"status {head.status}" + (f": {message}" if message else "")
    return Failure(Kind.STATUS, Phase.OPENING, detail, head.status, message, _seconds(head.headers.get("retry-after")))


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds, an hour at most; dates, which backends of this kind do not send, count as none."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return None
    return float(min(int(retry_after[:9]), 3600))  # Python refuses to read thousands of digits
