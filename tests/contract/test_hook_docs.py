"""Every hook says when it is called, what it may answer, what None means, what a fault does; and its example works."""

import ast
import inspect
import re
import typing
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from textwrap import indent
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.contract.documents import ROOT, document

import herdgate
from herdgate import (
    Action,
    App,
    Attempt,
    Backend,
    BackendSettings,
    Candidate,
    Credentials,
    Deny,
    Exchange,
    Failure,
    Family,
    GiveUp,
    Head,
    Identity,
    Kind,
    ModelEntry,
    ModelName,
    Outcome,
    Phase,
    Refusal,
    Resource,
    State,
    Summary,
    UpstreamRequest,
    hooks,
)
from herdgate.config import PluginEntry
from herdgate.hooks import INFO, Hooks, described, signature_of
from herdgate.hooks import Kind as HookKind
from herdgate.plugins import Plugin, load_plugins
from herdgate.state import open_state


def example(hook: str) -> str:
    """The example of a hook as a plugin file."""
    return f"from herdgate import hookimpl\n{described(hook)['example']}\n"


def class_of(hook: str) -> str:
    """The plugin class of an example: the one that names its API."""
    (name,) = (
        node.name
        for node in ast.parse(example(hook)).body
        if isinstance(node, ast.ClassDef) and "herdgate_api" in ast.dump(node)
    )
    return name


def loaded(hook: str, directory: Path) -> Plugin:
    path = directory / f"{hook}_example.py"
    path.write_text(example(hook), "utf-8")
    (plugin,) = load_plugins([PluginEntry(f"{path}:{class_of(hook)}", {}, "plugins.toml:1")])
    return plugin


def test_every_hook_is_described_to_the_loader_and_the_other_way_round() -> None:
    declared = [name for name, value in vars(Hooks).items() if inspect.isfunction(value)]
    assert list(INFO) == declared


@pytest.mark.parametrize("hook", INFO)
@pytest.mark.parametrize("part", ["summary", "when", "returns", "none", "on_fault", "example"])
def test_a_hook_is_documented_in_every_part(hook: str, part: str) -> None:
    assert described(hook)[part].strip()


@pytest.mark.parametrize("hook", INFO)
def test_a_documented_part_is_a_sentence(hook: str) -> None:
    parts = described(hook)
    for part in ("summary", "when", "returns", "none"):
        assert parts[part].endswith("."), f"{part}: {parts[part]}"
    assert parts["summary"][0].isupper()


@pytest.mark.parametrize("hook", INFO)
def test_the_parts_of_a_hook_come_in_one_order(hook: str) -> None:
    text = inspect.getdoc(getattr(Hooks, hook)) or ""
    places = [text.index(label) for label in ("When:", "Returns:", "None:", "Example::")]
    assert places == sorted(places)


@pytest.mark.parametrize("hook", INFO)
def test_an_example_is_a_plugin_that_loads_and_implements_its_hook(hook: str, tmp_path: Path) -> None:
    plugin = loaded(hook, tmp_path)
    assert hook in plugin.impls


def implemented(source: str) -> set[str]:
    """The hooks that a file implements: what its classes mark with `@hookimpl`."""
    return {
        method.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(ast.unparse(each).startswith("hookimpl") for each in method.decorator_list)
    }


@pytest.mark.parametrize("hook", INFO)
def test_a_hook_is_used_by_a_built_in_plugin_an_example_or_a_plugin_of_the_documentation(hook: str) -> None:
    """What nobody uses, nobody has tried."""
    files = [*ROOT.glob("plugins/herdgate_plugins/**/*.py"), *ROOT.glob("examples/*/*.py")]
    printed = [block.text for block in document("docs/writing-plugins.md").blocks("python") if block.title]
    users = [*(path.read_text() for path in files), *printed]
    assert any(hook in implemented(source) for source in users)


@pytest.mark.parametrize("hook", INFO)
def test_an_example_imports_only_what_is_public(hook: str) -> None:
    for node in ast.walk(ast.parse(example(hook))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("herdgate"):
            assert node.module == "herdgate"
            assert {alias.name for alias in node.names} <= set(herdgate.__all__)


@pytest.mark.parametrize("hook", INFO)
def test_an_example_uses_what_it_imports(hook: str) -> None:
    tree = ast.parse(example(hook))
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported <= used


@pytest.mark.parametrize("hook", INFO)
def test_a_text_names_only_arguments_that_the_hook_offers(hook: str) -> None:
    parts = described(hook)
    prose = " ".join(text for part, text in parts.items() if part != "example")
    words = set(re.findall(r"`([a-z_]+)`", prose))
    foreign = {argument for other in INFO for argument in signature_of(other)} - set(signature_of(hook))
    assert words & foreign == set()


@pytest.mark.parametrize("hook", INFO)
def test_the_types_of_a_hook_can_be_resolved_and_are_public(hook: str) -> None:
    typed = typing.get_type_hints(getattr(Hooks, hook), vars(hooks))
    assert set(typed) == {*signature_of(hook), "return"}
    for name in re.findall(r"herdgate\.[\w.]+", str(typed)):
        assert name.rpartition(".")[2] in herdgate.__all__


def test_every_public_name_can_be_imported_and_nothing_else() -> None:
    for name in herdgate.__all__:
        assert getattr(herdgate, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'HookPoints'"):
        herdgate.HookPoints  # noqa: B018
    assert dir(herdgate) == sorted(herdgate.__all__)


def test_the_plugin_at_the_top_of_the_contract_loads(tmp_path: Path) -> None:
    text = (hooks.__doc__ or "").partition("by name:")[2].partition("Plugins are asked")[0]
    path = tmp_path / "newest.py"
    path.write_text(inspect.cleandoc(indent(text, "    ")), "utf-8")
    (plugin,) = load_plugins([PluginEntry(f"{path}:NewestFirst", {}, "plugins.toml:1")])
    assert list(plugin.impls) == ["select_candidates"]


# examples that are called


class NoBackends:
    """A fleet of no ships."""

    backends: tuple[Backend, ...] = ()

    def holders(self, model: ModelName) -> tuple[Candidate, ...]:
        return ()

    def client(self, backend: Backend, timeout: float, *, apart: bool = False) -> httpx.AsyncClient:
        raise LookupError(backend.name)

    def refresh(self, backend: Backend) -> None:
        raise LookupError(backend.name)


def sample_arguments(client: httpx.AsyncClient, state: State) -> dict[str, object]:
    """An argument of each name that a hook offers."""
    settings = BackendSettings(name="gpu1", base_url="http://gpu1:11434", tags=("single",))
    backend, model = settings.view(), ModelEntry.from_tags({"name": "llama3"})
    exchange = Exchange("r1", method="POST", path="/api/chat", client="127.0.0.1", headers={"x-shout": "1"})
    exchange.identity = Identity("intern-1", models=("*",))
    failure = Failure(Kind.BROKEN, Phase.SENT, "reset")
    attempt = Attempt(2, Candidate(backend, model), failure=failure)
    exchange.attempts = (attempt,)
    return {
        "app": App("1", "127.0.0.1", (settings,), (), state),
        "backend": backend,
        "client": client,
        "entries": [model, ModelEntry.from_tags({"name": "llama3:8b-draft"})],
        "exchange": exchange,
        "name": "alice",
        "credentials": Credentials(key=SecretStr("open sesame")),
        "identity": exchange.identity,
        "action": Action.USE,
        "resources": [Resource(model.name)],
        "family": Family.OLLAMA,
        "reason": None,
        "candidates": [attempt.candidate],
        "attempt": attempt,
        "request": UpstreamRequest("POST", "/api/chat", (), b"{}"),
        "failure": failure,
        "head": Head(200, {"content-type": "application/json"}),
        "opening": b'{"response":"","done":true}',
        "fleet": NoBackends(),
        "summary": Summary(exchange, Outcome.ANSWERED, 200, 1.5),
    }


ANSWERS: dict[str, Callable[[Any], bool]] = {
    "list_models": lambda answer: [entry.name.display for entry in answer] == ["llama3:latest"],
    "shape_catalogue": lambda answer: [entry.name.tag for entry in answer] == ["latest"],
    "authenticate": lambda answer: answer == Identity("team", models=("*",)),
    "identify": lambda answer: answer == Identity("alice", models=("llama3.2",)),
    "authorise": lambda answer: answer == Deny("interns may only look"),
    "mask_denial": lambda answer: answer.status == 418,
    "select_candidates": lambda answer: [candidate.backend.name for candidate in answer] == ["gpu1"],
    "prepare_upstream": lambda answer: answer.headers == (("x-request-id", "r1"),),
    "judge_failure": lambda answer: answer == GiveUp("one retry is enough"),
    "inspect_opening": lambda answer: answer.kind is Kind.EMPTY,
    "filter_stream": lambda answer: answer.feed(b"hello") + answer.finish() == b"HELLO",
    "backend_sources": lambda answer: [settings.name for settings in answer.list()] == ["lab"],
    "routes": lambda answer: (answer.path, answer.action) == ("/herdgate/map", Action.ADMINISTER),
    "exchange_ended": lambda answer: answer is None,
    "register_commands": lambda answer: [command.name for command in answer] == ["greet"],
    "collect_metrics": lambda answer: (
        [(each.name, each.values) for each in answer] == [("clients_left_total", {(): 0})]
    ),
}
"""What each example answers to the sample arguments; the others answer with context managers."""


@pytest.mark.parametrize("hook", INFO)
async def test_an_example_does_what_it_is_there_for(hook: str, tmp_path: Path) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="llama3\n"))
    state = await open_state(f"sqlite://{tmp_path}/state.db")
    async with AsyncExitStack() as stack, httpx.AsyncClient(transport=transport, base_url="http://gpu1") as client:
        stack.push_async_callback(state.close)
        sample = sample_arguments(client, state)
        answer = loaded(hook, tmp_path).impls[hook].call(*[sample[name] for name in signature_of(hook)])
        if inspect.isawaitable(answer):
            answer = await answer
        if INFO[hook].kind is HookKind.CONTEXTS:
            async with answer:
                pass
        else:
            assert ANSWERS[hook](answer)


async def test_the_example_of_a_limit_counts(tmp_path: Path) -> None:
    admit = loaded("admit", tmp_path).impls["admit"].call
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(admit(None, Identity("alice")))
        assert admit(None, Identity("alice")) == Refusal("two requests are already running", retry_after=1)
        assert not isinstance(admit(None, Identity("bob")), Refusal)
    assert not isinstance(admit(None, Identity("alice")), Refusal)
