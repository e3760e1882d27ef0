"""What plugins are given is enough to decide, and nothing by which they change the core's records or widen a list."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from herdgate import Exchange, Identity, hookimpl
from herdgate.hooks import INFO, signature_of
from herdgate.testing import built_in, gateway_with
from herdgate.testing.faults import Status
from herdgate.testing.plugin_gateway import PluginGateway


class Sees:
    """Implements every hook, takes everything, has no opinion."""

    herdgate_api = 1


for _hook in INFO:
    _arguments = ", ".join(["self", *signature_of(_hook)])
    _made: dict[str, Any] = {}
    exec(f"def {_hook}({_arguments}): return None", _made)  # noqa: S102 - the arguments are the contract's
    setattr(Sees, _hook, hookimpl(_made[_hook]))

TOKEN = "hg_secret" + "0" * 32
"""What the caller sends; nobody but `authenticate` is to see it."""


async def asked_about_everything(gateway: PluginGateway) -> None:
    gateway.backends[0].script("/api/chat", Status(503))
    headers = {"authorization": f"Bearer {TOKEN}", "cookie": f"a={TOKEN}", "x-api-key": TOKEN}
    for stream in (True, False):
        assert (await gateway.chat(stream=stream, headers=headers)).status_code == 200
    assert (await gateway.chat("nothing", headers=headers)).status_code == 403


BY_DESIGN = {"client", "fleet", "app", "credentials"}
"""Arguments that lead to a client with a backend's credentials, to the state, to what the operator configured, or to
the credentials of the caller; they are given only where they are needed.
"""
HANDLES = {
    "Responder",
    "ConnectionResponder",
    "Upstream",
    "UpstreamReply",
    "Runtime",
    "Settings",
    "HookPoints",
    "SecretStr",
}
"""Classes whose objects could write to the client, reach backends or the core, or hold a secret."""


def reached(value: object, path: str, depth: int = 4) -> Iterator[tuple[str, object]]:
    """Everything that public attributes lead to."""
    yield path, value
    if depth == 0:
        return
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from reached(each, f"{path}[{key!r}]", depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from reached(each, f"{path}[]", depth - 1)
    elif type(value).__module__.startswith("herdgate."):
        for name in _public(value):
            yield from reached(getattr(value, name, None), f"{path}.{name}", depth - 1)


def _public(value: object) -> set[str]:
    names = {each.name for each in fields(value)} if is_dataclass(value) else set(vars(type(value)))
    slots = {name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())}
    computed = {name for cls in type(value).__mro__ for name, each in vars(cls).items() if isinstance(each, property)}
    return {name for name in names | slots | computed if not name.startswith("_")}


async def test_what_is_given_leads_to_no_secret_and_to_nothing_that_writes() -> None:
    async with gateway_with(Sees, plugins=["sees", *built_in()]) as gateway:
        await asked_about_everything(gateway)
        seen = gateway.decisions.of_plugin("sees")
        given = [(each.hook, name, value) for each in seen for name, value in each.arguments.items()]
        found = [
            (path, type(each).__name__, each)
            for hook, name, value in given
            if name not in BY_DESIGN
            for path, each in reached(value, f"{hook}: {name}")
        ]
        assert len(found) > 500, "the walk has seen something"
        assert [(path, kind) for path, kind, _ in found if kind in HANDLES] == []
        assert [path for path, _, each in found if isinstance(each, str | bytes) and TOKEN in repr(each)] == []
        assert [(hook, name) for hook, name, value in given if TOKEN in repr(value)] == []


async def test_no_plugin_changes_what_is_known_of_a_request() -> None:
    class Promotes:
        herdgate_api = 1

        @hookimpl
        def select_candidates(self, exchange: Any) -> None:
            for name in Exchange.__slots__:
                with pytest.raises(AttributeError):
                    setattr(exchange, name, None)
            exchange.notes["mine"] = 1
            exchange.identity = Identity("root", admin=True)

    async with gateway_with(Promotes) as gateway:
        assert (await gateway.chat()).status_code == 503
        assert gateway.faults == {("promotes", "select_candidates"): 1}


async def test_a_selection_cannot_be_widened_behind_the_back_of_the_check() -> None:
    class Appends:
        """Hands over a list, and adds to it when nobody looks any more."""

        herdgate_api = 1

        @hookimpl
        def select_candidates(self, candidates: Any) -> Any:
            self.handed_over = [candidates[0]]
            self.others = candidates[1:]
            return self.handed_over

        @hookimpl
        def prepare_upstream(self) -> None:
            self.handed_over.extend(self.others)

    async with gateway_with(Appends) as gateway:
        gateway.backends[0].script("/api/chat", Status(503))
        assert (await gateway.chat()).status_code == 503
        assert not [each for each in gateway.backends[1].requests if each.method == "POST"]


@pytest.mark.parametrize("hook", ["select_candidates", "authorise", "shape_catalogue"])
async def test_the_lists_that_plugins_are_given_cannot_be_changed(hook: str) -> None:
    async with gateway_with(Sees) as gateway:
        await gateway.client.get("/api/tags")
        await gateway.chat()
        lists = [value for each in gateway.decisions.of(hook, "sees") for value in each.arguments.values()]
        assert any(isinstance(value, tuple) for value in lists)
        assert not any(isinstance(value, list) for value in lists)


async def test_the_head_of_a_reply_cannot_be_changed() -> None:
    async with gateway_with(Sees) as gateway:
        await gateway.chat()
        (decision,) = gateway.decisions.of("filter_stream", "sees")
        with pytest.raises(TypeError):
            decision.arguments["head"].headers["x-new"] = "1"
