"""A new configuration on its way to all workers."""

import logging
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdgate.config import Settings, load
from herdgate.link import Inbox, Message, Word
from herdgate.rollout import Rollout, Worker


class Pair:
    """A worker, and what it has heard."""

    def __init__(self, slot: int) -> None:
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        self._theirs.setblocking(False)
        self.worker = Worker(slot, 1000 + slot, ours)

    def heard(self) -> list[Message]:
        try:
            return Inbox().feed(self._theirs.recv(1 << 20))
        except BlockingIOError:
            return []

    def heard_in_time(self) -> list[Message]:
        """The same, while its supervisor sends whenever there is room."""
        inbox, heard = Inbox(), list[Message]()
        while True:
            try:
                heard += inbox.feed(self._theirs.recv(4096))
            except BlockingIOError:
                if not self.worker.unsent:
                    return heard
            self.worker.send()

    def close(self) -> None:
        self.worker.link.close()
        self._theirs.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair(0), Pair(1)]
    yield made
    for pair in made:
        pair.close()


def settings(place: Path, toml: str = "") -> Settings:
    (place / "plugins.toml").write_text(toml)
    return load({}, {"HERDGATE_STATE": "sqlite:///here.db"}, place)


@pytest.fixture
def under_way(pairs: list[Pair], tmp_path: Path) -> Rollout:
    """A reload that all workers have heard of."""
    present, other = settings(tmp_path), settings(tmp_path, "[server]\ndrain = 7\n")
    coming = Rollout(present, lambda: other)
    coming.step(pair.worker for pair in pairs)
    assert all(pair.heard() == [] for pair in pairs)
    coming.ask()
    coming.step(pair.worker for pair in pairs)
    for pair in pairs:
        ((word, number, body),) = pair.heard()
        assert (word, number) == (Word.RELOAD, 1)
        assert pickle.loads(body) == other  # noqa: S301 - made here
    assert coming.pending
    return coming


def test_it_counts_once_all_are_prepared(under_way: Rollout, pairs: list[Pair]) -> None:
    under_way.prepared(pairs[0].worker, 1)
    under_way.step(pair.worker for pair in pairs)
    assert all(pair.heard() == [] for pair in pairs)
    under_way.prepared(pairs[1].worker, 1)
    under_way.step(pair.worker for pair in pairs)
    assert all(pair.heard() == [(Word.TAKE_OVER, 1, b"")] for pair in pairs)
    assert (under_way.pending, under_way.settings.server.drain) == (False, 7.0)


def test_one_that_cannot_keeps_all_as_they_are(
    under_way: Rollout, pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    under_way.prepared(pairs[0].worker, 1)
    under_way.refused(pairs[1].worker, 1, "no licence")
    under_way.refused(pairs[0].worker, 1, "no licence")  # a second answer to the same question
    under_way.step(pair.worker for pair in pairs)
    assert all(pair.heard() == [(Word.DROP, 1, b"")] for pair in pairs)
    assert (under_way.pending, under_way.settings.server.drain) == (False, 30.0)
    assert [record.getMessage() for record in caplog.records] == [
        "the configuration is not reloaded, the present one stays: no licence"
    ]


def test_answers_to_another_reload_are_none(under_way: Rollout, pairs: list[Pair]) -> None:
    under_way.refused(pairs[0].worker, 1, "no licence")
    under_way.ask()
    under_way.step(pair.worker for pair in pairs)
    assert [[(message.word, message.reload) for message in pair.heard()] for pair in pairs] == [
        [(Word.DROP, 1), (Word.RELOAD, 2)]
    ] * 2
    under_way.refused(pairs[1].worker, 1, "no licence")
    for pair in pairs:
        under_way.prepared(pair.worker, 1)
    under_way.step(pair.worker for pair in pairs)
    assert under_way.pending
    for pair in pairs:
        under_way.prepared(pair.worker, 2)
    under_way.step(pair.worker for pair in pairs)
    assert all(pair.heard() == [(Word.TAKE_OVER, 2, b"")] for pair in pairs)


def test_one_that_ends_while_it_prepares_keeps_all_as_they_are(
    under_way: Rollout, pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    under_way.prepared(pairs[0].worker, 1)
    under_way.gone(pairs[1].worker)
    under_way.step([pairs[0].worker])
    assert pairs[0].heard() == [(Word.DROP, 1, b"")]
    assert (under_way.pending, under_way.settings.server.drain) == (False, 30.0)
    assert "the present one stays: worker 1001 ended while it prepared for it" in caplog.text


def test_one_that_ends_prepared_is_not_missed(under_way: Rollout, pairs: list[Pair]) -> None:
    for pair in pairs:
        under_way.prepared(pair.worker, 1)
    under_way.gone(pairs[1].worker)
    under_way.step([pairs[0].worker])
    assert pairs[0].heard() == [(Word.TAKE_OVER, 1, b"")]


def test_but_one_must_be_left(under_way: Rollout, pairs: list[Pair], caplog: pytest.LogCaptureFixture) -> None:
    for pair in pairs:
        under_way.prepared(pair.worker, 1)
    for pair in pairs:
        under_way.gone(pair.worker)
    under_way.step([])
    assert (under_way.pending, under_way.settings.server.drain) == (False, 30.0)
    assert "the workers that had prepared for it have ended" in caplog.text


def test_it_waits_for_somebody_to_prepare(pairs: list[Pair], tmp_path: Path) -> None:
    watched = "[server]\nreload_on_change = true\n"
    coming = Rollout(settings(tmp_path, watched), lambda: settings(tmp_path, watched))
    coming.ask()
    coming.step([])
    assert not coming.pending
    assert coming.due > time.monotonic()  # meanwhile it does not look again and again
    coming.step([pairs[0].worker])
    assert coming.pending
    assert [message.word for message in pairs[0].heard()] == [Word.RELOAD]


def test_nor_for_ever_for_one_that_is_silent(
    under_way: Rollout, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = under_way.due
    under_way.prepared(pairs[0].worker, 1)
    monkeypatch.setattr("herdgate.rollout.time.monotonic", lambda: late)
    under_way.step(pair.worker for pair in pairs)
    assert all(pair.heard() == [(Word.DROP, 1, b"")] for pair in pairs)
    assert not under_way.pending


def test_mistakes_reach_no_worker(pairs: list[Pair], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    coming = Rollout(settings(tmp_path), lambda: settings(tmp_path, "[servr]"))
    coming.ask()
    with caplog.at_level(logging.ERROR):
        coming.step(pair.worker for pair in pairs)
    assert all(pair.heard() == [] for pair in pairs)
    assert "servr" in caplog.text
    caplog.clear()
    coming.step(pair.worker for pair in pairs)
    assert not caplog.records


def test_what_has_no_room_in_the_socket_is_sent_when_there_is(pairs: list[Pair], tmp_path: Path) -> None:
    many = "".join(f'[[backend]]\nname = "gpu{number}"\nbase_url = "http://gpu{number}"\n' for number in range(1000))
    present, other = settings(tmp_path), settings(tmp_path, many)
    coming = Rollout(present, lambda: other)
    coming.ask()
    coming.step(pair.worker for pair in pairs)
    for pair in pairs:
        assert pair.worker.unsent
        pair.worker.tell(Word.STOP)
        reload, stop = pair.heard_in_time()
        assert pickle.loads(reload.body) == other  # noqa: S301 - made here
        assert stop == (Word.STOP, 0, b"")


def test_one_that_has_ended_is_told_nothing(pairs: list[Pair]) -> None:
    pairs[0].close()
    pairs[0].worker.tell(Word.STOP)
    assert not pairs[0].worker.unsent
