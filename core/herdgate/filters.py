"""The stream filters of plugins, chained for one reply."""

from __future__ import annotations

from collections.abc import Sequence

from herdgate.faults import Ledger, PluginFault
from herdgate.hooks import StreamFilter


class Filters:
    """The filters of one stream, in order. Raises PluginFault when one of them fails."""

    __slots__ = ("_filters", "_ledger")

    def __init__(self, filters: Sequence[tuple[str, StreamFilter]], ledger: Ledger) -> None:
        self._filters = tuple(filters)
        self._ledger = ledger

    def feed(self, data: bytes) -> bytes:
        """What the last filter lets through of these bytes."""
        for plugin, each in self._filters:
            data = self._run(plugin, each, data)
        return data

    def finish(self) -> bytes:
        """What the filters still hold; what an earlier one gives up goes through the later ones."""
        held = b""
        for plugin, each in self._filters:
            passed = self._run(plugin, each, held) if held else b""
            held = passed + self._run(plugin, each, None)
        return held

    def _run(self, plugin: str, each: StreamFilter, data: bytes | None) -> bytes:
        try:
            passed = each.finish() if data is None else each.feed(data)
            if not isinstance(passed, bytes):
                raise TypeError(f"its stream filter returned {type(passed).__name__}, not bytes")
            return passed
        except Exception as error:
            fault = PluginFault(plugin, "filter_stream", f"{type(error).__name__}: {error}")
            fault.__cause__ = error
            self._ledger.record(fault)
            raise fault from error
