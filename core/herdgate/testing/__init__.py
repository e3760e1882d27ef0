"""What plugin authors and this project test with.

    from herdgate.testing import assert_plugin_is_well_behaved, gateway_with

`gateway_with` is a real gateway with a plugin under test, in front of simulated backends on real sockets;
`assert_plugin_is_well_behaved` puts a plugin to the tests that every plugin should pass. `herdgate.testing.faults` has
what can go wrong with a backend. The names are loaded when they are first used; none needs pytest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from herdgate.testing.behaviour import assert_plugin_is_well_behaved as assert_plugin_is_well_behaved
    from herdgate.testing.clock import FakeClock as FakeClock
    from herdgate.testing.decisions import Decision as Decision
    from herdgate.testing.decisions import Decisions as Decisions
    from herdgate.testing.gateway import RunningGateway as RunningGateway
    from herdgate.testing.gateway import running_gateway as running_gateway
    from herdgate.testing.gateway import until as until
    from herdgate.testing.plugin_gateway import PluginGateway as PluginGateway
    from herdgate.testing.plugin_gateway import built_in as built_in
    from herdgate.testing.plugin_gateway import gateway_with as gateway_with
    from herdgate.testing.simulated import SimulatedOllama as SimulatedOllama

_HOMES = {
    "behaviour": "assert_plugin_is_well_behaved",
    "clock": "FakeClock",
    "decisions": "Decision Decisions",
    "gateway": "RunningGateway running_gateway until",
    "plugin_gateway": "PluginGateway built_in gateway_with",
    "simulated": "SimulatedOllama",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"herdgate.testing.{module}"), name)
    globals()[name] = value
    return value
