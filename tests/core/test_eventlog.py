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


def test_whatever_is_put_between_later_is_noticed_by_the_next_event() -> None:
    above, log, sees = logging.getLogger("herdgate.late"), logging.getLogger("herdgate.late.events"), Sees()
    with only_log() as handler:
        log_event(log, "alone", {})
        for heard_by in (log, above, logging.getLogger()):
            heard_by.addHandler(sees)
            log_event(log, "heard", {})
            heard_by.removeHandler(sees)
        handler.addFilter(lambda _: False)
        log_event(log, "stopped by the handler", {})
        handler.filters.clear()
        above.propagate = False
        log_event(log, "stopped above", {})
        above.propagate = True
        log.disabled = True
        log_event(log, "stopped", {})
        log.disabled = False
        log_event(log, "alone again", {})
    assert len(sees.records) == 3
    said = [json.loads(line)["message"] for line in handler.stream.getvalue().splitlines()]
    assert said == ["alone", "heard", "heard", "heard", "alone again"]


def test_a_handler_that_does_more_than_to_write_does_it_for_events_too() -> None:
    class Counts(logging.StreamHandler[io.StringIO]):
        count = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.count += 1
            super().emit(record)

    with only_log() as plain:
        counts = Counts(io.StringIO())
        counts.setFormatter(plain.formatter)
        logging.getLogger().handlers[:] = [counts]
        log_event(logging.getLogger("herdgate.events"), "told", {"request": "r3"})
    assert counts.count == 1
    assert json.loads(counts.stream.getvalue())["request"] == "r3"
