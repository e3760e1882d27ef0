from __future__ import annotations

import errno
import logging
import resource

import pytest

from herdgate import descriptors
from herdgate.descriptors import TELL_EVERY, raise_limit, ran_out


def test_a_process_may_have_as_many_as_the_system_lets_it_have() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 512), hard))
    try:
        raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_limit_that_cannot_be_raised_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "setrlimit", refused)
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_shortage_is_told_once_in_a_while(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(descriptors, "_told_at", float("-inf"))
    with caplog.at_level(logging.ERROR, "herdgate"):
        assert ran_out(OSError(number, "too many"))
        now += TELL_EVERY - 1
        assert ran_out(OSError(number, "too many"))
        assert len(caplog.messages) == 1
        now += 1
        assert ran_out(OSError(number, "too many"))
        assert len(caplog.messages) == 2


@pytest.mark.parametrize("error", [None, OSError(errno.ECONNREFUSED, "refused"), TimeoutError(), ValueError()])
def test_other_errors_are_no_shortage(error: Exception | None) -> None:
    assert not ran_out(error)
