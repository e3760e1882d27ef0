"""Each built-in plugin can be replaced, and each decision changed, by a third party's distribution or file and
plugins.toml alone.
"""

import json
import re
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
from click.testing import CliRunner
from tests.contract.distributions import dist_info

from herdgate import __version__ as VERSION  # noqa: N812
from herdgate.cli import main
from herdgate.testing.faults import ErrorEvent, Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimModel, SimulatedOllama

ROOT = Path(__file__).parents[2]
BUILT_IN = [entry["use"] for entry in tomllib.loads((ROOT / "plugins.toml").read_text())["plugin"]]


@dataclass(frozen=True)
class Scene:
    """A gateway in front of two backends, which both have llama3.2."""

    gateway: RunningGateway
    first: SimulatedOllama
    second: SimulatedOllama

    async def chat(self, model: str = "llama3.2", **headers: str) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        return await self.gateway.client.post("/api/chat", json=body, headers=headers)

    async def answered_by(self) -> str:
        """Which backend answers a chat; the status and the error if none does."""
        reply = await self.chat()
        lines = [json.loads(line) for line in reply.text.splitlines()]
        if "message" not in lines[0]:
            return f"{reply.status_code} {lines[0]['error']}"
        words = "".join(line["message"]["content"] for line in lines)
        return next(name for name in ("first", "second") if f"backend {name}." in words)


@pytest.fixture
async def backends() -> AsyncIterator[tuple[SimulatedOllama, SimulatedOllama]]:
    async with SimulatedOllama(name="first") as first, SimulatedOllama(name="second") as second:
        yield first, second


async def seen(
    look: Callable[[Scene], Awaitable[object]],
    backends: tuple[SimulatedOllama, SimulatedOllama],
    directory: Path,
    uses: list[str],
    files: dict[str, str],
) -> object:
    """What one look at a gateway with these plugins shows."""
    for name, text in files.items():
        (directory / name).write_text(dedent(text).replace("SECOND_URL", backends[1].url), "utf-8")
    toml = "".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses)
    async with running_gateway(*backends, toml=toml, directory=directory) as gateway:
        return await look(Scene(gateway, *backends))


# what to look at, and what shows there


async def who_answers(scene: Scene) -> object:
    return await scene.answered_by()


async def what_is_listed(scene: Scene) -> object:
    return [model["name"] for model in (await scene.gateway.client.get("/api/tags")).json()["models"]]


async def who_may_call(scene: Scene) -> object:
    return [(await scene.chat(authorization=f"Bearer {key}")).status_code for key in ("nonsense", "open sesame")]


async def what_may_be_used(scene: Scene) -> object:
    return (await scene.chat()).status_code


async def how_a_denial_looks(scene: Scene) -> object:
    reply = await scene.chat("nothing")
    return reply.status_code, reply.json()


async def after_an_error_as_first_event(scene: Scene) -> object:
    scene.first.script("/api/chat", ErrorEvent(after=0, message="out of memory"))
    return await scene.answered_by()


async def after_a_503(scene: Scene) -> object:
    scene.first.script("/api/chat", Status(503, "loading"))
    return await scene.answered_by()


async def embeddings_of_another_version(scene: Scene) -> object:
    scene.second.models.add(SimModel("llama3.2", digest="b" * 64))
    scene.second.models.add("new")  # in the same poll
    await scene.gateway.knows("new:latest")
    scene.first.script("/api/embed", Status(503))
    return (await scene.gateway.client.post("/api/embed", json={"model": "llama3.2", "input": "hi"})).status_code


async def what_is_measured(scene: Scene) -> object:
    await scene.chat()
    names = re.findall(r"^# TYPE (\w+)", (await scene.gateway.client.get("/metrics")).text, re.MULTILINE)
    return next(name for name in names if name not in {"herdgate_build_info", "herdgate_plugin_faults_total"})


async def what_a_backend_is_told(scene: Scene) -> object:
    await scene.chat()
    asked = [request for request in scene.first.requests if request.path == "/api/chat"][-1]
    return bool(asked.values("x-request-id")), asked.values("x-told")


async def for_how_long_a_backend_keeps_it(scene: Scene) -> object:
    body = {"model": "llama3.2", "keep_alive": "24h", "stream": False, "messages": [{"role": "user", "content": "hi"}]}
    await scene.gateway.client.post("/api/chat", json=body)
    return [request for request in scene.first.requests if request.path == "/api/chat"][-1].json["keep_alive"]


async def who_may_pull(scene: Scene) -> object:
    admin = await scene.gateway.make_key(name="root", admin=True)
    body = {"model": "llama3.2", "stream": False}
    return (await scene.gateway.client.post("/api/pull", json=body, headers=admin)).status_code


async def who_needs_no_key(scene: Scene) -> object:
    await scene.gateway.keys.create("somebody", ["*"])

    async def keys_are_needed() -> bool:
        return (await scene.chat(authorization="Bearer nonsense")).status_code == 401

    await until(keys_are_needed)
    return (await scene.chat()).status_code


async def how_many_have_ended(scene: Scene) -> object:
    await scene.chat()
    await scene.chat()
    return scene.first.requests[-1].values("x-ended")


REPLACEMENTS: dict[str, tuple[Callable[[Scene], Awaitable[object]], object, object, str]] = {
    "configured_backends": (
        who_answers,
        "first",
        "second",
        """
        def backend_sources(self):
            return self

        def list(self):
            return [BackendSettings(name="own", base_url="SECOND_URL")]
        """,
    ),
    "ollama_discovery": (
        what_is_listed,
        ["llama3.2:latest"],
        ["invented:latest"],
        """
        def list_models(self):
            return [ModelEntry.from_tags({"name": "invented"})]
        """,
    ),
    "authentication_limits": (
        who_may_call,
        [200, 200],
        [429, 429],
        """
        def authenticate(self):
            return Refusal("not today")
        """,
    ),
    "api_keys": (
        who_may_call,
        [200, 200],
        [401, 200],
        """
        def authenticate(self, credentials):
            if credentials.key and credentials.key.get_secret_value() == "open sesame":
                return Identity("friend", models=("*",))
        """,
    ),
    "limits": (
        what_may_be_used,
        200,
        429,
        """
        def admit(self):
            return Refusal("not today")
        """,
    ),
    "model_access": (
        what_may_be_used,
        200,
        403,
        """
        def authorise(self, action):
            return Allow() if action is Action.SEE else None
        """,
    ),
    "generic_403": (
        how_a_denial_looks,
        (403, {"error": "access to this model is not allowed"}),
        (418, {"error": "no"}),
        """
        def mask_denial(self):
            return Reply(418, {"content-type": "application/json"}, b'{"error":"no"}')
        """,
    ),
    "opening_check": (
        after_an_error_as_first_event,
        "second",
        "200 out of memory",
        """
        def inspect_opening(self):
            return None
        """,
    ),
    "digest_guard": (
        embeddings_of_another_version,
        503,
        200,
        """
        def select_candidates(self, candidates):
            return None
        """,
    ),
    "priority_failover": (
        after_a_503,
        "second",
        "503 loading",
        """
        def judge_failure(self):
            return GiveUp("one is enough")
        """,
    ),
    "health": (
        who_answers,
        "first",
        "second",
        """
        def select_candidates(self, candidates):
            return [candidate for candidate in candidates if candidate.backend.name != "first"]
        """,
    ),
    "capacity": (
        who_answers,
        "first",
        "second",
        """
        def around_attempt(self, attempt):
            return Skip("always full") if attempt.backend.name == "first" else None
        """,
    ),
    "metrics": (
        what_is_measured,
        "herdgate_requests_total",
        "mine_total",
        """
        def collect_metrics(self):
            return [Metric("mine_total", "Mine.", "counter", {(): 7})]
        """,
    ),
    "access_log": (
        how_many_have_ended,
        (),
        ("1",),
        """
        def exchange_ended(self):
            self.ended = getattr(self, "ended", 0) + 1

        @hookimpl
        def prepare_upstream(self, request):
            return request.with_header("x-ended", str(getattr(self, "ended", 0)))
        """,
    ),
}


OPTIONAL: dict[str, tuple[Callable[[Scene], Awaitable[object]], object, object, str]] = {
    "anonymous": (
        who_needs_no_key,
        200,
        401,
        """
        def authenticate(self):
            return Rejected("a key is needed")
        """,
    ),
    "forward_client": (
        what_a_backend_is_told,
        (True, ()),
        (False, ("us",)),
        """
        def prepare_upstream(self, request):
            return request.with_header("x-told", "us")
        """,
    ),
    "load_policy": (
        for_how_long_a_backend_keeps_it,
        600.0,
        "24h",
        """
        def prepare_upstream(self):
            return None
        """,
    ),
    "model_management": (
        who_may_pull,
        200,
        202,
        """
        def routes(self):
            return [Route("/api/pull", self.later, Action.MANAGE, frozenset({"POST"}))]

        async def later(self, call):
            return Reply(202)

        @hookimpl
        def authorise(self, identity, action):
            return Allow() if identity.admin and action is Action.MANAGE else None
        """,
    ),
}
"""The same for those that are not in the built-in list. They are put before `model_access`."""


def plugin(methods: str, name: str = "Replacement", attributes: str = "") -> str:
    """A plugin file; the first method is a hook."""
    body = "".join(f"    {line}\n" for line in dedent(methods).strip().splitlines())
    return f"from herdgate import *\n\nclass {name}:\n    herdgate_api = 1\n    {attributes}\n    @hookimpl\n{body}"


def installed(name: str, methods: str, site: Path, url: str) -> str:
    """Put a distribution with one plugin where Python finds it, as an installer would. Returns its entry point."""
    other = f"acme_{name}"
    (site / f"{other}.py").write_text(plugin(methods).replace("SECOND_URL", url))
    dist_info(site, other.replace("_", "-"), "1.2.3", f"{other} = {other}:Replacement")
    return other


def entry_points_of_herdgate() -> set[str]:
    return set(distribution("herdgate").entry_points.select(group="herdgate.plugins").names)


def test_each_built_in_plugin_has_its_replacement_here() -> None:
    assert list(REPLACEMENTS) == BUILT_IN
    assert {*REPLACEMENTS, *OPTIONAL} == entry_points_of_herdgate()


@pytest.mark.parametrize("name", [*REPLACEMENTS, *OPTIONAL])
async def test_a_built_in_plugin_is_replaced_by_a_distribution_by_changing_one_line(
    name: str, backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, with_built_in, with_replacement, methods = {**REPLACEMENTS, **OPTIONAL}[name]
    place = BUILT_IN.index("model_access")
    listed = BUILT_IN if name in BUILT_IN else [*BUILT_IN[:place], name, *BUILT_IN[place:]]
    site = tmp_path / "site"
    site.mkdir()
    other = installed(name, methods, site, backends[1].url)
    monkeypatch.syspath_prepend(str(site))
    replaced = [other if use == name else use for use in listed]
    for uses, expected in ((listed, with_built_in), (replaced, with_replacement)):
        directory = tmp_path / uses[listed.index(name)]
        directory.mkdir()
        assert await seen(look, backends, directory, uses, {}) == expected


def test_the_list_of_plugins_says_who_is_called_for_each_hook_in_which_order_and_from_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    other = installed("capacity", REPLACEMENTS["capacity"][3], site, "")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERDGATE_STATE", f"sqlite://{tmp_path}/state.db")
    uses = [other if use == "capacity" else use for use in BUILT_IN]
    (tmp_path / "plugins.toml").write_text("".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses))
    shown = CliRunner().invoke(main, ["plugins", "list"], catch_exceptions=False).stdout
    told = json.loads(CliRunner().invoke(main, ["plugins", "list", "--json"], catch_exceptions=False).stdout)
    order = [(row["plugin"], row["distribution"], row["version"]) for row in told["order"]["around_attempt"]]
    asked = [use for use in uses if use in told["hooks"]["around_attempt"]]
    assert order == [(use, "acme-capacity", "1.2.3") if use == other else (use, "herdgate", VERSION) for use in asked]
    assert [row["plugin"] for row in told["order"]["authenticate"]] == ["authentication_limits", "api_keys"]
    rows = [line.split() for line in shown.splitlines()]
    start = next(number for number, row in enumerate(rows) if row[:1] == ["around_attempt"])
    listed = [row[-4:] for row in rows[start : start + len(asked)]]
    assert [[number, name, source, version] for number, (name, source, version) in enumerate(order, 1)] == [
        [int(row[0]), *row[1:]] for row in listed
    ]


async def test_ten_lines_appended_to_the_list_change_the_order_of_backends(
    backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path
) -> None:
    text = """\
        from herdgate import hookimpl


        class Backwards:
            herdgate_api = 1

            @hookimpl
            def select_candidates(self, candidates):
                return candidates[::-1]
        """
    assert len(text.splitlines()) <= 10
    uses = [*BUILT_IN, "./backwards.py:Backwards"]
    assert await seen(who_answers, backends, tmp_path, uses, {"backwards.py": text}) == "second"


PREFER = """
def select_candidates(self, candidates):
    return sorted(candidates, key=lambda candidate: candidate.backend.name != "{name}")
"""


@pytest.mark.parametrize("last", ["first", "second"])
async def test_of_two_plugins_that_reorder_the_one_listed_last_has_the_last_word(
    last: str, backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path
) -> None:
    files = {f"{name}.py": plugin(PREFER.format(name=name), name.title()) for name in ("first", "second")}
    ordered = sorted(files, key=lambda file: file == f"{last}.py")
    uses = [*BUILT_IN, *(f"./{file}:{file.removesuffix('.py').title()}" for file in ordered)]
    assert await seen(who_answers, backends, tmp_path, uses, files) == last


@pytest.mark.parametrize("first", ["generic_403", "./teapot.py:Teapot"])
async def test_of_two_plugins_that_mask_the_one_listed_first_is_asked(
    first: str, backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path
) -> None:
    files = {"teapot.py": plugin(REPLACEMENTS["generic_403"][3], "Teapot")}
    uses = sorted([*BUILT_IN, "./teapot.py:Teapot"], key=lambda use: use != first)
    expected = REPLACEMENTS["generic_403"][1 if first == "generic_403" else 2]
    assert await seen(how_a_denial_looks, backends, tmp_path, uses, files) == expected


@pytest.mark.parametrize(
    ("methods", "attributes", "status"),
    [
        ("def authorise(self): raise RuntimeError('boom')", "", 403),
        ("def authorise(self): return Deny('closed today')", "", 403),
        ("def select_candidates(self): raise RuntimeError('boom')", "", 503),
        ("def select_candidates(self): raise RuntimeError('boom')", "advisory = True", 200),
        ("def select_candidates(self): return []", "", 503),
        ("def select_candidates(self, candidates): return [*candidates, candidates[0]]", "", 503),
        ("def select_candidates(self, candidates): return [*candidates, candidates[0]]", "advisory = True", 200),
    ],
)
async def test_an_appended_plugin_cannot_do_more_harm_than_its_hook_allows(
    methods: str, attributes: str, status: int, backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path
) -> None:
    uses = [*BUILT_IN, "./replacement.py:Replacement"]
    files = {"replacement.py": plugin(methods, attributes=attributes)}
    assert await seen(what_may_be_used, backends, tmp_path, uses, files) == status


async def test_nothing_is_loaded_that_is_not_listed(
    backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path
) -> None:
    async def loaded(scene: Scene) -> object:
        return [each.name for each in scene.gateway.gateway.runtime.points.plugins]

    few = ["configured_backends", "ollama_discovery"]
    assert await seen(loaded, backends, tmp_path, few, {}) == few
    assert await seen(loaded, backends, tmp_path, [], {}) == BUILT_IN


async def test_without_a_plugin_that_knows_callers_everybody_gets_401(
    backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path
) -> None:
    uses = [use for use in BUILT_IN if use != "api_keys"]
    assert await seen(who_may_call, backends, tmp_path, uses, {}) == [401, 401]


async def test_without_a_plugin_that_allows_models_nothing_is_allowed(
    backends: tuple[SimulatedOllama, SimulatedOllama], tmp_path: Path
) -> None:
    uses = [use for use in BUILT_IN if use != "model_access"]
    assert await seen(what_may_be_used, backends, tmp_path, uses, {}) == 403
    assert await seen(what_is_listed, backends, tmp_path, uses, {}) == []
