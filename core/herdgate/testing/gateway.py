"""A real gateway in the running event loop, on a real socket, in front of the backends of a test."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict, Unpack

import httpx

from herdgate.config import Settings, load
from herdgate.keys import KeyStore
from herdgate.server import Gateway
from herdgate.testing.simulated import SimulatedOllama

READY_WITHIN = 10.0


class KeyOptions(TypedDict, total=False):
    """What `KeyStore.create` takes beside a name and models."""

    admin: bool
    rpm: int | None
    cloud: bool
    deadline: float | None


class RunningGateway:
    """A gateway under test: where it listens, its keys, and a client that talks to it."""

    def __init__(
        self,
        gateway: Gateway,
        client: httpx.AsyncClient,
        place: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`place` and `env` are what its configuration was read from, see `settings_for`."""
        self.gateway = gateway
        self.client = client
        self._place = place
        self._env = env or {}
        self.keys = KeyStore(gateway.runtime.state)
        self._needs_keys = False

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return self.gateway.url

    async def make_key(self, *models: str, name: str = "someone", **options: Unpack[KeyOptions]) -> dict[str, str]:
        """Make a key and return the header that presents it, once the gateway has noticed that keys are needed."""
        _, secret = await self.keys.create(name, models, **options)
        headers = {"authorization": f"Bearer {secret.get_secret_value()}"}
        if not self._needs_keys:
            await until(self._asks_for_keys)
            self._needs_keys = True  # there is no way back
        return headers

    async def _asks_for_keys(self) -> bool:
        return (await self.client.get("/api/version")).status_code == httpx.codes.UNAUTHORIZED

    async def reload(self, *backends: SimulatedOllama | Mapping[str, object], toml: str = "") -> None:
        """Have it take over other backends and another `plugins.toml`, as SIGHUP does. Raises what is wrong with them;
        then nothing has changed.
        """
        assert self._place is not None  # noqa: S101 - only what `running_gateway` started can be reloaded
        (self._place / "plugins.toml").write_text(toml, "utf-8")
        self.gateway.take_over(await self.gateway.prepare(settings_for(backends, self._env, self._place)))

    async def knows(self, model: str) -> None:
        """Wait until the catalogue lists this model (its display name, tag included)."""
        discovery = self.gateway.runtime.discovery
        await until(lambda: any(entry.name.display == model for entry in discovery.catalogue.union()))


async def until(condition: Callable[[], bool | Awaitable[bool]], within: float = READY_WITHIN) -> None:
    """Wait until a condition holds. Raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not (await held if isinstance(held := condition(), Awaitable) else held):  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_gateway(
    *backends: SimulatedOllama | Mapping[str, object],
    toml: str = "",
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> AsyncIterator[RunningGateway]:
    """Start a gateway in front of these backends, in this order, and wait for the end of its first discovery round.

    A backend is a simulated one, or a mapping of settings as in `OLLAMA_BACKENDS`. `toml` becomes the `plugins.toml`;
    without a `[[plugin]]` in it the built-in list runs. `env` are further environment variables. State is a file in
    `directory`, a new one for each gateway unless it is given.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = directory or Path(temporary)
        (place / "plugins.toml").write_text(toml, "utf-8")
        async with serving(Gateway(settings_for(backends, env or {}, place))) as (gateway, client):
            yield RunningGateway(gateway, client, place, env or {})


def settings_for(
    backends: Sequence[SimulatedOllama | Mapping[str, object]], env: Mapping[str, str], place: Path
) -> Settings:
    """The settings of a gateway in front of these backends, with its state and its plugins.toml in this directory."""
    environ = {
        "OLLAMA_BACKENDS": json.dumps(_settings(backends)),
        "HERDGATE_PORT": "0",
        "HERDGATE_STATE": f"sqlite://{place}/state.db",
        "HERDGATE_DISCOVERY_INTERVAL": "0.2",
        **env,
    }
    return load({}, environ, place)


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    """Start a gateway, wait for the end of its first discovery round, and connect a client with it."""
    async with (
        gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30.0, trust_env=False, transport=Real(verify=False)) as client,
    ):
        async with asyncio.timeout(READY_WITHIN):
            await gateway.runtime.discovery.first_round_over.wait()
        yield gateway, client


class Real(httpx.AsyncHTTPTransport):
    """A transport that stays real where a test has all others replaced, as pytest-httpx does.

    `verify=False` for plain HTTP: nobody needs the certificates of the world, which take longer to read than a gateway
    to start.
    """

    handle_async_request = httpx.AsyncHTTPTransport.handle_async_request


def _settings(backends: Sequence[SimulatedOllama | Mapping[str, object]]) -> list[Mapping[str, object]]:
    return [
        {"name": backend.name, "base_url": backend.url} if isinstance(backend, SimulatedOllama) else backend
        for backend in backends
    ]
