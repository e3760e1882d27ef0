import logging

import pytest

from herdgate.faults import Ledger, PluginFault
from herdgate.filters import Filters


class Upper:
    def feed(self, data: bytes) -> bytes:
        return data.upper()

    def finish(self) -> bytes:
        return b"!"


class Whole:
    """Holds everything back until the end."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        self.held += data
        return b""

    def finish(self) -> bytes:
        return b"<" + self.held + b">"


class Bad:
    def __init__(self, answer: object = None) -> None:
        self.answer = answer

    def feed(self, data: bytes) -> bytes:
        if self.answer is None:
            raise ValueError("cannot read this")
        return self.answer  # type: ignore[return-value]

    def finish(self) -> bytes:
        return self.feed(b"")


def test_bytes_go_through_the_filters_in_order() -> None:
    filters = Filters([("upper", Upper()), ("whole", Whole())], Ledger())
    assert filters.feed(b"a") + filters.feed(b"b") == b""
    assert filters.finish() == b"<AB!>"


def test_what_an_earlier_filter_gives_up_at_the_end_goes_through_the_later_ones() -> None:
    filters = Filters([("whole", Whole()), ("upper", Upper())], Ledger())
    filters.feed(b"a")
    assert filters.finish() == b"<A>!"


def test_nothing_held_means_nothing_to_feed_at_the_end() -> None:
    class Strict(Upper):
        def feed(self, data: bytes) -> bytes:
            assert data
            return data

    assert Filters([("whole", Upper()), ("strict", Strict()), ("last", Strict())], Ledger()).finish() == b"!!!"


@pytest.mark.parametrize("answer", [None, "text", 7, bytearray(b"x")])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_fault_is_pinned_on_the_filters_plugin(
    answer: object, at_the_end: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger()
    filters = Filters([("upper", Upper()), ("bad", Bad(answer))], ledger)
    with caplog.at_level(logging.ERROR), pytest.raises(PluginFault, match="plugin bad failed in filter_stream"):
        filters.finish() if at_the_end else filters.feed(b"x")
    assert ledger.faults == {("bad", "filter_stream"): 1}
    assert "plugin bad failed" in caplog.text
    assert "Traceback" in caplog.text


def test_something_without_the_methods_of_a_filter_is_a_fault() -> None:
    with pytest.raises(PluginFault, match="no attribute 'feed'"):
        Filters([("bad", object())], Ledger()).feed(b"x")  # type: ignore[list-item]
