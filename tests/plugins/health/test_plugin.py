"""The plugin as the gateway calls it, without one; the stories are in tests/stories/test_health.py."""

from tests.plugins.health.scene import candidate

from herdgate import Backend, Exchange
from herdgate_plugins.health import Health


class Listened(Exchange):
    """An exchange whose explanations somebody hears."""

    def explain(self, reason: str, *values: object) -> None:
        self.notes.setdefault("said", []).append(reason % values)


def test_it_says_why_it_changes_the_order_and_nothing_else() -> None:
    plugin, candidates = Health(Health.Settings()), [candidate("a"), candidate("b")]
    exchange = Listened("r1", method="POST", path="/api/chat", client="127.0.0.1")
    assert plugin.select_candidates(exchange, candidates) is None
    assert "said" not in exchange.notes
    plugin.circuits.dead(Backend("a", "http://a"), "silence")
    assert plugin.select_candidates(exchange, candidates) == candidates[1:]
    assert exchange.notes["said"] == ["a is dead", "b is sound"]
