"""Every cell of the failover contract, over real sockets: what happens, in which phase, to which kind of request.

One gateway serves nearly all of them. `faulty` is asked first, `sound` has the same models; `faulty` alone has
`lonely`. The backends that cannot be reached each have a model of their own, which `sound` has as well, and one that it
has not.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
import trustme
from tests.stories.conftest import BUILT_IN, CHAT, OPENAI_CHAT, plugin_of

from herdgate import Attempt
from herdgate.exhausted import conclude
from herdgate.failovertable import (
    AFTER_THE_FIRST_BYTE,
    BEFORE_THE_FIRST_EVENT,
    ERROR_TEXT,
    Break,
    End,
    Happening,
)
from herdgate.failure import Failure, Kind, Phase, TryNext, default_verdict
from herdgate.opening import HOLD_LIMIT
from herdgate.surface import Family, family_of, find
from herdgate.testing.faults import (
    CloseBeforeHeaders,
    Cut,
    EmptyOk,
    EndlessLine,
    EndWithoutDone,
    ErrorEvent,
    Events,
    Fault,
    FirstEvent,
    Garbage,
    Hang,
    HugeHeaders,
    RawReply,
    ResetBeforeHeaders,
    Status,
    WrongLength,
)
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama
from herdgate.testing.simulation import parts
from herdgate.testing.simulation.fault import Plan
from herdgate.testing.unreachable import Unreachable

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNS = {OPENAI_CHAT}
"""Where Ollama gives a sign of an error that it has no words for; on the other paths of this kind it just ends."""


@dataclass(frozen=True)
class Way:
    """One path, asked to stream or not."""

    path: str
    streamed: bool

    @property
    def family(self) -> Family:
        return family_of(self.path)

    def body(self, model: str) -> dict[str, object]:
        said = "input" if self.path.endswith("/responses") else "messages"
        messages = [{"role": "user", "content": "hi"}]
        return {"model": model, "stream": self.streamed, said: messages, "max_tokens": 100}

    def told_whole(self, response: httpx.Response, backend: str) -> bool:
        """Whether this is the complete answer of that backend."""
        if response.status_code != 200:
            return False
        if not self.streamed:
            return f"backend {backend}." in json.dumps(response.json())
        endpoint = find(self.path)
        terminals = endpoint.terminals if endpoint and endpoint.terminals else (b'"done":true',)
        return f"{backend}. " in response.text and any(each in response.content for each in terminals)


PATHS = (CHAT, OPENAI_CHAT, "/v1/responses", "/v1/messages")
WAYS = [Way(path, streamed) for path in PATHS for streamed in (True, False)]
ERROR_LINE = json.dumps({"error": ERROR_TEXT}).encode() + b"\n"
TOO_LONG = (b'{"padding":"' + b"x" * (HOLD_LIMIT + 1), b'"', b"}")


@dataclass(frozen=True)
class Unframed(Fault):
    """The body of another fault, whose end nothing tells but the end of the connection."""

    fault: Fault

    def _apply(self, plan: Plan) -> list[parts.Part]:
        body = b"".join(part.data for part in self.fault._apply(plan) if isinstance(part, parts.Event))
        head = f"HTTP/1.0 {plan.reply.status} OK\r\nContent-Type: {plan.reply.content_type}\r\n\r\n"
        return [parts.Raw(head.encode() + body), parts.Break("close")]


FAULTS: dict[str, Fault | tuple[Fault, ...]] = {
    "sent-reset": ResetBeforeHeaders(),
    "sent-closed": CloseBeforeHeaders(),
    "sent-not_http": Garbage(),
    "sent-huge_headers": HugeHeaders(),
    "sent-interim": RawReply(b"HTTP/1.1 102 Processing\r\n\r\n" * 9),
    "sent-silent": Hang("nothing"),
    "sent-dead": Hang("nothing"),
    "opening-reset": Cut("headers", how="reset"),
    "opening-closed": Cut("headers"),
    "opening-closed_inside": Cut(0, within="event"),
    "opening-ended_inside_line": EndWithoutDone(0, mid_event=True),
    "opening-ended_inside_event": EndWithoutDone(0, mid_event=True),
    "opening-short": WrongLength(by=100),
    "opening-silent": Hang("headers"),
    "opening-dead": Hang("headers"),
    "opening-other_success": Status(206, b'{"done":true,"message":{"content":"a part"}}'),
    "opening-empty": EmptyOk(),
    "opening-not_json": FirstEvent(b"data: <oops>\n\n"),
    "opening-html": Status(200, b"<p>hello</p>", "text/html"),
    "opening-endless": EndlessLine(),
    "opening-error_event": FirstEvent(ERROR_LINE),
    "opening-swallowed_error": ErrorEvent(0),
    "stream-reset": Cut(2, how="reset"),
    "stream-closed": Cut(2),
    "stream-closed_inside": Cut(2, within="event"),
    "stream-torn": Cut(2, within="chunk"),
    "stream-silent": Hang(2),
    "stream-ended_inside": EndWithoutDone(2, mid_event=True),
    "stream-ended": EndWithoutDone(2),
    "stream-unframed": Unframed(EndWithoutDone(2)),
    "stream-error_event": ErrorEvent(2, ERROR_TEXT),
}
WHOLE_FAULTS: dict[str, Fault] = {
    "stream-reset": Cut(2, how="reset"),
    "stream-closed": Cut(2),
    "stream-silent": Hang(2),
}
"""After the first part has reached the client: a reset throws away what is still on its way."""
UNREACHABLE = (
    "connect-refused",
    "connect-no_answer",
    "connect-no_host",
    "connect-tls",
    "connect-skipped",
    "connect-plugin",
)
IMPATIENT = {"sent-silent", "opening-silent", "stream-silent"}
WATCHED = {"sent-dead", "opening-dead"}

STAGE = """
from herdgate import ModelEntry, Skip, hookimpl

class Extra:
    herdgate_api = 1

    def __init__(self):
        self.ended = {}

    @hookimpl
    async def list_models(self, backend):
        names = [tag for tag in backend.tags]
        return [ModelEntry.from_tags({"name": name}) for name in names]

    @hookimpl
    def around_attempt(self, attempt):
        return Skip("it is full") if attempt.backend.name == "connect-skipped" else None

    @hookimpl
    def prepare_upstream(self, attempt):
        if attempt.backend.name == "connect-plugin":
            raise RuntimeError("cannot prepare this")

    @hookimpl
    def exchange_ended(self, summary):
        self.ended[summary.exchange.id] = summary
"""


@dataclass(frozen=True)
class Stage:
    """The gateway, the backend that fails on demand and the one that does not."""

    gateway: RunningGateway
    faulty: SimulatedOllama
    sound: SimulatedOllama

    async def play(self, way: Way, model: str) -> tuple[httpx.Response, list[Attempt]]:
        """One request and its attempts."""
        response = await self.gateway.client.post(way.path, json=way.body(model=model))
        return response, await self.attempts(response)

    async def attempts(self, response: httpx.Response) -> list[Attempt]:
        ended, name = plugin_of(self.gateway, "extra").ended, response.headers["x-request-id"]
        await until(lambda: name in ended)
        attempts: list[Attempt] = ended[name].exchange.attempts
        return attempts


def toml(health: str) -> str:
    """Asking nobody for models, and with circuits that never open by themselves: each cell begins afresh."""
    listed = BUILT_IN.replace('use = "health"\n', f'use = "health"\nfailures = 1000000\n{health}')
    return f'[[plugin]]\nuse = "./extra.py:Extra"\n\n{listed}'


def certified_by_nobody_known() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("stage")
    (directory / "extra.py").write_text(STAGE, "utf-8")
    models = ["both", "lonely", "hasty", "hasty-lonely", *UNREACHABLE]
    async with (
        SimulatedOllama(name="faulty", models=models) as faulty,
        SimulatedOllama(name="sound", models=models) as sound,
        SimulatedOllama(name="gone") as gone,
        SimulatedOllama(name="strange", tls=certified_by_nobody_known()) as strange,
        Unreachable() as nobody,
    ):
        await gone.stop()
        places = {
            "connect-refused": gone.url,
            "connect-no_answer": nobody.url,
            "connect-no_host": "http://no-such-host.invalid:11434",
            "connect-tls": strange.url,
            "connect-skipped": faulty.url,
            "connect-plugin": faulty.url,
        }
        hasty = {"first_event_timeout": 0.3, "idle_timeout": 0.15}
        backends: list[dict[str, Any]] = [
            {"name": name, "base_url": url, "tags": [name, f"{name}-lonely"]} for name, url in places.items()
        ]
        backends[list(places).index("connect-no_answer")]["connect_timeout"] = 0.2
        backends += [
            {"name": "faulty", "base_url": faulty.url, "tags": ["both", "lonely"]},
            {"name": "hasty", "base_url": faulty.url, "tags": ["hasty", "hasty-lonely"], **hasty},
            {"name": "sound", "base_url": sound.url, "tags": ["both", "hasty", *UNREACHABLE]},
        ]
        idle = 'idle_interval = "1h"\ninterval = "1h"\n'
        async with running_gateway(*backends, toml=toml(idle), directory=directory) as gateway:
            yield Stage(gateway, faulty, sound)


@pytest.fixture(autouse=True)
def clean(stage: Stage) -> None:
    stage.faulty.clear_script()


def cells(rows: tuple[Happening, ...] | tuple[Break, ...]) -> list[Any]:
    """Each row with each way of asking that it is about."""
    found = []
    for row in rows:
        for way in WAYS:
            concerned = [row.replies] if isinstance(row, Happening) else list(row.ends)
            signless = row.key == "opening-swallowed_error" and way.path not in SIGNS
            if any(each.concern(way.family, streamed=way.streamed) for each in concerned) and not signless:
                name = f"{row.key}-{way.path}-{'streamed' if way.streamed else 'whole'}"
                found.append(pytest.param(row, way, id=name))
    return found


def models_of(row: Happening) -> tuple[str, str]:
    """The model that another backend has as well, and the one that it has not."""
    if row.key in UNREACHABLE:
        return row.key, f"{row.key}-lonely"
    return ("hasty", "hasty-lonely") if row.key in IMPATIENT else ("both", "lonely")


def fault_of(row: Happening) -> Fault | tuple[Fault, ...] | None:
    if row.failure.kind is Kind.STATUS and row.failure.status is not None:
        return Status(row.failure.status, ERROR_TEXT)
    return FAULTS.get(row.key)


def assert_taken_for(attempt: Attempt, row: Happening) -> None:
    failure = attempt.failure
    assert failure is not None
    assert (failure.phase, failure.kind, failure.status) == (row.failure.phase, row.failure.kind, row.failure.status)


def assert_error(response: httpx.Response, failures: list[Failure]) -> None:
    """The reply is what the contract concludes from these failures, in the format of the path."""
    conclusion = conclude(failures)
    assert response.status_code == conclusion.status
    assert ("retry-after" in response.headers) == (conclusion.retry_after is not None)
    error = response.json()["error"]
    message = error if family_of(str(response.url.path)) is Family.OLLAMA else error["message"]
    assert isinstance(message, str)
    if not conclusion.denied:
        assert message == conclusion.message


QUICK = tuple(row for row in BEFORE_THE_FIRST_EVENT if row.key not in IMPATIENT | WATCHED | {"connect-no_answer"})
SLOW = [row for row in BEFORE_THE_FIRST_EVENT if row not in QUICK and row.key not in WATCHED]


@pytest.mark.parametrize(("row", "way"), cells(QUICK))
async def test_before_the_first_event(stage: Stage, row: Happening, way: Way) -> None:
    await check(stage, row, way)


@pytest.mark.parametrize("row", SLOW, ids=lambda row: row.key)
async def test_before_the_first_event_after_a_wait(stage: Stage, row: Happening) -> None:
    """All ways at the same time: there is nothing to do but to wait."""
    await asyncio.gather(*(check(stage, row, way) for way in WAYS))


async def check(stage: Stage, row: Happening, way: Way) -> None:
    if (fault := fault_of(row)) is not None:
        stage.faulty.script(way.path, fault, times=None)
    shared, lonely = await asyncio.gather(*(stage.play(way, model) for model in models_of(row)))

    response, attempts = shared
    assert_taken_for(attempts[0], row)
    if isinstance(default_verdict(row.failure, ()), TryNext):
        assert [attempt.backend.name for attempt in attempts[1:]] == ["sound"]
        assert way.told_whole(response, "sound")
    else:
        assert len(attempts) == 1
        assert_error(response, [row.failure])

    response, attempts = lonely
    assert len(attempts) == 1
    assert_taken_for(attempts[0], row)
    assert_error(response, [row.failure])


@pytest.mark.parametrize(("row", "way"), cells(AFTER_THE_FIRST_BYTE))
async def test_after_the_first_byte(stage: Stage, row: Break, way: Way) -> None:
    begun = asyncio.Event()
    whole = (Events(TOO_LONG), Hang(1, until=begun), WHOLE_FAULTS.get(row.key, Cut(2)))
    stage.faulty.script(way.path, FAULTS[row.key] if way.streamed else whole, times=None)
    before = sum(request.path == way.path for request in stage.sound.requests)
    body = way.body("hasty" if row.key in IMPATIENT else "both")
    received, complete = b"", True
    async with stage.gateway.client.stream("POST", way.path, json=body) as response:
        assert response.status_code == 200
        try:
            async for data in response.aiter_raw():
                received += data
                begun.set()
        except httpx.RemoteProtocolError:
            complete = False
    end = next(end for replies, end in row.ends.items() if replies.concern(way.family, streamed=way.streamed))
    assert complete == (end is not End.CUT)
    assert ends_with_error(received) == (end is End.ERROR or (row.key == "stream-error_event" and way.streamed))
    assert sum(request.path == way.path for request in stage.sound.requests) == before
    (attempt,) = await stage.attempts(response)
    assert (attempt.failure is None) == (end is End.PASSES)
    assert attempt.failure is None or attempt.failure.phase is Phase.STREAM


def ends_with_error(received: bytes) -> bool:
    """Whether the last event is an error in the way of its family."""
    last = received.rstrip(b"\n").rpartition(b"\n\n")[2] if b"data: " in received else received.splitlines()[-1]
    return last.startswith((b'{"error":', b'data: {"error":', b"event: error\ndata: {"))


# a backend that dies while it is waited for


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("watched")
    (directory / "extra.py").write_text(STAGE, "utf-8")
    async with (
        SimulatedOllama(name="faulty", models=["both", "lonely"]) as faulty,
        SimulatedOllama(name="sound", models=["both"]) as sound,
    ):
        backends = [
            {"name": "faulty", "base_url": faulty.url, "tags": ["both", "lonely"]},
            {"name": "sound", "base_url": sound.url, "tags": ["both"]},
        ]
        quick = "watch_after = 0.1\ninterval = 0.1\npatience = 0.3\n"
        async with running_gateway(*backends, toml=toml(quick), directory=directory) as gateway:
            yield Stage(gateway, faulty, sound)


@pytest.mark.parametrize("row", [row for row in BEFORE_THE_FIRST_EVENT if row.key in WATCHED], ids=lambda row: row.key)
async def test_a_backend_that_dies_while_it_is_waited_for(watched: Stage, row: Happening) -> None:
    """All ways at the same time: they wait for the same death."""
    faulty = watched.faulty
    faulty.script("*", FAULTS[row.key], times=None, model="both")
    faulty.script("*", FAULTS[row.key], times=None, model="lonely")
    shared = [asyncio.create_task(watched.play(way, "both")) for way in WAYS]
    lonely = [asyncio.create_task(watched.play(way, "lonely")) for way in WAYS]
    await faulty.wait_for(lambda faulty: faulty.concurrent == 2 * len(WAYS))
    await faulty.freeze()
    for way, (response, attempts) in zip(WAYS, await asyncio.gather(*shared), strict=True):
        assert_taken_for(attempts[0], row)
        assert way.told_whole(response, "sound")
    for response, attempts in await asyncio.gather(*lonely):
        assert_taken_for(attempts[0], row)
        assert_error(response, [row.failure])
    faulty.clear_script()
    await faulty.thaw()
    circuits = plugin_of(watched.gateway, "health").circuits
    await until(lambda: circuits.state("faulty") != "open")
    assert WAYS[0].told_whole((await watched.play(WAYS[0], "both"))[0], "faulty")


async def test_every_fault_belongs_to_a_row() -> None:
    keys = {row.key for row in BEFORE_THE_FIRST_EVENT} | {row.key for row in AFTER_THE_FIRST_BYTE}
    assert {*FAULTS, *WHOLE_FAULTS, *UNREACHABLE} <= keys
