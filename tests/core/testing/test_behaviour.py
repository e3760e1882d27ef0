"""`assert_plugin_is_well_behaved` passes what is sound, and says of the rest what is wrong."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

import pytest
from pydantic import BaseModel

from herdgate import Action, Identity, Reply, hookimpl
from herdgate.testing import assert_plugin_is_well_behaved
from herdgate.testing.plugin_gateway import built_in

log = logging.getLogger("somebody.elses")


class Base:
    herdgate_api = 1


class Reverses(Base):
    """Everything an author may do, done right."""

    class Settings(BaseModel):
        reverse: bool

    def __init__(self, settings: Settings) -> None:
        self._reverse = settings.reverse

    @hookimpl
    async def select_candidates(self, candidates: Any) -> Any:
        await asyncio.sleep(0)
        return candidates[::-1] if self._reverse else None


def test_a_sound_plugin_passes() -> None:
    assert_plugin_is_well_behaved(Reverses, {"reverse": True})


async def test_it_can_be_asked_inside_a_loop_too() -> None:
    assert_plugin_is_well_behaved(Reverses, {"reverse": False})


BUILT_IN = {point.name: point for point in entry_points(group="herdgate.plugins") if point.name in built_in()}


@pytest.mark.parametrize("name", ["api_keys", "capacity", "opening_check", "priority_failover"])
def test_built_in_plugins_are_well_behaved(name: str) -> None:
    assert_plugin_is_well_behaved(BUILT_IN[name].load())


class Raises(Base):
    @hookimpl
    def judge_failure(self) -> Any:
        raise RuntimeError("boom")


class Presumes(Base):
    @hookimpl  # type: ignore[misc]
    def authorise(self, identity: Any, action: Any = Action.SEE) -> Any:
        return None


class Widens(Base):
    @hookimpl
    def select_candidates(self, candidates: Any) -> Any:
        return candidates if len(candidates) == 2 else [*candidates, *candidates]


class Shuffles(Base):
    @hookimpl
    def select_candidates(self, candidates: Any) -> Any:
        candidates.reverse()


class Stumbles(Base):
    @hookimpl
    def select_candidates(self, candidates: Any) -> Any:
        return [candidates[0]]


class Promotes(Base):
    @hookimpl
    def admit(self, exchange: Any) -> None:
        exchange.identity = Identity("root", admin=True)


class Twice(Base):
    """Behaves until it is asked the same again."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def again(self, argument: object) -> bool:
        known = any(argument is each for each in self.seen)
        self.seen.append(argument)
        return known


class Blocks(Twice):
    @hookimpl
    def exchange_ended(self, summary: Any) -> None:
        if self.again(summary):
            time.sleep(0.4)


class Dawdles(Twice):
    @hookimpl
    async def exchange_ended(self, summary: Any) -> None:
        if self.again(summary):
            await asyncio.sleep(1.1)


class Notes(Twice):
    @hookimpl
    def around_attempt(self, attempt: Any) -> None:
        if self.again(attempt):
            attempt.status = 200


class Swallows(Base):
    @hookimpl
    async def authenticate(self) -> None:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return


class Stubborn(Base):
    @hookimpl
    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            await asyncio.sleep(0.8)
            raise
        yield


class Forgets(Base):
    @hookimpl
    def exchange_ended(self) -> None:
        self.task = asyncio.ensure_future(self.never())

    async def never(self) -> None:
        await asyncio.Event().wait()


class Lines:
    """Takes each piece for a line."""

    def feed(self, data: bytes) -> bytes:
        return data.strip() + b"\n"

    def finish(self) -> bytes:
        return b""


class Cuts(Base):
    @hookimpl
    def filter_stream(self) -> Any:
        return Lines()


class Logs(Base):
    @hookimpl
    def authenticate(self, credentials: Any) -> None:
        if credentials.key:
            log.debug("key %s", credentials.key.get_secret_value())


class Prints(Base):
    @hookimpl
    def authenticate(self, credentials: Any) -> None:
        print(credentials.authorization and credentials.authorization.get_secret_value())  # noqa: T201


class Keeps(Base):
    @hookimpl
    def authenticate(self, credentials: Any) -> None:
        if credentials.key:
            self.last = {"key": credentials.key.get_secret_value()}


class Passes(Base):
    @hookimpl
    def authenticate(self, exchange: Any, credentials: Any) -> None:
        if credentials.key:
            exchange.notes["key"] = credentials.key

    @hookimpl
    def prepare_upstream(self, exchange: Any, request: Any) -> Any:
        key = exchange.notes.get("key")
        return request.with_header("x-key", key.get_secret_value()) if key else None


class Tells(Base):
    @hookimpl
    def authenticate(self, credentials: Any) -> Any:
        return Identity(credentials.key.get_secret_value(), models=("*",)) if credentials.key else None


class Depends(Twice):
    @hookimpl
    def mask_denial(self, exchange: Any) -> Any:
        return "no" if self.again(exchange) else Reply(403, {}, b"")


class NeedsSettings(Base):
    class Settings(BaseModel):
        limit: int

    @hookimpl
    def admit(self) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (Raises, "plugin raises failed in judge_failure: RuntimeError: boom"),
        (Presumes, "no gateway starts with it: .*authorise gives action a default"),
        (Widens, "select_candidates: answers to 1 candidates with what is no selection of them"),
        (Shuffles, "plugin shuffles failed in select_candidates: AttributeError"),
        (Stumbles, "select_candidates: raises IndexError when it is asked"),
        (Promotes, "plugin promotes failed in admit: AttributeError: plugins cannot change the identity"),
        (Notes, "around_attempt: changes attempt, which is not its own"),
        (Blocks, "exchange_ended: blocks the event loop for 0.[456] s"),
        (Dawdles, "exchange_ended: needs 1.. s for an answer"),
        (Swallows, "authenticate: swallows CancelledError"),
        (Stubborn, "admit: goes on although it was cancelled"),
        (Forgets, "plugin forgets left the task .* behind"),
        (Cuts, "filter_stream: its filter depends on where the stream was cut"),
        (Logs, r"it writes a caller's key to the log \(somebody.elses\)"),
        (Prints, "it prints what a caller sends as a key"),
        (Keeps, r"it keeps a caller's key in clear \(last\)"),
        (Passes, "it sends a caller's key to a backend"),
        (Tells, "authenticate: its answer holds a caller's key in clear"),
        (Depends, "mask_denial: raises TypeError when it is asked the same again: it returned str"),
        (NeedsSettings, "no gateway starts with it: .*limit"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_is_wrong_is_said(plugin: type, said: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)^{plugin.__name__} is not well behaved:.*\n- {said}"):
        assert_plugin_is_well_behaved(plugin)
