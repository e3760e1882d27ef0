"""The contract between Herdgate and its plugins: every hook, when it is called, what it may answer, what a fault does.

A plugin is a class. It takes only the arguments it needs, by name:

    from herdgate import hookimpl

    class NewestFirst:
        herdgate_api = 1

        @hookimpl
        def select_candidates(self, candidates):
            return sorted(candidates, key=lambda c: c.model.modified_at, reverse=True)

Plugins are asked in the order in which `plugins.toml` lists them. Wherever a hook is not marked sync, `async def` is
accepted, and so is a plain `def` that answers at once most of the time and returns an awaitable when it has to wait.
Every phase has a deadline of `PHASE_DEADLINE` seconds for all plugins together, unless the hook says otherwise.
`CancelledError` means that the client has left: clean up and let it pass.

This module is the one source of `docs/hooks.md` and of what the loader checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

import click
import httpx
import pluggy

from herdgate.access import Action, Allow, Credentials, Deny, Identity, Refusal, Rejected, Resource, Verdict
from herdgate.app import App, CannotStart, Fleet
from herdgate.backend import Backend, Candidate, ModelEntry
from herdgate.errors import Reply
from herdgate.exchange import Attempt, Exchange, Head, Summary, UpstreamRequest
from herdgate.failure import Failure, GiveUp, Skip, TryNext
from herdgate.metrics import Metric
from herdgate.routes import Route
from herdgate.surface import Family

PROJECT = "herdgate"
API = 1
PHASE_DEADLINE = 5.0
START_DEADLINE = 30.0
POLL_DEADLINE = 5.0
TURN_DEADLINE = 3600.0
LEAVE_DEADLINE = 30.0

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a method of a plugin as the implementation of the hook of that name."""

hookspec = pluggy.HookspecMarker(PROJECT)


class Kind(Enum):
    """How the answers of several plugins make one."""

    FIRST = "first: plugins are asked in order until one answers something other than None"
    CHAIN = "chain: each plugin gets what the one before it returned; None leaves it as it is"
    GUARD = "guard: every plugin is asked; any Deny wins, and without an Allow it is a Deny"
    CONTEXTS = "contexts: the context managers are entered in order and left in reverse"
    GATHER = "gather: the answers of all plugins are put together"
    FILTERS = "filters: each plugin may add a filter; the stream runs through them in order"
    NOTIFY = "notify: every plugin is told; nothing is expected back"


_Verdict = Refusal | Skip | None
ContextManager = AbstractAsyncContextManager[_Verdict] | AbstractContextManager[_Verdict]
"""Async, or plain where nothing has to be waited for: a plain one needs no deadline and so costs less."""


class StreamFilter(Protocol):
    """Sees, and may change, the body of one relayed stream. No I/O, no waiting: it runs between two reads."""

    def feed(self, data: bytes) -> bytes:
        """What to pass on for these bytes; their boundaries mean nothing. Empty holds everything back for now."""
        ...

    def finish(self) -> bytes:
        """What is still to be passed on now that the stream has ended cleanly."""
        ...


class BackendSource(Protocol):
    """Where backends come from. `list` is called again at every discovery tick, so that a source may grow and
    shrink.
    """

    def list(self) -> Any:
        """The backends in priority order: a sequence of `BackendSettings`, or an awaitable of one."""
        ...


@dataclass(frozen=True, slots=True)
class HookInfo:
    """What the loader and the calling code know about a hook.

    `expects` are the types a result may have beside None; object means any. `items` is what a returned list must
    hold. `raises` are exceptions that an implementation may use to speak of the backend: they are no faults of the
    plugin. `advisory`: a plugin may declare that requests go on without it. `tolerant`: they always do. Who keeps
    failing where they do is left out for a while, see `quarantine`. `deprecated` says since when a hook is on its way
    out, and what takes its place.
    """

    kind: Kind
    expects: tuple[type, ...]
    on_fault: str
    sync: bool = False
    advisory: bool = False
    tolerant: bool = False
    deadline: float = PHASE_DEADLINE
    items: type = object
    raises: tuple[type[Exception], ...] = ()
    deprecated: str = ""


INFO: dict[str, HookInfo] = {}
"""Every hook by name, in the order of a request's way."""

_F = TypeVar("_F", bound=Callable[..., Any])


def deprecation(name: str, info: HookInfo) -> DeprecationWarning | None:
    """What whoever implements this hook is told; None if it is here to stay."""
    return DeprecationWarning(f"the hook {name} is deprecated: {info.deprecated}") if info.deprecated else None


def _hook(info: HookInfo) -> Callable[[_F], _F]:
    def declare(function: _F) -> _F:
        INFO[function.__name__] = info
        return hookspec(function, warn_on_impl=deprecation(function.__name__, info))

    return declare


class Hooks:
    """All hooks. Their signatures are what plugins may ask for; no instance of this class is ever called."""

    # life of the gateway

    @_hook(
        HookInfo(
            Kind.CONTEXTS,
            (AbstractAsyncContextManager, AbstractContextManager),
            on_fault="at start: the gateway does not start; at stop: logged",
            deadline=START_DEADLINE,
            raises=(CannotStart,),
        )
    )
    def lifespan(self, app: App, fleet: Fleet) -> ContextManager | None:
        """Set up what the plugin needs for as long as its configuration counts, and take it down again.

        When: in each worker process, before the first request and after the last. A reload makes new instances, and for
        a while both run; what they share is in `app.memory`. `fleet` is empty until the backends are known, a moment
        later.
        Returns: a context manager, async or plain.
        None: nothing to set up.

        Example::

            from contextlib import asynccontextmanager

            class Warehouse:
                herdgate_api = 1

                @hookimpl
                @asynccontextmanager
                async def lifespan(self, app):
                    self.orders = {}
                    yield
                    self.orders.clear()
        """

    @_hook(HookInfo(Kind.GATHER, (list, tuple, object), on_fault="at start: no start; later: the last list is kept"))
    def backend_sources(self, app: App) -> Sequence[BackendSource] | BackendSource | None:
        """Say which backends exist.

        When: once at start; each source's `list()` is called again at every discovery tick.
        Returns: one source or several. Their lists are joined in plugin order; of two backends with one name the
        first stays.
        None: no source here.

        Example::

            from herdgate import BackendSettings

            class Lab:
                herdgate_api = 1

                def list(self):
                    return [BackendSettings(name="lab", base_url="http://10.0.0.7:11434")]

                @hookimpl
                def backend_sources(self):
                    return self
        """

    @_hook(
        HookInfo(
            Kind.FIRST,
            (list, tuple),
            on_fault="that backend keeps its last list",
            deadline=POLL_DEADLINE,
            items=ModelEntry,
            raises=(httpx.HTTPError, ValueError, TimeoutError),
        )
    )
    async def list_models(self, backend: Backend, client: httpx.AsyncClient) -> Sequence[ModelEntry] | None:
        """Ask one backend what it hosts. `client` has the backend's address, credentials and deadlines built in.

        When: at every discovery tick, for all backends at the same time.
        Returns: the models, in any order. Raise (any exception of httpx, or ValueError) when the backend cannot say.
        None: not a kind of backend this plugin knows.

        Example::

            from herdgate import ModelEntry

            class OneModelServers:
                herdgate_api = 1

                @hookimpl
                async def list_models(self, backend, client):
                    if "single" not in backend.tags:
                        return None
                    reply = (await client.get("/model-name")).raise_for_status()
                    return [ModelEntry.from_tags({"name": reply.text.strip()})]
        """

    @_hook(HookInfo(Kind.CHAIN, (list, tuple), on_fault="the last good list is kept", sync=True, items=ModelEntry))
    def shape_catalogue(self, backend: Backend, entries: Sequence[ModelEntry]) -> Sequence[ModelEntry] | None:
        """Hide or change models before they enter the catalogue. A hidden model is unknown to every caller.

        When: after each successful poll of a backend.
        Returns: the entries that this backend shall be known for.
        None: unchanged.

        Example::

            class NoDrafts:
                herdgate_api = 1

                @hookimpl
                def shape_catalogue(self, entries):
                    return [entry for entry in entries if not entry.name.tag.endswith("-draft")]
        """

    # who may call

    @_hook(HookInfo(Kind.FIRST, (Identity, Rejected, Refusal), on_fault="closed: 503, no further plugin is asked"))
    async def authenticate(self, exchange: Exchange, credentials: Credentials) -> Identity | Rejected | Refusal | None:
        """Say who sends this request. The only hook that sees credentials.

        When: for every request but `/`, `/healthz`, `/readyz` and OPTIONS, before anything else is looked at.
        Returns: an Identity; Rejected, which ends the request with a 401; or a Refusal (status 503, say) when nobody
        can tell now.
        None: not my kind of credentials; the next plugin is asked. If nobody answers: 401.

        Example::

            import hmac
            from herdgate import Identity, Rejected

            class SharedSecret:
                herdgate_api = 1

                @hookimpl
                def authenticate(self, credentials):
                    if credentials.key is None:
                        return None
                    if hmac.compare_digest(credentials.key.get_secret_value().encode(), b"open sesame"):
                        return Identity("team", models=("*",))
                    return Rejected("not the secret")
        """

    @_hook(HookInfo(Kind.FIRST, (Identity, Rejected), on_fault="the explanation says so"))
    async def identify(self, name: str) -> Identity | Rejected | None:
        """Say who a caller of this name is, without any proof. No request is ever served on this answer.

        When: an admin asks what that caller may do (`proxyctl explain`).
        Returns: the Identity that `authenticate` would give to this caller, or Rejected with the reason why it would
        give none.
        None: not a caller that this plugin knows; the next one is asked.

        Example::

            from herdgate import Identity

            class Team:
                herdgate_api = 1

                @hookimpl
                def identify(self, name):
                    return Identity(name, models=("llama3.2",)) if name in {"alice", "bob"} else None
        """

    @_hook(
        HookInfo(
            Kind.CONTEXTS,
            (AbstractAsyncContextManager, AbstractContextManager, Refusal),
            on_fault="closed: 503; what was already taken is given back",
        )
    )
    def admit(self, exchange: Exchange, identity: Identity) -> ContextManager | Refusal | None:
        """Apply this caller's limits. The context manager lives until the request has ended, whatever happens to it.

        When: after authentication, before the body is read and before anything is known of the model, so that a
        request which will be denied counts like any other.
        Returns: a context manager, async or plain, or a Refusal; a manager may also yield a Refusal.
        None: no limit here.

        Example::

            from contextlib import asynccontextmanager
            from herdgate import Refusal

            class TwoAtATime:
                herdgate_api = 1

                def __init__(self):
                    self.running = {}

                @hookimpl
                def admit(self, identity):
                    if self.running.get(identity.name, 0) >= 2:
                        return Refusal("two requests are already running", retry_after=1)
                    return self.counted(identity.name)

                @asynccontextmanager
                async def counted(self, name):
                    self.running[name] = self.running.get(name, 0) + 1
                    try:
                        yield
                    finally:
                        self.running[name] -= 1
        """

    @_hook(HookInfo(Kind.GUARD, (Allow, Deny, list, tuple), on_fault="closed: Deny"))
    async def authorise(
        self, identity: Identity, action: Action, resources: Sequence[Resource]
    ) -> Verdict | Sequence[Verdict]:
        """Say what a caller may do with each of these resources.

        When: for every request about a model (one resource), for every listing (all models at once), and for every path
        of a plugin or that is refused (the gateway itself).
        Returns: one verdict for all, or a list with one verdict per resource. Any Deny wins; without any Allow it is
        a Deny.
        None: no opinion.

        Example::

            from herdgate import Action, Allow, Deny

            class InternsMayLook:
                herdgate_api = 1

                @hookimpl
                def authorise(self, identity, action, resources):
                    if not identity.name.startswith("intern-"):
                        return None
                    return Allow() if action is Action.SEE else Deny("interns may only look")
        """

    @_hook(HookInfo(Kind.FIRST, (Reply,), on_fault="closed: the built-in constant 403", sync=True))
    def mask_denial(self, exchange: Exchange, family: Family, reason: str | None) -> Reply | None:
        """Make the reply to a request that is denied. It must not depend on whether the model exists.

        When: for an unknown model, a forbidden model and a management call without rights, all alike.
        Returns: the reply.
        None: the next plugin is asked; if nobody answers, the built-in constant 403 is sent.
        `reason` is None unless the plugin's class says `discloses = True`.

        Example::

            from herdgate import Reply

            class Teapot:
                herdgate_api = 1

                @hookimpl
                def mask_denial(self, family):
                    return Reply(418, {"content-type": "application/json"}, b'{"error":"no"}')
        """

    # which backend, when

    @_hook(
        HookInfo(
            Kind.CHAIN,
            (list, tuple),
            on_fault="closed: 503; a plugin whose class says `advisory = True` is skipped and counted, "
            "and left out for a while if it keeps failing",
            advisory=True,
        )
    )
    async def select_candidates(
        self, exchange: Exchange, candidates: Sequence[Candidate]
    ) -> Sequence[Candidate] | None:
        """Decide which backends are tried for this request, and in which order.

        When: once per routed request, with the backends that host the model, in configured order.
        Returns: the candidates to try, some or all of those given, in the order to try them. Others are a fault.
        None: unchanged.

        Example::

            class NightShift:
                herdgate_api = 1

                @hookimpl
                def select_candidates(self, candidates):
                    return [c for c in candidates if "day-only" not in c.backend.tags]
        """

    @_hook(
        HookInfo(
            Kind.CONTEXTS,
            (AbstractAsyncContextManager, AbstractContextManager, Skip),
            on_fault="this attempt is skipped; a plugin whose class says `advisory = True` is ignored and counted, "
            "and left out for a while if it keeps failing",
            advisory=True,
        )
    )
    def around_attempt(self, exchange: Exchange, attempt: Attempt) -> ContextManager | Skip | None:
        """Be there before and after each attempt: take a slot, watch the outcome.

        When: around every attempt, from before the connection until the end of the stream. Afterwards
        `attempt.failure` tells what went wrong, or is None.
        Returns: a context manager, async or plain, or Skip to leave this backend out; a manager may also yield a Skip.
        What was skipped may be waited for, see `wait_for_turn`.
        None: not interested.

        Example::

            from contextlib import asynccontextmanager

            class CountFailures:
                herdgate_api = 1
                advisory = True

                def __init__(self):
                    self.failures = {}

                @hookimpl
                @asynccontextmanager
                async def around_attempt(self, attempt):
                    yield
                    if attempt.failure:
                        name = attempt.backend.name
                        self.failures[name] = self.failures.get(name, 0) + 1
        """

    @_hook(
        HookInfo(
            Kind.CONTEXTS,
            (AbstractAsyncContextManager, AbstractContextManager, Refusal),
            on_fault="closed: 503; what was already taken is given back",
            deadline=TURN_DEADLINE,
        )
    )
    def wait_for_turn(self, exchange: Exchange, candidates: Sequence[Candidate]) -> ContextManager | Refusal | None:
        """Wait until one of the backends that were skipped may be tried: a slot in a queue, a machine that wakes up.

        When: every candidate has failed or was skipped by `around_attempt`, and no failure ended the search. At most
        once for each of them; a request that finds a backend at once never comes here.
        Returns: a context manager. Entering it is the waiting; then the skipped candidates are tried again, in their
        order, and it is left when one of them has answered or none will. One that yields a Refusal, or a Refusal
        instead of it, ends the request. A caller that leaves cancels the waiting.
        None: nothing to wait for. If nobody waits, the request ends with a 503.

        Example::

            import asyncio
            from contextlib import asynccontextmanager

            class SecondChance:
                herdgate_api = 1

                @hookimpl
                @asynccontextmanager
                async def wait_for_turn(self):
                    await asyncio.sleep(0.2)
                    yield
        """

    @_hook(HookInfo(Kind.CHAIN, (UpstreamRequest,), on_fault="this attempt fails, nothing is sent"))
    async def prepare_upstream(
        self, exchange: Exchange, attempt: Attempt, request: UpstreamRequest
    ) -> UpstreamRequest | None:
        """Change what is sent to a backend. Each attempt starts from the client's own request again.

        When: before each attempt. The backend's address and credentials are added afterwards.
        Returns: the request to send.
        None: unchanged.

        Example::

            class Tagged:
                herdgate_api = 1

                @hookimpl
                def prepare_upstream(self, exchange, request):
                    return request.with_header("x-request-id", exchange.id)
        """

    @_hook(
        HookInfo(
            Kind.FIRST,
            (TryNext, GiveUp),
            on_fault="the core's own table decides; who keeps failing is left out for a while",
            sync=True,
            tolerant=True,
        )
    )
    def judge_failure(self, exchange: Exchange, attempt: Attempt, failure: Failure) -> TryNext | GiveUp | None:
        """Decide whether the next candidate is tried after a failed attempt. Never asked once a byte has gone to the
        client.

        When: after each failed attempt; `exchange.attempts` holds them all, this one included.
        Returns: TryNext or GiveUp.
        None: the next plugin is asked, and at last the core's own table (`docs/operating.md`).

        Example::

            from herdgate import GiveUp

            class OneRetry:
                herdgate_api = 1

                @hookimpl
                def judge_failure(self, attempt):
                    return GiveUp("one retry is enough") if attempt.number >= 2 else None
        """

    @_hook(HookInfo(Kind.FIRST, (Failure,), on_fault="counts as a failed opening", sync=True))
    def inspect_opening(self, exchange: Exchange, head: Head, opening: bytes) -> Failure | None:
        """Look at the first event of a reply before any of it is released, and say if it is a failure.

        When: once per attempt that got a success status. `opening` is the first event as it came (an NDJSON line or
        an SSE event with its end), or the whole body of a reply that does not stream.
        Returns: a Failure; the attempt then counts as failed and the next backend may be tried.
        None: looks good.

        Example::

            from herdgate import Failure, Kind, Phase

            class NoEmptyAnswers:
                herdgate_api = 1

                @hookimpl
                def inspect_opening(self, opening):
                    if b'"response":""' in opening and b'"done":true' in opening:
                        return Failure(Kind.EMPTY, Phase.OPENING, "the model said nothing")
        """

    @_hook(
        HookInfo(
            Kind.FILTERS,
            (object,),
            on_fault="before the first byte: 503; later: the stream ends with an in-band error",
            sync=True,
        )
    )
    def filter_stream(self, exchange: Exchange, head: Head) -> StreamFilter | None:
        """Put a filter into the body of a reply.

        When: once per routed reply with a success status, before its first byte is released. Without any filter the
        stream takes a faster way, so answer None whenever there is nothing to do.
        Returns: a new StreamFilter for this one stream.
        None: no filter.

        Example::

            class Shout:
                def feed(self, data):
                    return data.upper()

                def finish(self):
                    return b""

            class Shouting:
                herdgate_api = 1

                @hookimpl
                def filter_stream(self, exchange):
                    return Shout() if "x-shout" in exchange.headers else None
        """

    # paths of its own

    @_hook(HookInfo(Kind.GATHER, (Route, list, tuple), on_fault="no start; a handler that fails: 503"))
    def routes(self, app: App, fleet: Fleet) -> Sequence[Route] | Route | None:
        """Answer paths that the gateway does not answer, or that it refuses, such as `/api/pull`.

        When: once at start. A route's handler is called for each request to its path whose caller `authorise` allows
        the route's action; everybody else gets the generic 403 before anything of the body is read.
        Returns: one route or several.
        None: no paths of its own.

        Example::

            import json
            from herdgate import Action, Reply, Route

            class Map:
                herdgate_api = 1

                @hookimpl
                def routes(self, fleet):
                    self.fleet = fleet
                    return Route("/herdgate/map", self.answer, Action.ADMINISTER)

                async def answer(self, call):
                    names = [backend.name for backend in self.fleet.backends]
                    return Reply(200, {"content-type": "application/json"}, json.dumps(names).encode())
        """

    # afterwards

    @_hook(
        HookInfo(
            Kind.NOTIFY,
            (object,),
            on_fault="logged and counted; who keeps failing is left out for a while",
            tolerant=True,
        )
    )
    async def exchange_ended(self, summary: Summary) -> None:
        """Learn how a request ended.

        When: exactly once per request, whatever happened to it, a client that left included.
        Returns: nothing that anybody looks at.
        None: the usual answer.

        Example::

            class Slowest:
                herdgate_api = 1
                seconds = 0.0

                @hookimpl
                def exchange_ended(self, summary):
                    self.seconds = max(self.seconds, summary.seconds)
        """

    @_hook(
        HookInfo(Kind.GATHER, (list, tuple), on_fault="named and counted; the other metrics are served", items=Metric)
    )
    def collect_metrics(self) -> Sequence[Metric] | None:
        """Say what the plugin has measured, for `GET /metrics`.

        When: each time that somebody reads the metrics; every few seconds where there are several processes.
        Returns: the metrics with their values as they are now.
        None: nothing to say.

        Example::

            from herdgate import Metric

            class Patience:
                herdgate_api = 1

                def __init__(self):
                    self.left = 0

                @hookimpl
                def exchange_ended(self, summary):
                    self.left += summary.outcome == "client_left"

                @hookimpl
                def collect_metrics(self):
                    return [Metric("clients_left_total", "Clients that did not wait.", "counter", {(): self.left})]
        """

    # beside the gateway

    @_hook(
        HookInfo(
            Kind.GATHER,
            (list, tuple),
            on_fault="named; its commands are left out",
            items=click.Command,
        )
    )
    def register_commands(self) -> Sequence[click.Command] | None:
        """Add commands to `proxyctl`.

        When: when `proxyctl` is asked for a command that it does not have itself, or to list those of plugins. No
        gateway runs in that process, and nothing but the plugin's constructor was called before.
        Returns: click commands or groups. A name that is taken already is a fault.
        None: no commands.

        Example::

            import click

            class Greeter:
                herdgate_api = 1

                @hookimpl
                def register_commands(self):
                    @click.command(help="Say hello.")
                    @click.option("--name", default="world")
                    def greet(name):
                        click.echo(f"hello {name}")

                    return [greet]
        """


def signature_of(name: str) -> tuple[str, ...]:
    """The names of a hook's arguments, in order."""
    function = vars(Hooks)[name]
    code = function.__code__
    return tuple(code.co_varnames[1 : code.co_argcount])


def described(name: str) -> Mapping[str, str]:
    """The parts of a hook's documentation: `summary`, `when`, `returns`, `none`, `example`, and `on_fault` from the
    table.
    """
    import inspect

    text, _, example = inspect.cleandoc(vars(Hooks)[name].__doc__ or "").partition("Example::")
    parts: dict[str, str] = {"summary": "", "on_fault": INFO[name].on_fault, "example": inspect.cleandoc(example)}
    label = "summary"
    for line in text.splitlines():
        head, colon, rest = line.partition(": ")
        if colon and head in {"When", "Returns", "None"}:
            label, line = head.lower(), rest
        parts[label] = f"{parts.get(label, '')} {line}".strip()
    return parts
