"""Write the log without ever making the event loop wait for whoever reads it.

A log that goes to a pipe or a terminal blocks when its reader does not keep up, and with it everything that runs in the
loop. While a process serves, a thread does the writing, many lines at a time. It also makes those lines of which there
is one for every request, which is a twentieth of what a request takes, and nothing that a caller has to wait for.
"""

from __future__ import annotations

import contextlib
import logging
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

GATHER = 0.05
"""Seconds for which lines are gathered before they are written together."""
LIMIT = 8 * 1024 * 1024
"""Characters that may wait for a reader who does not keep up; what exceeds them is lost, and counted."""
UNMADE = 512
"""Characters that a line counts for before it is made."""
LAST_WORDS = 1.0
"""Seconds that a blocked reader may hold up the end of the process."""


class BackgroundStream:
    """Takes lines at once and has a thread write them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str | Callable[[], str]] = []
        # Each of these is changed by one thread only, so that no lock is needed: first those of the loop's thread.
        self._given = 0
        self._lost = 0
        self._written = 0
        self._told = 0
        self._there = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Have this written soon."""
        self._take(text, len(text))

    def write_line(self, make: Callable[[], str]) -> None:
        """Have a line made, without its end, and written soon. What goes into it may not change any more."""
        self._take(make, UNMADE)

    def _take(self, line: str | Callable[[], str], size: int) -> None:
        given = self._given + size
        if given - self._written > LIMIT:
            self._lost += 1
            return
        self._given = given
        lines = self._lines
        lines.append(line)
        if len(lines) == 1:  # the first one since the thread took what was there: it knows of any other
            self._there.set()

    def flush(self) -> None:
        """Nothing: the thread flushes what it has written."""

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._closing.set()
        self._there.set()
        self._thread.join(LAST_WORDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._there.wait()
            self._closing.wait(GATHER)
            self._there.clear()
            self._write_out()
        self._write_out()

    def _write_out(self) -> None:
        lines = self._lines[:]
        del self._lines[: len(lines)]  # what has come in the meantime stays
        if self._lines:  # and was not the first, so nobody has said that it is there
            self._there.set()
        written = sum(len(line) if isinstance(line, str) else UNMADE for line in lines)
        lost = self._lost
        if lost > self._told:
            lines.append(f"{lost - self._told} lines of the log were lost: nobody read them\n")
            self._told = lost
        with contextlib.suppress(OSError, ValueError):  # the reader is gone: there is nobody left to tell
            for portion in _portions(map(_made, lines)):
                self._stream.write(portion)
                self._stream.flush()
        self._written += written


def _made(line: str | Callable[[], str]) -> str:
    if isinstance(line, str):
        return line
    try:
        return line() + "\n"
    except Exception as error:  # the log goes on
        return f"a line of the log could not be made: {type(error).__name__}\n"


def _portions(lines: Iterable[str]) -> Iterator[str]:
    """The lines in portions that a pipe takes whole, so that those of several processes are not mixed.

    A line too long for that is a portion by itself. Characters count, which in this log are nearly always bytes. Lines
    are made as they are written: between two writes of this thread the loop gets its turn.
    """
    portion: list[str] = []
    size = 0
    for line in lines:
        if portion and size + len(line) > select.PIPE_BUF:
            yield "".join(portion)
            portion, size = [], 0
        portion.append(line)
        size += len(line)
    if portion:
        yield "".join(portion)


@contextmanager
def background_log() -> Iterator[None]:
    """While inside, have the log of this process written in the background."""
    replaced: list[tuple[logging.StreamHandler[TextIO], TextIO, BackgroundStream]] = []
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            stream = handler.stream
            background = BackgroundStream(stream)
            handler.setStream(background)
            replaced.append((handler, stream, background))
    try:
        yield
    finally:
        for handler, stream, background in replaced:
            background.close()
            handler.setStream(stream)
