"""A gateway with a plugin of the test in it: what it can be told, and what it tells."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from pytest_httpx import HTTPXMock

import herdgate.testing
from herdgate import Exchange, Identity, Reply, hookimpl
from herdgate.config import ConfigError
from herdgate.testing import FakeClock, PluginGateway, SimulatedOllama, gateway_with

Start = Callable[..., AbstractAsyncContextManager[PluginGateway]]


class ByHour:
    """The last backend first, from an hour on."""

    herdgate_api = 1

    class Settings(BaseModel):
        hour: int = 18

    def __init__(self, settings: Settings, clock: FakeClock) -> None:
        self._hour, self._clock = settings.hour, clock

    @hookimpl
    async def select_candidates(self, candidates: Any) -> Any:
        await asyncio.sleep(0)
        return candidates[::-1] if self._clock.now().hour >= self._hour else None


async def test_settings_and_a_clock_reach_the_plugin(herdgate_clock: FakeClock) -> None:
    async with gateway_with(ByHour, settings={"hour": 15}, extra={"clock": herdgate_clock}) as gateway:
        assert isinstance(gateway.plugin, ByHour)
        assert await gateway.answered_by() == "first"
        herdgate_clock.advance(3 * 3600)
        assert await gateway.answered_by() == "second"
        assert await gateway.answered_by("nothing") is None
        (stays, turns) = gateway.decisions.of("select_candidates", "by_hour")
        assert stays.answer is None
        assert turns.answer == turns.arguments["candidates"][::-1]
        assert isinstance(turns.arguments["exchange"], Exchange)
        assert not gateway.faults


async def test_a_bad_setting_is_told_as_the_operator_would_read_it() -> None:
    with pytest.raises(ConfigError, match='the test: plugin "by_hour": hour'):
        async with gateway_with(ByHour, settings={"hour": "late"}):
            pass


class Teapot:
    herdgate_api = 1

    @hookimpl
    def mask_denial(self) -> Reply:
        return Reply(418, {}, b"")


@pytest.mark.parametrize(("masks", "status"), [(("teapot", "generic_403"), 418), (("generic_403",), 403)])
async def test_the_test_decides_what_runs_and_in_which_order(masks: tuple[str, ...], status: int) -> None:
    needed = ["configured_backends", "ollama_discovery", "api_keys", "model_access", *masks]
    async with gateway_with(Teapot, plugins=needed) as gateway:
        assert (await gateway.chat("nothing")).status_code == status
        loaded = [plugin.name for plugin in gateway.gateway.runtime.points.plugins]
        assert loaded == needed if "teapot" in needed else [*needed, "teapot"]


async def test_backends_may_be_the_tests_own() -> None:
    async with SimulatedOllama("own", ["qwen3"]) as own, gateway_with(Teapot, own) as gateway:
        assert gateway.backends == (own,)
        assert await gateway.answered_by("qwen3") == "own"


class Portal:
    """Asks somebody else who a caller is."""

    herdgate_api = 1

    @hookimpl
    async def authenticate(self, credentials: Any) -> Identity:
        async with httpx.AsyncClient() as client:
            said = (await client.get("https://portal.example/whoami")).json()
        return Identity(said["name"], models=("*",))


async def test_only_what_plugins_ask_elsewhere_is_mocked(httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(url="https://portal.example/whoami", json={"name": "alice"})
    async with gateway_with(Portal, plugins=["configured_backends", "ollama_discovery", "model_access"]) as gateway:
        assert await gateway.answered_by() == "first"
        (decision,) = gateway.decisions.of("authenticate")
        assert decision.answer.name == "alice"


def test_a_clock_tells_the_time_of_any_zone() -> None:
    clock = FakeClock()
    began = clock()
    clock.advance(90.5)
    assert clock() - began == 90.5
    assert clock.now(timezone(timedelta(hours=2))).hour == clock.now().hour + 2
    assert clock.now().tzinfo is None


def test_every_name_can_be_imported_and_nothing_else() -> None:
    assert all(getattr(herdgate.testing, name) for name in herdgate.testing.__all__)
    with pytest.raises(AttributeError):
        herdgate.testing.nothing  # noqa: B018


# what pytest finds by itself


def test_nothing_of_the_kit_needs_pytest() -> None:
    text = "import sys; sys.modules['pytest'] = None; from herdgate import testing as kit"
    used = "; [getattr(kit, name) for name in kit.__all__]"
    subprocess.run([sys.executable, "-c", text + used], check=True, timeout=30)


FAILING = """
import pytest
from herdgate import hookimpl

class Named:
    herdgate_api = 1

    @hookimpl
    def exchange_ended(self, summary): ...

@pytest.mark.asyncio
async def test_it(herdgate_gateway):
    async with herdgate_gateway(Named) as gateway:
        await gateway.chat()
        assert False
"""


def test_the_report_of_a_failed_test_shows_what_the_plugins_decided(tmp_path: Path) -> None:
    (tmp_path / "test_named.py").write_text(FAILING)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_named.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 1
    assert "what the plugins decided" in result.stdout
    assert "authenticate       api_keys             Identity(name='anonymous'" in result.stdout


def test_the_plugin_of_pytest_imports_nothing_of_ours_until_it_is_needed() -> None:
    text = "import sys, herdgate.testing.pytest_plugin; print([m for m in sys.modules if m.startswith('herdgate')])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "['herdgate', 'herdgate.testing', 'herdgate.testing.pytest_plugin']"
