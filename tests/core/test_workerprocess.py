"""What a worker makes of its supervisor's orders: a real gateway that serves, and the other end of its link."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel

from herdgate import CannotStart, hookimpl
from herdgate.config import Settings
from herdgate.link import Inbox, Message, Word
from herdgate.listening import listen
from herdgate.process import ServingProcess
from herdgate.testing.gateway import READY_WITHIN, settings_for, until
from herdgate.workerprocess import _Orders

NOTES: list[str] = []
HELD: dict[str, asyncio.Event] = {}
"""What keeps a plugin from coming or going."""


class Noted:
    """A plugin that notes when it comes and goes, and takes its time for either."""

    herdgate_api = 1

    class Settings(BaseModel):
        name: str

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        NOTES.append(f"{self.name} comes")
        try:
            await _held(f"{self.name} comes")
            yield
        finally:
            NOTES.append(f"{self.name} goes")
            await _held(f"{self.name} goes")
            NOTES.append(f"{self.name} is gone")


async def _held(what: str) -> None:
    if what in HELD:
        await HELD[what].wait()


class Supervised:
    """A worker, seen from its supervisor."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._inbox = Inbox()
        self._heard: list[Message] = []
        self.ours, theirs = socket.socketpair()
        for end in (self.ours, theirs):
            end.setblocking(False)
        self.process = ServingProcess(self.settings(), listen("127.0.0.1", 0))
        self.orders = _Orders(self.process, theirs)
        self._theirs = theirs
        asyncio.get_running_loop().add_reader(theirs, self.orders.receive)
        self._life = asyncio.create_task(self.process.run())

    def settings(self, name: str = "") -> Settings:
        uses = ["configured_backends", "ollama_discovery", "anonymous"]
        toml = "".join(f'[[plugin]]\nuse = "{use}"\n' for use in uses)
        noted = f'[[plugin]]\nuse = "{__name__}:Noted"\nname = "{name}"\n' if name else ""
        (self._place / "plugins.toml").write_text(f"[server]\nstop_delay = 0\ndrain = 1\n{toml}{noted}")
        return settings_for([{"name": "none", "base_url": "http://127.0.0.1:9"}], {}, self._place)

    def tell(self, *orders: Message) -> None:
        self.ours.send(b"".join(map(bytes, orders)))

    def reload(self, number: int, name: str) -> Message:
        return Message(Word.RELOAD, number, pickle.dumps(self.settings(name)))

    async def hears(self) -> tuple[Word, int]:
        """The next answer."""
        while not self._heard:
            async with asyncio.timeout(READY_WITHIN):
                data = await asyncio.get_running_loop().sock_recv(self.ours, 65536)
            self._heard += self._inbox.feed(data)
        answer = self._heard.pop(0)
        return answer.word, answer.reload

    async def serves(self, name: str) -> bool:
        """Whether this is the configuration that counts."""
        gateway = await self.process.gateway()
        return [entry.settings["name"] for entry in gateway.settings.plugins if entry.settings] == [name]

    async def end(self) -> None:
        if self.ours.fileno() < 0:
            return
        self.process.stop()
        await asyncio.wait([self._life])
        await self.orders.close()
        asyncio.get_running_loop().remove_reader(self._theirs)
        self.ours.close()
        self._theirs.close()


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Supervised]:
    NOTES.clear()
    HELD.clear()
    worker = Supervised(tmp_path)
    await worker.process.gateway()
    yield worker
    for event in HELD.values():
        event.set()
    await worker.end()


async def noted(what: str) -> None:
    await until(lambda: what in NOTES)


async def test_it_serves_with_what_it_prepared(worker: Supervised) -> None:
    worker.tell(worker.reload(1, "first"))
    assert await worker.hears() == (Word.PREPARED, 1)
    assert not await worker.serves("first")
    worker.tell(Message(Word.TAKE_OVER, 1))
    await until(lambda: worker.serves("first"))


async def test_a_drop_means_what_was_coming_when_it_came(worker: Supervised) -> None:
    HELD["first comes"] = asyncio.Event()
    worker.tell(worker.reload(1, "first"))
    await noted("first comes")
    worker.tell(Message(Word.DROP, 1), worker.reload(2, "second"))
    assert await worker.hears() == (Word.PREPARED, 2)
    worker.tell(Message(Word.TAKE_OVER, 2))
    await until(lambda: worker.serves("second"))
    assert NOTES == ["first comes", "first goes", "first is gone", "second comes"]


@pytest.mark.parametrize("prepared", [True, False])
async def test_what_is_dropped_ends_before_the_next_one_begins(worker: Supervised, prepared: bool) -> None:
    HELD["first goes"] = asyncio.Event()
    if not prepared:
        HELD["first comes"] = asyncio.Event()
    worker.tell(worker.reload(1, "first"))
    await noted("first comes")
    if prepared:
        assert await worker.hears() == (Word.PREPARED, 1)
    worker.tell(Message(Word.DROP, 1))
    await noted("first goes")
    worker.tell(worker.reload(2, "second"), Message(Word.DROP, 2), worker.reload(3, "third"))
    with pytest.raises(TimeoutError):
        await until(lambda: NOTES[-1] != "first goes", within=0.5)
    HELD["first goes"].set()
    assert await worker.hears() == (Word.PREPARED, 3)
    worker.tell(Message(Word.TAKE_OVER, 3))
    await until(lambda: worker.serves("third"))
    assert NOTES == ["first comes", "first goes", "first is gone", "third comes"]


async def test_orders_about_another_one_are_none(worker: Supervised) -> None:
    worker.tell(worker.reload(2, "second"))
    assert await worker.hears() == (Word.PREPARED, 2)
    worker.tell(Message(Word.TAKE_OVER, 1), Message(Word.DROP, 2))
    await noted("second is gone")
    worker.tell(worker.reload(3, "third"))
    assert await worker.hears() == (Word.PREPARED, 3)
    assert not await worker.serves("second")
    worker.tell(Message(Word.DROP, 2), Message(Word.TAKE_OVER, 3))
    await until(lambda: worker.serves("third"))


async def test_nothing_takes_over_from_what_is_being_closed(worker: Supervised) -> None:
    worker.tell(worker.reload(1, "first"))
    assert await worker.hears() == (Word.PREPARED, 1)
    worker.tell(Message(Word.TAKE_OVER, 1))
    await until(lambda: worker.serves("first"))
    worker.tell(worker.reload(2, "second"))
    assert await worker.hears() == (Word.PREPARED, 2)
    HELD["first goes"] = asyncio.Event()
    worker.process.stop()
    await noted("first goes")
    worker.tell(Message(Word.TAKE_OVER, 2))
    await until(lambda: worker.orders._coming is None)
    HELD["first goes"].set()
    await worker.end()
    assert "second is gone" in NOTES


async def test_what_is_prepared_too_late_is_closed(worker: Supervised) -> None:
    gateway = await worker.process.gateway()
    HELD["late comes"] = asyncio.Event()
    preparing = asyncio.create_task(gateway.prepare(worker.settings("late")))
    await noted("late comes")
    worker.process.stop()
    await until(lambda: gateway._ending)
    HELD["late comes"].set()
    with pytest.raises(CannotStart, match="the gateway is stopping"):
        await preparing
    assert NOTES[-1] == "late is gone"
