from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from herdgate.eventlog import log_event
from herdgate.logs import JsonLines, Redactor

FIELDS = {"request": "r1", "caller": None, "seconds": 0.25, "level": "mine"}


class Sees(logging.Handler):
    """A second listener."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def only_log() -> Iterator[logging.StreamHandler[io.StringIO]]:
    """The only handler of the root logger. Made in the test itself, because pytest has handlers of its own there."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(JsonLines(Redactor(["geheim"])))
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_an_event_is_the_line_that_a_record_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("herdgate.some.events")
    with only_log() as handler:
        log.info("POST /geheim 200", extra={name: value for name, value in FIELDS.items() if value is not None})
        monkeypatch.setattr(handler, "emit", None)  # no record is made of an event
        log_event(log, "POST /geheim 200", FIELDS)
    record, event = (json.loads(line) for line in handler.stream.getvalue().splitlines())
    assert record.pop("time") <= event.pop("time")
    assert event == record
    assert event == {**event, "request": "r1", "seconds": 0.25, "level": "info", "logger": "herdgate.some.events"}
    assert "geheim" not in handler.stream.getvalue()


def test_an_event_is_told_to_whoever_else_listens() -> None:
    log, sees = logging.getLogger("herdgate.other.events"), Sees()
    log.addHandler(sees)
    with only_log() as handler:
        log_event(log, "told", {"request": "r2", "caller": None})
    log.removeHandler(sees)
    (record,) = sees.records
    assert vars(record)["request"] == "r2"
    assert json.loads(handler.stream.getvalue())["message"] == "told"


def test_an_event_that_nobody_wants_is_not_written() -> None:
    log = logging.getLogger("herdgate.quiet.events")
    with only_log() as handler:
        log.setLevel(logging.WARNING)
        log_event(log, "not told", {})
        log.setLevel(logging.NOTSET)
        handler.setLevel(logging.WARNING)
        log_event(log, "not told", {})
        handler.setLevel(logging.NOTSET)
        log.addFilter(lambda _: False)
        log_event(log, "not told", {})
        log.filters.clear()
    assert handler.stream.getvalue() == ""
