"""The log is written elsewhere, completely and in order, and a reader who stops reading stops nobody."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import SupportsIndex

import pytest

from herdgate import logwriter
from herdgate.eventlog import log_event
from herdgate.logs import JsonLines, Redactor
from herdgate.logwriter import BackgroundStream, background_log


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level
    logger.handlers[:] = []
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers[:], logger.level = before


def test_everything_is_written_in_order_and_the_stream_is_given_back(root: logging.Logger) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    root.addHandler(handler)
    with background_log():
        assert handler.stream is not out
        for number in range(1000):
            root.info("line %d", number)
    assert handler.stream is out
    root.info("afterwards")
    assert out.getvalue().splitlines() == [*(f"line {number}" for number in range(1000)), "afterwards"]


def test_a_reader_who_does_not_read_stops_nobody_and_what_was_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "LIMIT", 1_000_000)
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as writer:
        stream = BackgroundStream(writer)
        for _ in range(30_000):
            stream.write("x" * 99 + "\n")
        taken: list[str] = []
        drain = threading.Thread(target=lambda: taken.extend(reader))
        drain.start()
        stream.write("the end\n")
        stream.close()
        writer.close()
        drain.join(10)
    lost = [line for line in taken if "were lost" in line]
    assert lost
    count = sum(int(line.split(" ", 1)[0]) for line in lost)
    assert len([line for line in taken if line.startswith("x")]) + count >= 30_000


def test_every_line_is_written_soon_whenever_it_comes() -> None:
    class Interrupted(io.StringIO):
        """Somebody logs while the thread writes."""

        stream: BackgroundStream

        def write(self, text: str) -> int:
            if "first" in text:
                self.stream.write("meanwhile\n")
            return super().write(text)

    out = Interrupted()
    out.stream = BackgroundStream(out)
    said = ""
    for line in ("first\n", "later\n", "last\n"):
        out.stream.write(line)
        said += "first\nmeanwhile\n" if line == "first\n" else line
        wait_until_written(out, said)
    out.stream.close()


def wait_until_written(out: io.StringIO, text: str) -> None:
    end = time.monotonic() + 10
    while out.getvalue() != text:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_reader_who_is_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = os.fdopen(writing, "w")
    stream = BackgroundStream(writer)
    stream.write("to nobody\n")
    stream.close()
    with pytest.raises(BrokenPipeError):
        writer.close()


def test_no_thread_is_left(root: logging.Logger) -> None:
    root.addHandler(logging.StreamHandler(io.StringIO()))
    with background_log():
        assert any(thread.name == "log writer" for thread in threading.enumerate())
    assert not any(thread.name == "log writer" for thread in threading.enumerate())


def test_lines_of_several_processes_are_not_mixed_in_one_pipe() -> None:
    class Pieces(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.writes: list[str] = []

        def write(self, text: str) -> int:
            self.writes.append(text)
            return len(text)

    out = Pieces()
    stream = BackgroundStream(out)
    lines = ["x" * size + "\n" for size in (10, 4000, 90, 5000, 1, 1)]
    for line in lines:
        stream.write(line)
    stream.close()
    assert "".join(out.writes) == "".join(lines)
    assert all(piece.endswith("\n") for piece in out.writes)
    assert [len(piece) for piece in out.writes] == [4012, 91, 5001, 4]


def test_a_line_that_comes_while_the_others_are_taken_is_not_left_lying() -> None:
    out = io.StringIO()
    stream = BackgroundStream(out)

    class Interrupted(list[str | Callable[[], str]]):
        """Somebody logs between the look at the lines and their removal."""

        once = True

        def __delitem__(self, which: SupportsIndex | slice) -> None:
            if Interrupted.once:
                Interrupted.once = False
                stream.write("meanwhile\n")
            super().__delitem__(which)

    stream._lines = Interrupted()
    stream.write("first\n")
    wait_until_written(out, "first\nmeanwhile\n")
    stream.close()


def test_a_line_of_which_there_are_many_is_made_by_the_thread_in_its_place() -> None:
    out, makers = io.StringIO(), set()

    def make(number: int) -> str:
        makers.add(threading.current_thread().name)
        return f"made {number}"

    stream = BackgroundStream(out)
    for number in range(100):
        stream.write(f"given {number}\n")
        stream.write_line(partial(make, number))
    stream.close()
    assert out.getvalue().splitlines() == [f"{how} {number}" for number in range(100) for how in ("given", "made")]
    assert makers == {"log writer"}


def test_a_line_that_cannot_be_made_is_said_to_be_missing_and_the_others_are_written() -> None:
    out = io.StringIO()
    stream = BackgroundStream(out)
    stream.write("before\n")
    stream.write_line(partial(getattr, object(), "geheim"))
    stream.write("after\n")
    stream.close()
    assert out.getvalue().splitlines() == ["before", "a line of the log could not be made: AttributeError", "after"]


def test_lines_that_wait_to_be_made_count_towards_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "LIMIT", 10 * logwriter.UNMADE)
    monkeypatch.setattr(logwriter, "GATHER", 60)
    out = io.StringIO()
    stream = BackgroundStream(out)
    for number in range(12):
        stream.write_line(partial("{}".format, number))
    stream.close()
    assert out.getvalue().splitlines() == [
        *map(str, range(10)),
        "2 lines of the log were lost: nobody read them",
    ]


def test_events_of_a_process_that_serves_are_made_in_the_background(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines(Redactor(["geheim"])))
    root.handlers[:] = [handler]  # without those of pytest, which would want a record
    with background_log():
        logging.getLogger("herdgate.first").info("one")
        monkeypatch.setattr(handler.stream, "write", None)  # which takes what is made already
        log_event(logging.getLogger("herdgate.access"), "two geheim", {"status": 200, "model": None})
    one, two = map(json.loads, out.getvalue().splitlines())
    assert one["message"] == "one"
    assert one["time"] <= two.pop("time")
    del two["pid"]
    assert two == {"level": "info", "logger": "herdgate.access", "message": "two ********", "status": 200}
