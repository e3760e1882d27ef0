import pytest
from tests.stories.conftest import BUILT_IN, CHAT, MODEL

from herdgate.testing.faults import Status
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama

SENT = {"x-request-id": "asked-by-me", "x-forwarded-for": "203.0.113.7", "forwarded": "for=203.0.113.8"}
LISTED = f'{BUILT_IN}\n[[plugin]]\nuse = "forward_client"\n'


@pytest.mark.parametrize(
    ("toml", "first_told", "second_told"),
    [
        ("", (None, None), (None, None)),
        (LISTED, ("127.0.0.1", "asked-by-me"), ("127.0.0.1", "asked-by-me")),
        (f"{LISTED}address = false\n", (None, "asked-by-me"), (None, "asked-by-me")),
        (f"{LISTED}request_id = false\n", ("127.0.0.1", None), ("127.0.0.1", None)),
        (f'{LISTED}backends = ["second"]\n', (None, None), ("127.0.0.1", "asked-by-me")),
        (
            f'[server]\ntrusted_proxies = ["127.0.0.1"]\n{LISTED}',
            ("203.0.113.7", "asked-by-me"),
            ("203.0.113.7", "asked-by-me"),
        ),
    ],
    ids=["not listed", "listed", "no address", "no id", "one backend", "behind a proxy"],
)
async def test_backends_learn_who_asks_only_if_they_are_to(
    toml: str, first_told: tuple[str | None, str | None], second_told: tuple[str | None, str | None]
) -> None:
    first, second = (SimulatedOllama(name=name, models=[MODEL]) for name in ("first", "second"))
    async with first, second, running_gateway(first, second, toml=toml) as gateway:
        first.script(CHAT, Status(503))
        reply = await gateway.client.post(CHAT, json={"model": MODEL, "messages": [{"content": "hi"}]}, headers=SENT)
        assert reply.status_code == 200
        for backend, told in ((first, first_told), (second, second_told)):
            (received,) = [request for request in backend.requests if request.path == CHAT]
            names = ("x-forwarded-for", "x-request-id", "forwarded")
            assert [received.values(name) for name in names] == [(value,) if value else () for value in (*told, None)]
