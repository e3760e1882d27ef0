import pytest
from pydantic import ValidationError

from herdgate import Attempt, Backend, Candidate, Exchange, Failure, GiveUp, Kind, ModelEntry, Phase
from herdgate.testing.faults import Status
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.priority_failover import PriorityFailover

BROKEN = Failure(Kind.BROKEN, Phase.SENT, "reset")
SKIPPED = Failure(Kind.SKIPPED, Phase.CONNECT, "full")


def judged(max_attempts: int | None, *failures: Failure) -> GiveUp | None:
    exchange = Exchange("r1", method="POST", path="/api/chat", client="127.0.0.1")
    model = ModelEntry.from_tags({"name": "llama3"})
    for number, failure in enumerate(failures, 1):
        exchange.attempts += (Attempt(number, Candidate(Backend("a", "http://a"), model), failure=failure),)
    return PriorityFailover(PriorityFailover.Settings(max_attempts=max_attempts)).judge_failure(exchange)


@pytest.mark.parametrize(
    ("max_attempts", "failures", "gives_up"),
    [
        (None, [BROKEN] * 20, False),
        (1, [BROKEN], True),
        (2, [BROKEN], False),
        (2, [BROKEN, BROKEN], True),
        (2, [BROKEN, SKIPPED], False),
        (2, [SKIPPED, SKIPPED, BROKEN], False),
        (2, [BROKEN, SKIPPED, BROKEN], True),
    ],
)
def test_it_gives_up_once_so_many_backends_were_really_tried(
    max_attempts: int | None, failures: list[Failure], gives_up: bool
) -> None:
    verdict = judged(max_attempts, *failures)
    assert (verdict == GiveUp(f"{max_attempts} backends were tried")) is gives_up
    assert gives_up or verdict is None


@pytest.mark.parametrize("number", [0, -1, 1.5, "many"])
def test_a_number_of_attempts_that_makes_no_sense_is_a_mistake(number: object) -> None:
    with pytest.raises(ValidationError):
        PriorityFailover.Settings(max_attempts=number)


@pytest.mark.parametrize(("setting", "tried"), [("", 3), ("max_attempts = 2", 2), ("max_attempts = 1", 1)])
async def test_the_operator_limits_how_many_backends_one_request_may_try(setting: str, tried: int) -> None:
    uses = ["configured_backends", "ollama_discovery", "api_keys", "model_access", "priority_failover"]
    toml = "".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses) + setting
    async with SimulatedOllama(name="a") as a, SimulatedOllama(name="b") as b, SimulatedOllama(name="c") as c:
        for backend in (a, b, c):
            backend.script("/api/generate", Status(503, f"busy {backend.name}"))
        async with running_gateway(a, b, c, toml=toml) as gateway:
            reply = await gateway.client.post("/api/generate", json={"model": "llama3.2", "prompt": "hi"})
        asked = [len([request for request in each.requests if request.method == "POST"]) for each in (a, b, c)]
    assert asked == [1] * tried + [0] * (3 - tried)
    assert (reply.status_code, reply.json()) == (503, {"error": f"busy {'abc'[tried - 1]}"})
