import pytest

from herdgate import Exchange, Family, denial
from herdgate_plugins.generic_403 import Generic403


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("model", ["nothing", "secret", None])
def test_a_denial_depends_on_nothing_but_family_and_request(family: Family, model: str | None) -> None:
    exchange = Exchange("r1", method="POST", path="/api/chat", client="127.0.0.1")
    exchange.notes["model"] = model
    assert Generic403().mask_denial(exchange, family) == denial(family, request_id="r1")


def test_it_never_asks_for_the_reason() -> None:
    assert not getattr(Generic403, "discloses", False)
