"""Failing fast while a server is out of order: callers should not each wait for the same silence."""

from dataclasses import dataclass

FAILURES = 2
"""Failures one after another for which the server is then left alone for a moment."""

PAUSE = 1.0
"""Seconds for which it is left alone; then one call tries it again while the others go on failing fast."""


@dataclass(slots=True)
class Breaker:
    """Counts failures and says whether a call may be tried. Times are of any one monotonic clock, in seconds."""

    _failures: int = 0
    _last_failure: float = float("-inf")
    _paused_until: float = float("-inf")

    def allows(self, now: float) -> bool:
        """Return whether a call may be tried now; whoever gets True reports how it went."""
        if self._failures < FAILURES:
            return True
        if now < self._paused_until:
            return False
        self._paused_until = now + PAUSE  # for everyone but the caller who now tries
        return True

    def succeeded(self) -> None:
        """Note that the server answered."""
        self._failures = 0

    def failed(self, started: float, now: float) -> None:
        """Note that a call, tried at `started`, found the server unreachable or silent.

        Calls that ran side by side count once: that they fail together is one event, and it may be ours, as when this
        process itself stood still for longer than they were willing to wait.
        """
        if started < self._last_failure:
            return
        self._failures += 1
        self._last_failure = now
        self._paused_until = now + PAUSE
