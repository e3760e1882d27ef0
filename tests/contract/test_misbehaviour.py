"""What no deadline and no check of an answer can catch, in every hook: plugins that block the loop, and those that
start a task and forget it. The other ways to fail are in test_faults.py.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract.test_faults import BUILT_IN, CHAT, asked, listed

from herdgate import watchdog
from herdgate.hooks import INFO
from herdgate.testing.faults import Status
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

ADMIN_KEY = "an-admin-key-for-these-tests"
ASKED_BY_THE_GATEWAY = [hook for hook in INFO if hook != "register_commands"]
HOOK = """
    @hookimpl
    def {hook}(self):
        if "{hook}" not in self.met:
            self.met["{hook}"] = None
            {does}
"""


def plugin(hooks: Iterable[str], does: str) -> str:
    """A plugin that does this in these hooks, the first time that it is asked, and has no opinion otherwise."""
    head = "import asyncio, time\nfrom herdgate import hookimpl\nclass Faulty:\n    herdgate_api = 1\n    met = {}\n"
    forever = "    async def never(self):\n        await asyncio.Event().wait()\n"
    return head + forever + "".join(HOOK.format(hook=hook, does=does.replace("{hook}", hook)) for hook in hooks)


FULL = """
from herdgate import Skip, hookimpl

class Full:
    herdgate_api = 1

    @hookimpl
    def around_attempt(self, attempt):
        return Skip("full") if attempt.model.name.model == "waited-for" else None
"""


@asynccontextmanager
async def asked_about_everything(directory: Path, text: str) -> AsyncIterator[RunningGateway]:
    """A gateway with this plugin that has just met a failover, a denial, a full backend, a reader of its metrics and an
    admin's question, and so has asked every hook.
    """
    (directory / "faulty.py").write_text(text)
    (directory / "full.py").write_text(FULL)
    toml = listed("./faulty.py:Faulty", "./full.py:Full", *BUILT_IN)
    models = ["llama3.2", "waited-for"]
    async with (
        SimulatedOllama("first", models) as first,
        SimulatedOllama("second") as second,
        running_gateway(
            first, second, toml=toml, directory=directory, env={"HERDGATE_ADMIN_KEY": ADMIN_KEY}
        ) as gateway,
    ):
        gateway.client.headers["x-api-key"] = ADMIN_KEY
        first.script("/api/chat", Status(503))
        replies = [await gateway.client.post("/api/chat", json={**CHAT, "model": model}) for model in (*models, "x")]
        assert [reply.status_code for reply in replies] == [200, 503, 403]
        assert (await gateway.client.get("/metrics")).status_code == 200
        assert (asked(first), asked(second)) == (["/api/chat"], ["/api/chat"])
        question = {"key": "admin", "model": "llama3.2"}
        assert (await gateway.client.post("/herdgate/explain", json=question)).status_code == 200
        yield gateway


@pytest.mark.parametrize("hook", ASKED_BY_THE_GATEWAY)
async def test_a_plugin_that_blocks_the_loop_is_named(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seconds in {"BEAT": 0.01, "LATE": 0.05, "LOOK": 0.02}.items():
        monkeypatch.setattr(watchdog, name, seconds)
    async with asked_about_everything(tmp_path, plugin([hook], "time.sleep(0.25)")) as gateway:
        ledger = gateway.gateway.runtime.points.ledger
        await until(lambda: f"plugin faulty, in {hook} (" in caplog.text)
        await until(lambda: ledger.blocked["faulty"] > 0)
        assert ledger.faults == {}


async def test_tasks_that_a_plugin_forgets_end_with_the_gateway(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leak = 'self.met["{hook}"] = asyncio.ensure_future(self.never())'
    async with asked_about_everything(tmp_path, plugin(ASKED_BY_THE_GATEWAY, leak)) as gateway:
        faulty: Any = next(p.instance for p in gateway.gateway.runtime.points.plugins if p.name == "faulty")
        tasks: dict[str, asyncio.Task[None]] = faulty.met
        assert list(ASKED_BY_THE_GATEWAY) == sorted(tasks, key=list(ASKED_BY_THE_GATEWAY).index)
        assert not any(task.done() for task in tasks.values())
    assert all(task.cancelled() for task in tasks.values())
    assert caplog.text.count("plugin faulty left the task") == len(ASKED_BY_THE_GATEWAY)
    assert "Faulty.never" in caplog.text
