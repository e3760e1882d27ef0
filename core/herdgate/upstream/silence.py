"""One timer for many short waits."""

import asyncio
from collections.abc import Callable


class SilenceTimer:
    """Calls back when a wait has gone on for too long with nothing heard.

    Waits start and stop thousands of times a second and hardly ever run out. So starting, hearing and stopping
    only note the time; the one handle on the loop looks at the notes when it fires and is set anew if there is
    time left. It survives the end of a wait and serves the next one.
    """

    __slots__ = ("_handle", "_loop", "_on_silence", "seconds", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_silence: Callable[[float], None]) -> None:
        self._loop = loop
        self._on_silence = on_silence
        self.seconds: float | None = None
        """How long the silence may last; None if nobody waits, or for any time. Set it to None at the end of a wait."""
        self.since = 0.0
        """When the wait began, or something was heard last, on the loop's clock."""
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float | None) -> None:
        """Begin a wait in which at most this many seconds may pass without a sound; None: any number."""
        self.seconds = seconds
        self.since = self._loop.time()
        if seconds is None:
            return
        due = self.since + seconds
        if self._handle is not None:
            if self._handle.when() <= due:
                return
            self._handle.cancel()
        self._handle = self._loop.call_at(due, self._look)

    def close(self) -> None:
        """Leave nothing on the loop."""
        self.seconds = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = None
        if self.seconds is None:
            return
        due = self.since + self.seconds
        if self._loop.time() < due:
            self._handle = self._loop.call_at(due, self._look)
        else:
            seconds, self.seconds = self.seconds, None
            self._on_silence(seconds)
