"""What becomes of a request, a poll or a start when a plugin fails: the fault policy of every hook, row by row.

Each hook meets a plugin that raises, one that returns something else than the hook allows, and, where a hook may wait,
one that never returns. A real gateway serves real requests over sockets; the faulty plugin is a file that it loads.
"""

import json
import logging
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import httpx
import pytest
import trustme
from click.testing import CliRunner

from herdgate import sources
from herdgate.cli import main
from herdgate.faults import PluginFault
from herdgate.hooks import INFO, Kind, signature_of
from herdgate.quarantine import FAULTS
from herdgate.quarantineboard import posted
from herdgate.state import State
from herdgate.testing.faults import Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

ROOT = Path(__file__).parents[2]
BUILT_IN = [entry["use"] for entry in tomllib.loads((ROOT / "plugins.toml").read_text())["plugin"]]
DEADLINE = 0.3
COVERED: set[str] = set()

CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
GENERIC_403 = {"error": "access to this model is not allowed"}

RAISES = 'raise RuntimeError("boom")'
WRONG = "return 7"
NEVER = "await asyncio.Event().wait()"


def faults(hook: str, *more: str) -> pytest.MarkDecorator:
    """Run a test with each way in which an implementation of this hook can fail."""
    COVERED.add(hook)
    bodies = [RAISES, WRONG, *more]
    if not INFO[hook].sync and INFO[hook].kind is not Kind.GATHER:
        bodies.append(NEVER)
    return pytest.mark.parametrize("body", bodies)


def plugin(hook: str, body: str, attributes: str = "", condition: str = "") -> str:
    """The file of a plugin whose implementation of one hook has this body, while its `on` is true.

    With a condition, and while it is off, the hook returns None.
    """
    arguments = ", ".join(("self", *signature_of(hook)))
    waits = body == NEVER
    context = waits and INFO[hook].kind is Kind.CONTEXTS
    lines = [
        "import asyncio",
        "from contextlib import asynccontextmanager",
        "from herdgate import *",
        f"@asynccontextmanager\nasync def stuck():\n    {NEVER}\n    yield" if context else "",
        "class Faulty:",
        "    herdgate_api = 1",
        "    on = True",
        indent(dedent(attributes), "    "),
        "    @hookimpl",
        f"    {'async ' if waits and not context else ''}def {hook}({arguments}):",
        f"        if not (self.on and ({condition or True})):",
        "            return None",
        indent("return stuck()" if context else dedent(body), "        "),
    ]
    return "\n".join(lines)


def listed(*uses: str) -> str:
    return "".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses)


@pytest.fixture
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(name="first") as backend:
        yield backend


@pytest.fixture
async def second() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(name="second") as backend:
        yield backend


Start = Callable[..., AbstractAsyncContextManager[RunningGateway]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a gateway whose first plugin is the one of this file, before all built-in ones.

    If it never returns from a hook, that hook gets a deadline that a test can wait for.
    """

    def start(
        text: str, *backends: SimulatedOllama, uses: tuple[str, ...] = ("./faulty.py:Faulty", *BUILT_IN)
    ) -> AbstractAsyncContextManager[RunningGateway]:
        if NEVER in text:
            monkeypatch.setattr(sources, "POLL_DEADLINE", DEADLINE)
            for hook in INFO:
                if f"def {hook}(" in text:
                    monkeypatch.setitem(INFO, hook, replace(INFO[hook], deadline=DEADLINE))
        (tmp_path / "faulty.py").write_text(text)
        return running_gateway(*backends, toml=listed(*uses), directory=tmp_path)

    return start


def faulty(gateway: RunningGateway) -> Any:
    """The instance of the faulty plugin, to switch it on and off."""
    return next(each.instance for each in gateway.gateway.runtime.points.plugins if each.name == "faulty")


def counted(gateway: RunningGateway) -> Mapping[tuple[str, str], int]:
    return gateway.gateway.runtime.points.ledger.faults


def asked(backend: SimulatedOllama) -> list[str]:
    """What was sent to a backend, polls aside."""
    return [request.path for request in backend.requests if request.method == "POST"]


async def chat(gateway: RunningGateway, **fields: object) -> httpx.Response:
    return await gateway.client.post("/api/chat", json={**CHAT, **fields})


def words(reply: httpx.Response) -> str:
    """What a chat reply says."""
    return "".join(json.loads(line)["message"]["content"] for line in reply.text.splitlines())


async def assert_closed(gateway: RunningGateway, hook: str, *backends: SimulatedOllama) -> None:
    """503 to a request that was never sent on, and the fault counted under its plugin."""
    reply = await chat(gateway)
    assert reply.status_code == 503
    assert "retry-after" in reply.headers
    assert reply.json().keys() == {"error"}
    assert "boom" not in reply.text
    assert "faulty" not in reply.text
    assert counted(gateway)["faulty", hook] == 1
    assert [asked(backend) for backend in backends] == [[] for _ in backends]


# life of the gateway

OBSERVER = """
    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app):
        yield
        {ending}
"""


@faults("lifespan")
async def test_lifespan_that_fails_stops_the_start(
    start: Start, backend: SimulatedOllama, body: str, tmp_path: Path
) -> None:
    ending = f"__import__('os').mkdir({str(tmp_path / 'left')!r})"
    observer = plugin("exchange_ended", "return None", OBSERVER.format(ending=ending))
    (tmp_path / "observer.py").write_text(observer.replace("Faulty", "Observer"))
    gateway = start(plugin("lifespan", body), backend, uses=("./observer.py:Observer", "./faulty.py:Faulty", *BUILT_IN))
    with pytest.raises(PluginFault, match="plugin faulty failed in lifespan"):
        await gateway.__aenter__()
    assert (tmp_path / "left").exists(), "what was set up before is taken down again"
    assert backend.requests == []


@pytest.mark.parametrize("ending", [RAISES, NEVER])
async def test_lifespan_that_fails_at_the_end_is_logged(
    start: Start, backend: SimulatedOllama, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    attributes = OBSERVER.format(ending=ending)
    async with start(plugin("exchange_ended", "return None", attributes), backend) as gateway:
        assert (await chat(gateway)).status_code == 200
    assert counted(gateway) == {("faulty", "lifespan"): 1}
    assert "plugin faulty failed in lifespan" in caplog.text


@faults("backend_sources", "return [object()]")
async def test_backend_sources_that_fail_stop_the_start(start: Start, backend: SimulatedOllama, body: str) -> None:
    with pytest.raises(PluginFault, match="plugin faulty failed in backend_sources"):
        await start(plugin("backend_sources", body), backend).__aenter__()


SOURCE = """
    def list(self):
        if self.on:
            {sync}
        return {good}
"""
NEVER_LISTED = f"\nasync def never():\n    {NEVER}\n"
LISTINGS = [
    RAISES,
    "return 7",
    "return None",
    "return [7]",
    "return [Backend('x', 'http://x')]",
    "return never()",
]


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_source_that_fails_stops_the_start(start: Start, backend: SimulatedOllama, listing: str) -> None:
    source = SOURCE.format(sync=listing, good="[]")
    text = plugin("backend_sources", "return self", source) + (NEVER_LISTED if "never" in listing else "")
    with pytest.raises(PluginFault, match="plugin faulty failed in backend_sources"):
        await start(text, backend).__aenter__()


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_source_that_fails_later_keeps_its_last_list(
    start: Start, backend: SimulatedOllama, second: SimulatedOllama, listing: str
) -> None:
    source = SOURCE.format(sync=listing, good=f"[BackendSettings(name='own', base_url='{backend.url}')]")
    text = plugin("backend_sources", "return self", source) + (NEVER_LISTED if "never" in listing else "")
    text = text.replace("on = True", "on = False").replace("if not (self.on and (True))", "if False")
    async with start(text) as gateway:
        await gateway.knows("llama3.2:latest")
        faulty(gateway).on = True
        await until(lambda: counted(gateway)["faulty", "backend_sources"] >= 2)
        assert gateway.gateway.runtime.discovery.backends[0].name == "own"
        reply = await chat(gateway)
    assert reply.status_code == 200
    assert "backend first" in words(reply)


async def test_a_backend_that_cannot_be_connected_to_keeps_nobody_else_from_being_followed(
    start: Start, backend: SimulatedOllama, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its certificate file is gone by the time it is listed."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    lost = f"BackendSettings(name='lost', base_url='https://127.0.0.1:1', ca_file={str(tmp_path / 'ca.pem')!r})"
    source = f"""
        lost = {lost}

        def list(self):
            return [self.lost] if self.on else []
    """
    text = plugin("backend_sources", "return self", source).replace("on = True", "on = False")
    text = text.replace("if not (self.on and (True))", "if False")
    async with start(text, backend) as gateway:
        (tmp_path / "ca.pem").unlink()
        faulty(gateway).on = True
        await until(lambda: "backend lost is left out, it cannot be used" in caplog.text)
        assert (await chat(gateway)).status_code == 200
        faulty(gateway).on = False
        backend.models.add("qwen3")
        await gateway.knows("qwen3:latest")


# what backends host


@faults("list_models", "return ['llama3.2']", "return [None]")
async def test_a_backend_whose_listing_fails_keeps_its_last_list(
    start: Start, backend: SimulatedOllama, second: SimulatedOllama, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    second.models.add("qwen3")
    text = plugin("list_models", body, condition="backend.name == 'first'").replace("on = True", "on = False")
    async with start(text, backend, second) as gateway:
        faulty(gateway).on = True
        second.models.add("gemma3")
        await until(lambda: "backend first cannot be polled" in caplog.text)
        await gateway.knows("gemma3:latest")
        names = [model["name"] for model in (await gateway.client.get("/api/tags")).json()["models"]]
        reply = await chat(gateway)
    assert set(names) == {"llama3.2:latest", "qwen3:latest", "gemma3:latest"}
    assert "backend first" in words(reply)
    assert "backend second cannot be polled" not in caplog.text


@pytest.mark.parametrize("error", ["ValueError('no list')", "httpx.ReadError('reset')", "TimeoutError()"])
async def test_a_listing_may_say_that_the_backend_failed(
    start: Start, backend: SimulatedOllama, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = "import httpx\n" + plugin("list_models", f"raise {error}").replace("on = True", "on = False")
    async with start(text, backend) as gateway:
        faulty(gateway).on = True
        await until(lambda: "backend first cannot be polled" in caplog.text)
        assert (await chat(gateway)).status_code == 200
        assert counted(gateway) == {}


@faults("shape_catalogue", "return ['llama3.2']", "return [entries[0].name]")
async def test_a_catalogue_that_cannot_be_shaped_stays_as_it_was(
    start: Start, backend: SimulatedOllama, body: str
) -> None:
    async with start(plugin("shape_catalogue", body).replace("on = True", "on = False"), backend) as gateway:
        faulty(gateway).on = True
        backend.models.add("qwen3")
        await until(lambda: counted(gateway)["faulty", "shape_catalogue"] >= 2)
        names = [model["name"] for model in (await gateway.client.get("/api/tags")).json()["models"]]
        assert names == ["llama3.2:latest"]
        faulty(gateway).on = False
        await gateway.knows("qwen3:latest")


# who may call


@faults("authenticate", "return True", "return '*'", "return Deny('x')")
async def test_authentication_that_fails_is_closed_and_nobody_else_is_asked(
    start: Start, backend: SimulatedOllama, body: str
) -> None:
    async with start(plugin("authenticate", body), backend) as gateway:
        await assert_closed(gateway, "authenticate", backend)
        assert (await gateway.client.get("/api/tags")).status_code == 503
        assert (await gateway.client.get("/healthz")).status_code == 200


LEASES = """
    taken = given_back = 0

    @hookimpl
    @asynccontextmanager
    async def admit(self):
        self.taken += 1
        try:
            yield
        finally:
            self.given_back += 1
"""


@faults("identify", "return True", "return Refusal('x')")
async def test_identify_that_fails_is_what_the_explanation_says(
    start: Start, backend: SimulatedOllama, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with start(plugin("identify", body), backend) as gateway:
        admin = await gateway.make_key(name="carol", admin=True)
        question = {"key": "carol", "model": "llama3.2"}
        told = (await gateway.client.post("/herdgate/explain", json=question, headers=admin)).json()
        assert (told["refused"]["status"], told["refused"]["plugin"]) == (503, "faulty")
        assert [step["plugin"] for step in told["steps"]] == ["faulty"]
        assert counted(gateway) == {}, "a question does no harm"
        assert "plugin faulty failed in identify" in caplog.text
        assert (await gateway.client.get("/api/tags", headers=admin)).status_code == 200


@faults("admit", "return Skip('x')", "return Identity('x')")
async def test_admission_that_fails_is_closed_and_gives_back_what_was_taken(
    start: Start, backend: SimulatedOllama, body: str, tmp_path: Path
) -> None:
    leases = plugin("exchange_ended", "return None", LEASES).replace("Faulty", "Leases")
    (tmp_path / "leases.py").write_text(leases)
    uses = ("./leases.py:Leases", "./faulty.py:Faulty", *BUILT_IN)
    async with start(plugin("admit", body), backend, uses=uses) as gateway:
        await assert_closed(gateway, "admit", backend)
        instance: Any = gateway.gateway.runtime.points.plugins[0].instance
        assert (instance.taken, instance.given_back) == (1, 1)
        faulty(gateway).on = False
        assert (await chat(gateway)).status_code == 200
        await until(lambda: (instance.taken, instance.given_back) == (2, 2))


@faults("authorise", "return True", "return [Allow()] * 9", "return [True for _ in resources]")
async def test_authorisation_that_fails_denies(start: Start, backend: SimulatedOllama, body: str) -> None:
    async with start(plugin("authorise", body), backend) as gateway:
        reply = await chat(gateway)
        assert (reply.status_code, reply.json()) == (403, GENERIC_403)
        assert (await gateway.client.get("/api/tags")).json() == {"models": []}
        assert (await gateway.client.get("/v1/models/llama3.2")).status_code == 403
        assert counted(gateway)["faulty", "authorise"] == 3
        assert asked(backend) == []


@faults("mask_denial", "return '403'", "return Reply(403, {}, 'text')", "return Reply(403, {'x': 'a\\r\\nb'})")
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_mask_that_fails_gives_the_constant_403(
    start: Start, backend: SimulatedOllama, body: str, path: str
) -> None:
    async with start(plugin("mask_denial", body), backend) as gateway:
        replies = []
        for on in (True, False):
            faulty(gateway).on = on
            reply = await gateway.client.post(path, json={**CHAT, "model": "nothing"}, headers={"x-request-id": "r"})
            replies.append((reply.status_code, {**reply.headers, "date": ""}, reply.content))
        assert counted(gateway) == {("faulty", "mask_denial"): 1}
    assert replies[0] == replies[1]
    assert replies[0][0] == 403


# which backend, when


@faults(
    "select_candidates",
    "return candidates[0]",
    "return [*candidates, candidates[0]]",
    "return [Candidate(candidates[0].backend, candidates[0].model)]",
    "return ['first']",
)
async def test_a_selection_that_fails_is_closed(start: Start, backend: SimulatedOllama, body: str) -> None:
    async with start(plugin("select_candidates", body), backend) as gateway:
        await assert_closed(gateway, "select_candidates", backend)


@faults("select_candidates", "return [*candidates, candidates[0]]")
async def test_an_advisory_selection_that_fails_is_left_out_and_counted(
    start: Start, backend: SimulatedOllama, body: str
) -> None:
    async with start(plugin("select_candidates", body, "advisory = True"), backend) as gateway:
        assert (await chat(gateway)).status_code == 200
        assert counted(gateway) == {("faulty", "select_candidates"): 1}


async def test_an_advisory_plugin_that_keeps_failing_is_left_out_and_the_state_says_so(
    start: Start, backend: SimulatedOllama
) -> None:
    async with start(plugin("select_candidates", RAISES, "advisory = True"), backend) as gateway:
        for _ in range(FAULTS + 1):
            assert (await chat(gateway)).status_code == 200
        assert counted(gateway) == {("faulty", "select_candidates"): FAULTS}
        state = gateway.gateway.runtime.state
        await until(lambda: posted_by(state))
        ((_, left),) = await posted(state)
        assert (left.plugin, left.hook) == ("faulty", "select_candidates")


async def posted_by(state: State) -> bool:
    return bool(await posted(state))


@faults("around_attempt", "return Refusal('x')")
async def test_an_attempt_whose_surroundings_fail_is_skipped(
    start: Start, backend: SimulatedOllama, second: SimulatedOllama, body: str
) -> None:
    text = plugin("around_attempt", body, condition="self.everywhere or attempt.backend.name == 'first'")
    async with start(text.replace("on = True", "on, everywhere = True, False"), backend, second) as gateway:
        reply = await chat(gateway)
        assert (reply.status_code, "backend second" in words(reply)) == (200, True)
        faulty(gateway).everywhere = True
        reply = await chat(gateway)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert counted(gateway) == {("faulty", "around_attempt"): 3}
        assert (asked(backend), asked(second)) == ([], ["/api/chat"])


@faults("around_attempt")
async def test_advisory_surroundings_that_fail_are_ignored_and_counted(
    start: Start, backend: SimulatedOllama, body: str
) -> None:
    async with start(plugin("around_attempt", body, "advisory = True"), backend) as gateway:
        assert (await chat(gateway)).status_code == 200
        assert counted(gateway) == {("faulty", "around_attempt"): 1}


@faults("wait_for_turn", "return Skip('x')")
async def test_waiting_that_fails_is_closed(start: Start, backend: SimulatedOllama, body: str) -> None:
    full = """
        @hookimpl
        def around_attempt(self):
            return Skip('full')
    """
    async with start(plugin("wait_for_turn", body, full), backend) as gateway:
        await assert_closed(gateway, "wait_for_turn", backend)


@pytest.mark.parametrize("hook", ["admit", "around_attempt"])
@pytest.mark.parametrize("ending", [RAISES, NEVER])
async def test_a_fault_after_the_reply_changes_nothing_for_the_caller(
    start: Start, backend: SimulatedOllama, hook: str, ending: str
) -> None:
    surroundings = f"""
        @hookimpl
        @asynccontextmanager
        async def {hook}(self):
            yield
            {ending}
    """
    async with start(plugin("exchange_ended", "return None", surroundings), backend) as gateway:
        reply = await chat(gateway)
        assert reply.status_code == 200
        assert json.loads(reply.text.splitlines()[-1])["done"] is True
        await until(lambda: counted(gateway) == {("faulty", hook): 1})


NOT_TO_BE_SENT = [
    "request.with_body({'model': 'x'})",
    "request.with_body(None)",
    "request.with_body(bytearray(request.body))",
    "request.with_header('x-a', 3)",
    "request.with_header(3, 'x')",
    "request.with_header('X A', 'x')",
    "request.with_header('x-a', 'x\\r\\nx-b: x')",
    "request.with_header('x-a', '\\ud800')",
    "request.with_path('api chat')",
    "request.with_path('/api chat')",
    "request.with_path(b'/api/chat')",
    "UpstreamRequest('post', request.path, request.headers, request.body)",
    "UpstreamRequest(request.method, request.path, list(request.headers), request.body)",
    "UpstreamRequest(request.method, request.path, (('Authorization', 'x'),), request.body)",
    "UpstreamRequest(request.method, request.path, ('ab',), request.body)",
    "UpstreamRequest(request.method, request.path, request.headers, 'x')",
]


@faults("prepare_upstream", "return request.body", *(f"return {each}" for each in NOT_TO_BE_SENT))
async def test_an_attempt_that_cannot_be_prepared_fails_and_nothing_is_sent(
    start: Start, backend: SimulatedOllama, second: SimulatedOllama, body: str
) -> None:
    text = plugin("prepare_upstream", body, condition="self.everywhere or attempt.backend.name == 'first'")
    async with start(text.replace("on = True", "on, everywhere = True, False"), backend, second) as gateway:
        assert "backend second" in words(await chat(gateway))
        faulty(gateway).everywhere = True
        assert (await chat(gateway)).status_code == 502
        assert counted(gateway) == {("faulty", "prepare_upstream"): 3}
        assert (asked(backend), asked(second)) == ([], ["/api/chat"])


@faults("judge_failure", "return True")
@pytest.mark.parametrize(("status", "served"), [(503, 200), (400, 400)])
async def test_without_a_judgement_the_table_of_the_core_decides(
    start: Start, backend: SimulatedOllama, second: SimulatedOllama, body: str, status: int, served: int
) -> None:
    backend.script("/api/chat", Status(status))
    async with start(plugin("judge_failure", body), backend, second) as gateway:
        assert (await chat(gateway)).status_code == served
        assert counted(gateway) == {("faulty", "judge_failure"): 1}


@faults("inspect_opening", "return False", "return 'error'")
@pytest.mark.parametrize("stream", [True, False])
async def test_an_opening_that_cannot_be_inspected_has_failed(
    start: Start, backend: SimulatedOllama, second: SimulatedOllama, body: str, stream: bool
) -> None:
    condition = "self.everywhere or exchange.attempts[-1].backend.name == 'first'"
    text = plugin("inspect_opening", body, condition=condition)
    async with start(text.replace("on = True", "on, everywhere = True, False"), backend, second) as gateway:
        assert "backend second" in words(await chat(gateway, stream=stream))
        faulty(gateway).everywhere = True
        assert (await chat(gateway, stream=stream)).status_code == 502
        assert counted(gateway) == {("faulty", "inspect_opening"): 3}


# the reply on its way


@faults("filter_stream")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_filter_that_cannot_be_made_is_closed(
    start: Start, backend: SimulatedOllama, body: str, stream: bool
) -> None:
    async with start(plugin("filter_stream", body), backend) as gateway:
        reply = await chat(gateway, stream=stream)
        assert reply.status_code == 503
        assert counted(gateway) == {("faulty", "filter_stream"): 1}


FILTER = """
    def feed(self, data):
        {feed}

    def finish(self):
        {finish}
"""


@pytest.mark.parametrize("feed", [RAISES, WRONG, "return None", "return str(data)"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_filter_that_fails_at_the_first_bytes_is_closed(
    start: Start, backend: SimulatedOllama, feed: str, stream: bool
) -> None:
    text = plugin("filter_stream", "return self", FILTER.format(feed=feed, finish="return b''"))
    async with start(text, backend) as gateway:
        assert (await chat(gateway, stream=stream)).status_code == 503
        assert counted(gateway) == {("faulty", "filter_stream"): 1}


@pytest.mark.parametrize(
    ("feed", "finish"),
    [
        ("if b'\"done\":true' in data: raise RuntimeError('boom')\n        return data", "return b''"),
        ("return 7 if b'\"done\":true' in data else data", "return b''"),
        ("return data", RAISES),
        ("return data", WRONG),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_a_filter_that_fails_later_ends_the_stream_with_an_error(
    start: Start, backend: SimulatedOllama, feed: str, finish: str, path: str
) -> None:
    backend.behaviour.pace = 0.005
    feed = feed.replace('"done":true', "[DONE]") if path.startswith("/v1") else feed
    text = plugin("filter_stream", "return self", FILTER.format(feed=feed, finish=finish))
    async with start(text, backend) as gateway:
        reply = await gateway.client.post(path, json={**CHAT, "stream": True})
        assert reply.status_code == 200
        last = reply.text.strip().splitlines()[-1].removeprefix("data: ")
        assert "the model's reply could not be processed" in str(json.loads(last)["error"])
        assert "boom" not in reply.text
        assert counted(gateway) == {("faulty", "filter_stream"): 1}


# paths of its own

ROUTE = "return Route('{path}', self.answer, Action.USE)"
HANDLER = """
    async def answer(self, call):
        {answer}

    @hookimpl
    def authorise(self):
        return Allow()
"""


@faults("routes", "return [7]", ROUTE.format(path="/api/tags"), ROUTE.format(path="api"), "return Route('/a', None, 1)")
async def test_routes_that_fail_stop_the_start(start: Start, backend: SimulatedOllama, body: str) -> None:
    with pytest.raises(PluginFault, match="plugin faulty failed in routes"):
        await start(plugin("routes", body, HANDLER.format(answer="return None")), backend).__aenter__()


@pytest.mark.parametrize("answer", [RAISES, WRONG, "return None", "return Reply(99)"])
async def test_a_handler_that_fails_is_closed(start: Start, backend: SimulatedOllama, answer: str) -> None:
    text = plugin("routes", ROUTE.format(path="/herdgate/mine"), HANDLER.format(answer=answer))
    async with start(text, backend) as gateway:
        reply = await gateway.client.get("/herdgate/mine")
        assert reply.status_code == 503
        assert "boom" not in reply.text
        assert counted(gateway) == {("faulty", "routes"): 1}


UNFIT_HANDLERS = {
    "no parameter": "async def answer(self): return Reply(200)",
    "not async": "def answer(self, call): return Reply(200)",
    "raises before it can be awaited": "def answer(self, call): raise RuntimeError('boom')",
    "its iterator is exhausted": "async def answer(self, call): raise StopAsyncIteration",
    "no bytes": "async def answer(self, call): return StreamedReply(200, {}, self.pieces())",
    "no iterator": "async def answer(self, call): return StreamedReply(200, {}, [b'x'])",
    "a header that is a number": "async def answer(self, call): return Reply(200, {'x-a': 3})",
    "a status that is text": "async def answer(self, call): return Reply('200')",
}


@pytest.mark.parametrize("handler", UNFIT_HANDLERS.values(), ids=UNFIT_HANDLERS)
async def test_what_is_no_handler_is_closed(start: Start, backend: SimulatedOllama, handler: str) -> None:
    attributes = f"{handler}\nasync def pieces(self): yield 'text'\n@hookimpl\ndef authorise(self): return Allow()"
    async with start(plugin("routes", ROUTE.format(path="/herdgate/mine"), attributes), backend) as gateway:
        reply = await gateway.client.get("/herdgate/mine")
        assert reply.status_code == 503
        assert counted(gateway) == {("faulty", "routes"): 1}


# afterwards


@faults("exchange_ended")
async def test_an_observer_that_fails_is_logged_and_the_others_are_told(
    start: Start, backend: SimulatedOllama, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "herdgate.access")
    async with start(plugin("exchange_ended", body), backend) as gateway:
        reply = await chat(gateway)
        assert reply.status_code == 200
        assert json.loads(reply.text.splitlines()[-1])["done"] is True
        await until(lambda: "POST /api/chat 200 answered" in caplog.text)
        if body != WRONG:  # what it returns is of no interest to anybody
            await until(lambda: counted(gateway) == {("faulty", "exchange_ended"): 1})
            assert "plugin faulty failed in exchange_ended" in caplog.text


# what is measured


@faults("collect_metrics", "return [7]", "return Metric('herdgate_build_info', 'Mine.', 'gauge', {(): 1})")
async def test_metrics_of_a_plugin_that_fails_are_left_out(start: Start, backend: SimulatedOllama, body: str) -> None:
    async with start(plugin("collect_metrics", body), backend) as gateway:
        reply = await gateway.client.get("/metrics")
        assert reply.status_code == 200
        assert "herdgate_build_info{" in reply.text
        assert 'herdgate_plugin_faults_total{plugin="faulty",hook="collect_metrics"} ' not in reply.text
        reply = await gateway.client.get("/metrics")
        assert 'herdgate_plugin_faults_total{plugin="faulty",hook="collect_metrics"} 1\n' in reply.text


# proxyctl


@faults(
    "register_commands",
    "return [7]",
    "import click; return [click.Command('keys')]",
    "import click; return [click.Command(None)]",
)
def test_commands_of_a_plugin_that_fails_are_left_out_and_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    good = "import click; return [click.Command('mine', callback=lambda: print('done'))]"
    (tmp_path / "faulty.py").write_text(plugin("register_commands", body))
    (tmp_path / "good.py").write_text(plugin("register_commands", good).replace("Faulty", "Good"))
    (tmp_path / "plugins.toml").write_text(listed("./faulty.py:Faulty", "./good.py:Good"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["mine"])
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert "plugin faulty failed in register_commands: " in result.stderr
    told = CliRunner().invoke(main, ["plugins", "commands", "--json"])
    said = json.loads(told.stdout)
    assert told.exit_code == 1
    assert [(row["name"], row["plugin"]) for row in said["commands"]] == [("mine", "good")]
    assert len(said["problems"]) == 1


def test_the_faults_of_every_hook_are_tested() -> None:
    assert set(INFO) == COVERED
