"""A clock for plugins that take one: time stands still until the test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Call it for seconds, as `time.monotonic` and `time.time`; `now` stands in for `datetime.now`."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start

    def __call__(self) -> float:
        """Seconds; only their differences mean anything."""
        return self._now.timestamp()

    def now(self, zone: tzinfo | None = None) -> datetime:
        """The time in this zone; without one, in UTC but not saying so, as `datetime.now` on a machine in UTC."""
        return self._now.astimezone(zone) if zone else self._now.astimezone(UTC).replace(tzinfo=None)

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        self._now += timedelta(seconds=seconds)
