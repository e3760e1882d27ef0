"""The short form of `make chaos`: the same runs, with few requests and always the same seed."""

import pytest
from tests.chaos.runs import Report, reloads, stop, trouble
from tests.chaos.ways import WAYS, Answer, Verdict

SEED = 20


def well(report: Report) -> None:
    print(report)  # noqa: T201 - shown if it fails
    assert not report.problems, str(report)


@pytest.mark.timeout(120)
async def test_requests_in_trouble() -> None:
    well(await trouble(SEED, 1200))


@pytest.mark.timeout(120)
async def test_reloads_under_load() -> None:
    well(await reloads(SEED, 600, 3))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_under_load(workers: int) -> None:
    well(await stop(SEED, workers))


@pytest.mark.parametrize(("missing", "verdict"), [(b"\n", Verdict.BROKEN), (b"", Verdict.LIE)])
def test_an_error_behind_the_last_event_is_one_only_if_that_event_was_whole(missing: bytes, verdict: Verdict) -> None:
    """Where its last line end is missing the gateway has to close it, and says rightly that the reply was broken."""
    (way,) = [way for way in WAYS if way.path == "/v1/messages" and way.stream]
    body = b'event: message_stop\ndata: {"type":"message_stop"}\n\n' + missing + b'event: error\ndata: {"error":{}}\n\n'
    assert way.judge(Answer(200, body, whole=True), "hello") is verdict
