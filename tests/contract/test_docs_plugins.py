"""Every plugin that the documentation prints loads, and does in a running gateway what is said of it."""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from tests.contract.documents import ROOT, Block, document, documents

from herdgate import Action, Call, Reply, Route, hookimpl
from herdgate.config import PluginEntry, load
from herdgate.plugins import load_plugins
from herdgate.testing import gateway_with
from herdgate.testing.faults import Events, Status
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

BUILTIN = (ROOT / "plugins.toml").read_text()
MODEL = "llama3.2"
CHAT = {"model": MODEL, "stream": False, "messages": [{"role": "user", "content": "hi"}]}

Check = Callable[["Stage"], Awaitable[None]]
CHECKS: dict[str, Check] = {}
"""What each plugin of the documentation is there for, by the title of its block."""


def checks(title: str) -> Callable[[Check], Check]:
    def declare(check: Check) -> Check:
        CHECKS[title] = check
        return check

    return declare


class Stage:
    """A gateway with the plugin, in front of two simulated backends: `first`, and `second` with the tag `big`."""

    def __init__(self, gateway: RunningGateway, first: SimulatedOllama, second: SimulatedOllama) -> None:
        self.gateway, self.first, self.second = gateway, first, second

    async def chat(self, model: str = MODEL, **headers: str) -> httpx.Response:
        asked = {**CHAT, "model": model}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        return await self.gateway.client.post("/api/chat", json=asked, headers=encoded)

    async def answered_by(self, model: str = MODEL, **headers: str) -> str:
        """The name of the backend that answers."""
        found = re.search(r"backend (\w+)", (await self.chat(model, **headers)).text)
        assert found
        return found[1]

    def plugin(self, name: str) -> object:
        """The instance that the gateway made."""
        plugins = self.gateway.gateway.runtime.points.plugins
        return next(plugin.instance for plugin in plugins if plugin.name == name)


def printed(name: str) -> list[Block]:
    """The plugins that a page prints as files."""
    return [block for block in document(name).blocks("python") if block.title and not block.title.startswith("test_")]


PLUGINS = [block for name in ("README.md", "docs/writing-plugins.md") for block in printed(name)]
EXAMPLES = printed("docs/hooks.md")


def entry_of(block: Block) -> str:
    """The TOML that the page prints for a plugin."""
    entries = [each.text for each in document(block.document).blocks("toml") if f'"./{block.title}:' in each.text]
    assert len(entries) == 1, f"{block} has {len(entries)} entries for plugins.toml"
    return entries[0]


def placed(entry: str) -> str:
    """The built-in list with the entry where its comment says that it belongs; without a comment, appended to it."""
    place = re.search(r"^# (?P<how>before|in the place of) (?P<what>\w+)$", entry, re.MULTILINE)
    if place is None:
        return f"{BUILTIN}\n{entry}"
    entries = [f'[[plugin]]\nuse = "{plugin["use"]}"\n' for plugin in tomllib.loads(BUILTIN)["plugin"]]
    index = next(number for number, each in enumerate(entries) if f'"{place["what"]}"' in each)
    entries[index : index + (place["how"] != "before")] = [entry]
    return "\n".join(entries)


def test_each_plugin_of_the_documentation_has_a_check() -> None:
    assert {block.title for block in PLUGINS} == set(CHECKS)


@pytest.mark.parametrize("block", PLUGINS, ids=str)
async def test_it_does_what_is_said_of_it(block: Block, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / block.title).write_text(block.text)
    models = [MODEL, "llama3.1:70b", "other"]
    async with SimulatedOllama("first", models) as first, SimulatedOllama("second", models) as second:
        backends = (
            {"name": "first", "base_url": first.url},
            {"name": "second", "base_url": second.url, "tags": ["big"]},
        )
        toml = placed(entry_of(block))
        async with running_gateway(*backends, toml=toml, directory=tmp_path) as gateway:
            await CHECKS[block.title](Stage(gateway, first, second))
            assert not gateway.gateway.runtime.points.ledger.faults
    assert ("has used 18 tokens" in caplog.text) == (block.title == "tokens.py")


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_the_example_of_a_hook_loads(block: Block, tmp_path: Path) -> None:
    file = tmp_path / block.title
    file.write_text(block.text)
    cls = re.findall(r"^class (\w+):\n    herdgate_api", block.text, re.MULTILINE)
    (plugin,) = load_plugins([PluginEntry(f"{file}:{cls[0]}", {}, origin="plugins.toml:1")])
    assert file.stem in plugin.impls


def test_the_tests_that_the_tutorial_prints_pass(tmp_path: Path) -> None:
    page = document("docs/writing-plugins.md")
    files = {block.title: block.text for block in page.blocks("python") if block.title}
    for title, text in files.items():
        (tmp_path / title).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert any(title.startswith("test_") for title in files)


@checks("spending.py")
async def spending(stage: Stage) -> None:
    client = stage.gateway.client
    assert (await client.get("/herdgate/spending")).status_code == 403
    admin = await stage.gateway.make_key("*", name="root", admin=True)
    await stage.chat(**admin)
    assert (await client.get("/herdgate/spending", headers=admin)).json()["root"] == 1
    assert (await client.get("/herdgate/spending?caller=bob", headers=admin)).json() == {"bob": 0}


FILES = [block for page in documents() for block in page.blocks("toml") if block.title == "plugins.toml"]


@pytest.mark.parametrize("block", FILES, ids=str)
def test_a_printed_plugins_toml_holds_only_settings_that_exist(block: Block, tmp_path: Path) -> None:
    (tmp_path / "plugins.toml").write_text(block.text)
    load({}, {"HOME": str(tmp_path)}, tmp_path)


# what each of them is there for


@checks("spread.py")
async def _(stage: Stage) -> None:
    assert {await stage.answered_by() for _ in range(40)} == {"first", "second"}
    await stage.first.stop()
    assert {await stage.answered_by() for _ in range(10)} == {"second"}


@checks("sticky.py")
async def _(stage: Stage) -> None:
    assert len({await stage.answered_by() for _ in range(10)}) == 1


@checks("by_header.py")
async def _(stage: Stage) -> None:
    assert await stage.answered_by() == "first"
    assert await stage.answered_by(**{"x-priority": "low"}) == "second"


@checks("by_tag.py")
async def _(stage: Stage) -> None:
    assert await stage.answered_by() == "first"
    assert await stage.answered_by("llama3.1:70b") == "second"
    await stage.second.stop()
    assert await stage.answered_by("llama3.1:70b") == "first"


@checks("by_time.py")
async def _(stage: Stage) -> None:
    assert await stage.answered_by() == "second"


@checks("by_cost.py")
async def _(stage: Stage) -> None:
    rich, intern = [await stage.gateway.make_key("*", name=name) for name in ("rich", "intern")]
    assert await stage.answered_by(**rich) == "second"
    assert await stage.answered_by(**intern) == "second"
    await stage.second.stop()
    assert await stage.answered_by(**rich) == "first"
    assert (await stage.chat(**intern)).status_code in {502, 503}
    assert not [request for request in stage.first.requests if request.path == "/api/chat"][1:]


@checks("hidden.py")
async def _(stage: Stage) -> None:
    admin = await stage.gateway.make_key("*", name="root", admin=True)
    listed = (await stage.gateway.client.get("/api/tags", headers=admin)).json()["models"]
    assert {model["name"] for model in listed} == {"llama3.2:latest", "llama3.1:70b"}
    assert (await stage.chat("other", **admin)).status_code == 403
    assert (await stage.chat(**admin)).status_code == 200


@checks("prices.py")
async def _(stage: Stage) -> None:
    (command,) = vars(type(stage.plugin("prices")))["register_commands"](stage.plugin("prices"))
    assert CliRunner().invoke(command).stdout == "first: 2.5\nsecond: 0.5\n"


@checks("rest.py")
async def _(stage: Stage) -> None:
    await stage.first.stop()
    assert await stage.answered_by() == "second"
    await stage.first.start()
    assert await stage.answered_by() == "second"
    vars(stage.plugin("rest"))["_clock"] = lambda: time.monotonic() + 60
    assert await stage.answered_by() == "first"
    stage.first.script("/api/chat", Status(400), times=1)
    assert (await stage.chat()).status_code == 400
    assert await stage.answered_by() == "first"


@checks("tickets.py")
async def _(stage: Stage) -> None:
    signature = hmac.new(b"a long random text", b"alice", "sha256").hexdigest()
    good = f"Bearer alice.{signature}"
    assert (await stage.chat(authorization=good)).status_code == 200
    assert (await stage.chat("other", authorization=good)).status_code == 403
    for wrong in ({}, {"authorization": f"Bearer bob.{signature}"}, {"x-api-key": "ä"}, {"x-api-key": f".{signature}"}):
        assert (await stage.chat(**wrong)).status_code == 401


@checks("not_found.py")
async def _(stage: Stage) -> None:
    caller = await stage.gateway.make_key(MODEL)
    forbidden, unknown = await stage.chat("other", **caller), await stage.chat("nothing", **caller)
    assert forbidden.status_code == unknown.status_code == 404
    assert forbidden.content == unknown.content
    assert forbidden.json() == {"error": "model not found"}
    openai = await stage.gateway.client.post("/v1/chat/completions", json={**CHAT, "model": "other"}, headers=caller)
    assert openai.json()["error"]["type"] == "not_found_error"


@checks("tokens.py")
async def _(stage: Stage) -> None:
    for stream in (True, False):
        reply = await stage.gateway.client.post("/api/chat", json={**CHAT, "stream": stream})
        assert '"prompt_eval_count":1,' in reply.text
        assert '"eval_count":8,' in reply.text
    await stage.chat("nothing")
    assert vars(stage.plugin("tokens"))["_spent"] == {"anonymous": 2 * (1 + 8)}
    stage.first.behaviour.reply_words = 1000
    for stream in (True, False):
        await stage.gateway.client.post("/api/chat", json={**CHAT, "stream": stream})
    assert vars(stage.plugin("tokens"))["_spent"] == {"anonymous": 2 * (1 + 8) + 2 * (1 + 1000)}


@checks("whoami.py")
async def _(stage: Stage) -> None:
    caller = await stage.gateway.make_key("other", name="bob")
    assert (await stage.gateway.client.get("/herdgate/whoami", headers=caller)).json() == {"name": "bob"}
    assert (await stage.chat(**caller)).status_code == 403
    listed = (await stage.gateway.client.get("/api/tags", headers=caller)).json()["models"]
    assert [model["name"] for model in listed] == ["other:latest"]


@checks("tenants.py")
async def _(stage: Stage) -> None:
    assert (await stage.chat(**{"x-tenant": "sales"})).status_code == 200
    for headers in ({}, {"x-tenant": "nobody"}):
        reply = await stage.chat(**headers)
        assert (reply.status_code, reply.json()) == (403, {"error": "X-Tenant names no tenant of this gateway"})


@checks("warm.py")
async def _(stage: Stage) -> None:
    admin = await stage.gateway.make_key("*", name="root", admin=True)
    reply = await stage.gateway.client.post("/herdgate/warm", json={"model": MODEL}, headers=admin)
    assert reply.status_code == 204
    for backend in (stage.first, stage.second):
        assert [request.path for request in backend.requests if request.method == "POST"] == ["/api/generate"]
    page = (await stage.gateway.client.get("/metrics", headers=admin)).text
    assert 'warm_loads_total{backend="second"} 1' in page


@checks("stay.py")
async def _(stage: Stage) -> None:
    assert (await stage.chat()).status_code == 200
    (sent,) = [request for request in stage.first.requests if request.path == "/api/chat"]
    assert json.loads(sent.body)["keep_alive"] == "1h"
    assert "x-request-id" in {name.lower() for name, _ in sent.headers}


@pytest.mark.parametrize("action", list(Action))
async def test_who_reaches_a_route_with_the_built_in_plugins(action: Action) -> None:
    """As the table says."""

    class Path:
        herdgate_api = 1

        @hookimpl
        def routes(self) -> Route:
            async def answer(call: Call) -> Reply:
                return Reply(204)

            return Route("/herdgate/mine", answer, action)

    async with gateway_with(Path) as gateway:
        statuses = {}
        for name, admin in (("root", True), ("bob", False)):
            key = await gateway.make_key("*", name=name, admin=admin)
            statuses[name] = (await gateway.client.get("/herdgate/mine", headers=key)).status_code
    admins = 204 if action in {Action.ADMINISTER, Action.OBSERVE} else 403
    assert statuses == {"root": admins, "bob": 403}


@checks("no_thinking.py")
async def _(stage: Stage) -> None:
    thought = b'{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}\n'
    said = b'{"message":{"role":"assistant","content":"yes"},"done":true}\n'
    for stream in (True, False):
        stage.first.script("/api/chat", Events((thought, said) if stream else (thought,)))
        reply = await stage.gateway.client.post("/api/chat", json={**CHAT, "stream": stream})
        assert "thinking" not in reply.text
        assert '"content": ""' in reply.text
        assert ('"content":"yes"' in reply.text) == stream
