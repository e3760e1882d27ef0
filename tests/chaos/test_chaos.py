"""The short form of `make chaos`: the same runs, with few requests and always the same seed."""

import pytest
from tests.chaos.runs import Report, reloads, stop, trouble

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
