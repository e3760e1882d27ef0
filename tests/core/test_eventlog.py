from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

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


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What the only handler of the root logger writes."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(Redactor(["geheim"])))
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def test_an_event_is_the_line_that_a_record_would_be(stream: io.StringIO) -> None:
    log = logging.getLogger("herdgate.some.events")
    log_event(log, "POST /geheim 200", FIELDS)
    log.info("POST /geheim 200", extra={name: value for name, value in FIELDS.items() if value is not None})
    event, record = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (event.pop("time") <= record.pop("time"), event) == (True, record)
    assert event == {**record, "request": "r1", "seconds": 0.25, "level": "info", "logger": "herdgate.some.events"}
    assert "geheim" not in stream.getvalue()


def test_an_event_is_told_to_whoever_else_listens(stream: io.StringIO) -> None:
    log, sees = logging.getLogger("herdgate.other.events"), Sees()
    log.addHandler(sees)
    log_event(log, "told", {"request": "r2"})
    log.removeHandler(sees)
    (record,) = sees.records
    assert vars(record)["request"] == "r2"
    assert json.loads(stream.getvalue())["message"] == "told"


def test_an_event_that_nobody_wants_is_not_written(stream: io.StringIO) -> None:
    log = logging.getLogger("herdgate.quiet.events")
    log.setLevel(logging.WARNING)
    log_event(log, "not told", {})
    log.setLevel(logging.NOTSET)
    (handler,) = logging.getLogger().handlers
    handler.setLevel(logging.WARNING)
    log_event(log, "not told", {})
    log.addFilter(lambda _: False)
    handler.setLevel(logging.NOTSET)
    log_event(log, "not told", {})
    log.filters.clear()
    assert stream.getvalue() == ""
