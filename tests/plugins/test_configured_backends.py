from typing import cast

from herdgate import App, BackendSettings, State
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.configured_backends import ConfiguredBackends


def test_it_offers_what_the_operator_configured_every_time_it_is_asked() -> None:
    backends = tuple(BackendSettings(name=name, base_url=f"http://{name}") for name in ("b", "a"))
    source = ConfiguredBackends().backend_sources(App("1", "127.0.0.1", backends, (), cast(State, None)))
    assert source.list() == backends
    assert source.list() == backends


async def test_the_order_of_configuration_is_the_order_of_trying() -> None:
    async with SimulatedOllama(name="b") as b, SimulatedOllama(name="a") as a:
        async with running_gateway(b, a) as gateway:
            assert [backend.name for backend in gateway.gateway.runtime.discovery.backends] == ["b", "a"]
            reply = await gateway.client.post(
                "/api/generate", json={"model": "llama3.2", "prompt": "hi", "stream": False}
            )
        assert "simulated backend b" in reply.json()["response"]
        assert [request.path for request in a.requests if request.method == "POST"] == []


async def test_a_backend_that_is_not_enabled_does_not_exist() -> None:
    async with SimulatedOllama(name="b") as b, SimulatedOllama(name="a") as a:
        off = {"name": "b", "base_url": b.url, "enabled": False}
        async with running_gateway(off, a) as gateway:
            assert [backend.name for backend in gateway.gateway.runtime.discovery.backends] == ["a"]
        assert b.requests == []
