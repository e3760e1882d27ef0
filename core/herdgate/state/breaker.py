"""Failing fast while a server is out of order: callers should not each wait for the same silence."""

from dataclasses import dataclass

FAILURES = 3
"""Failures in a row after which the server is left alone for a moment."""

PAUSE = 1.0
"""Seconds for which it is left alone; then one call tries it again while the others go on failing fast."""


@dataclass(slots=True)
class Breaker:
    """Counts failures and says whether a call may be tried. Times are of any one monotonic clock, in seconds."""

    _failures: int = 0
    _paused_until: float = 0.0

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

    def failed(self, now: float) -> None:
        """Note that the server could not be reached or did not answer in time."""
        self._failures += 1
        self._paused_until = now + PAUSE
