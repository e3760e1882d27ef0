"""What pytest finds wherever Herdgate is installed: fixtures for the tests of plugins.

Nothing of Herdgate is imported before a test asks for it, and nothing but pytest imports this module.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from herdgate.testing import Decision, FakeClock, PluginGateway

_DECISIONS = pytest.StashKey[list["list[Decision]"]]()


@pytest.fixture
def herdgate_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    from herdgate.testing import FakeClock

    return FakeClock()


@pytest.fixture
def herdgate_gateway(
    request: pytest.FixtureRequest,
) -> Callable[..., AbstractAsyncContextManager[PluginGateway]]:
    """`herdgate.testing.gateway_with`; when the test fails, its report shows what the plugins decided."""
    from herdgate.testing import gateway_with

    kept = request.node.stash.setdefault(_DECISIONS, [])

    @asynccontextmanager
    async def start(*args: Any, **options: Any) -> AsyncIterator[PluginGateway]:
        async with gateway_with(*args, **options) as gateway:
            kept.append(gateway.decisions.all)
            yield gateway

    return start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the decisions to the report of a test that failed."""
    report = yield
    if report.failed:
        for decisions in item.stash.get(_DECISIONS, []):
            lines = [f"{each.hook:<18} {each.plugin:<20} {each.answer!r:.200}" for each in decisions]
            report.sections.append(("what the plugins decided", "\n".join(lines)))
    return report
