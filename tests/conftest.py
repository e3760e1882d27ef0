"""What holds for every test."""

import faulthandler
import os
from collections.abc import Generator

import pytest
import trustme  # noqa: F401 - before `herdgate.cli`, which keeps it out of a process that does without it

_ERRORS = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    # Before output is captured: a traceback of a run that ends at once must reach the terminal.
    config.stash[_ERRORS] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_ERRORS])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Put a limit to fixtures that hang: for a test that has failed, pytest and pytest-timeout know none any more."""
    limit = float(item.config.getini("faulthandler_timeout"))
    faulthandler.dump_traceback_later(limit, exit=True, file=item.config.stash[_ERRORS])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
