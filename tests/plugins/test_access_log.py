import asyncio
import logging

import pytest

from herdgate import Attempt, Backend, Candidate, Exchange, Identity, ModelEntry, ModelName, Outcome, Summary
from herdgate.testing.faults import Hang
from herdgate.testing.gateway import running_gateway, until
from herdgate.testing.simulated import SimulatedOllama
from herdgate_plugins.access_log import AccessLog

STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "herdgate.access")


def fields(record: logging.LogRecord) -> dict[str, object]:
    """What a line says beside its message."""
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "herdgate.access"]


def test_a_line_says_who_asked_for_what_who_answered_and_how_it_ended(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("r1", method="POST", path="/api/chat", client="192.0.2.7")
    exchange.identity = Identity("alice")
    exchange.model = ModelName.parse("llama3")
    model = ModelEntry.from_tags({"name": "llama3"})
    exchange.attempts = (Attempt(1, Candidate(Backend("gpu1", "http://gpu1"), model)),)
    summary = Summary(
        exchange, Outcome.BROKEN, 200, 1.23456, sent=77, first_byte_after=0.12345, tail=b"secret words", backend="gpu1"
    )
    AccessLog().exchange_ended(summary)
    (record,) = lines(caplog)
    assert record.getMessage() == "POST /api/chat 200 broken"
    assert fields(record) == {
        "request": "r1",
        "client": "192.0.2.7",
        "caller": "alice",
        "model": "llama3:latest",
        "backend": "gpu1",
        "attempts": 1,
        "seconds": 1.2346,
        "first_byte": 0.1235,
        "bytes": 77,
    }


def test_what_is_not_known_is_left_empty(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("r1", method="GET", path="/nothing", client="")
    AccessLog().exchange_ended(Summary(exchange, Outcome.CLIENT_LEFT, 0, 0.1))
    (record,) = lines(caplog)
    assert record.getMessage() == "GET /nothing - client_left"
    said = fields(record)
    assert [said[name] for name in ("caller", "model", "backend", "first_byte")] == [None] * 4


async def test_a_line_never_holds_credentials_queries_or_what_users_write(caplog: pytest.LogCaptureFixture) -> None:
    secrets = ["hg_bearer-secret", "hg_header-secret", "cookie-secret", "query-secret", "prompt-secret"]
    async with SimulatedOllama() as backend, running_gateway(backend) as gateway:
        key = await gateway.make_key("*")
        body = {"model": "llama3.2", "prompt": "prompt-secret", "stream": False}
        for headers in (
            {**key, "cookie": "a=cookie-secret"},
            {"authorization": "Bearer hg_bearer-secret"},
            {"x-api-key": "hg_header-secret"},
        ):
            await gateway.client.post("/api/generate?key=query-secret", json=body, headers=headers)
        await until(lambda: sum("/api/generate" in line.getMessage() for line in lines(caplog)) == 3)
    written = " ".join(f"{line.getMessage()} {vars(line)}" for line in lines(caplog))
    secrets.append(key["authorization"].removeprefix("Bearer "))
    assert [secret for secret in secrets if secret in written] == []
    said = [fields(line) for line in lines(caplog) if "/api/generate" in line.getMessage()]
    assert [line["caller"] for line in said] == ["someone", None, None]


async def test_a_backend_that_was_full_is_no_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async with SimulatedOllama() as narrow, SimulatedOllama() as wide:
        full = {"name": "narrow", "base_url": narrow.url, "max_concurrency": 1}
        async with running_gateway(full, {"name": "wide", "base_url": wide.url}) as gateway:
            goes_on = asyncio.Event()
            narrow.script("/api/chat", Hang(after=1, until=goes_on))
            body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
            running = asyncio.create_task(gateway.client.post("/api/chat", json=body))
            await narrow.wait_for(lambda one: one.concurrent == 1)
            await gateway.client.post("/api/chat", json=body)
            goes_on.set()
            await running
            await until(lambda: len(lines(caplog)) == 2)
    said = [(fields(line)["backend"], fields(line)["attempts"]) for line in lines(caplog)]
    assert said == [("wide", 1), ("narrow", 1)]


async def test_every_request_has_one_line_whatever_became_of_it(caplog: pytest.LogCaptureFixture) -> None:
    async with SimulatedOllama() as backend, running_gateway(backend) as gateway:
        for path, body in (("/api/chat", {"model": "nothing"}), ("/api/chat", {}), ("/nothing", {}), ("/api/pull", {})):
            await gateway.client.post(path, json=body)
        await gateway.client.get("/")
        await until(lambda: len(lines(caplog)) == 5)
    assert [line.getMessage() for line in lines(caplog)] == [
        "POST /api/chat 403 denied",
        "POST /api/chat 400 refused",
        "POST /nothing 404 refused",
        "POST /api/pull 403 denied",
        "GET / 200 answered",
    ]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_do_not_fill_the_log_unless_they_fail(caplog: pytest.LogCaptureFixture, path: str) -> None:
    exchange = Exchange("r1", method="GET", path=path, client="")
    AccessLog().exchange_ended(Summary(exchange, Outcome.ANSWERED, 200, 0.1))
    assert not lines(caplog)
    AccessLog().exchange_ended(Summary(exchange, Outcome.ANSWERED, 503, 0.1))
    assert len(lines(caplog)) == 1
