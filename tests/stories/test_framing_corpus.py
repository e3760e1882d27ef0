"""The framing corpus against the gateway alone: what it must refuse it refuses, and no request appears that was not
sent.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from tests.stories.conftest import CHAT, MODEL, OPENAI_CHAT
from tests.stories.doors import POLLS, message_of
from tests.stories.framing.case import SECOND, SECRET, Case
from tests.stories.framing.corpus import CASES
from tests.stories.raw import Connection, Raw, connected

from herdgate.front.door import Patience
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import Received, SimulatedOllama

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOLLOWING = "/api/generate"
"""Where the request that follows each case goes: see SECOND."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(models=[MODEL]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(backend: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("herdgate.front.door.Patience", lambda: Patience(linger=0.05))
        async with running_gateway(backend) as running:
            yield running


async def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 300


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
async def test_every_case_ends_as_it_must(
    gateway: RunningGateway,
    backend: SimulatedOllama,
    case: Case,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = [await ending(gateway, backend, case, path) for path in (CHAT, OPENAI_CHAT) if path == CHAT or path_in(case)]
    for end in ends:
        end.must_be_safe()
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    for end in ends:
        end.must_be_as_expected()


def path_in(case: Case) -> bool:
    return CHAT.encode() in case.sent


@dataclass(frozen=True)
class Ending:
    """What became of a case: all replies until the connection was closed, and what reached the backend."""

    case: Case
    path: str
    replies: list[Raw]
    reached: list[Received]

    @property
    def own(self) -> list[Raw]:
        """The replies to the case itself."""
        return self.replies[: len(self.case.expect.replies)]

    @property
    def then(self) -> list[Raw]:
        """The replies to what followed it."""
        return self.replies[len(self.case.expect.replies) :]

    def must_be_safe(self) -> None:
        """Whatever the gateway makes of the case, no request may appear in it, and no secret of it anywhere."""
        expect = self.case.expect
        assert len(self.then) <= bool(expect.then), self
        paths = [asked.path for asked in self.reached]
        if self.then and self.then[0].status == 200:
            assert paths.pop() == FOLLOWING, self
        assert set(paths) <= {self.path}, self
        assert len(paths) <= len(expect.replies), self
        assert not any(SECRET.decode() in str(asked.headers) for asked in self.reached), self
        assert not any(SECRET in reply.head + reply.body for reply in self.replies), self

    def must_be_as_expected(self) -> None:
        expect = self.case.expect
        assert len(self.own) == len(expect.replies) or (expect.silent and not self.own), self
        assert all(reply.status in allowed for reply, allowed in zip(self.own, expect.replies, strict=False)), self
        assert all(reply.status in expect.then for reply in self.then), self
        assert self.then or not expect.must, self
        assert len([asked for asked in self.reached if asked.path == self.path]) in expect.reach, self
        for reply in self.replies:
            self.must_be_readable(reply)
        if self.replies and not self.then and not self.case.leaves:
            assert self.replies[-1].header("connection") == "close", self

    def must_be_readable(self, reply: Raw) -> None:
        """An error is JSON, in the shape of a family: which one can be told only where a path could be read."""
        if reply.status >= 400 and reply.body:
            assert message_of(reply, "/" if isinstance(json.loads(reply.body)["error"], str) else OPENAI_CHAT), self


async def ending(gateway: RunningGateway, backend: SimulatedOllama, case: Case, path: str) -> Ending:
    before = len(backend.requests)
    async with connected(gateway) as connection:
        connection.send(case.sent.replace(CHAT.encode(), path.encode()))
        if case.leaves:
            connection.writer.write_eof()
        else:
            connection.send(SECOND)
        replies = await all_replies(connection, bodiless=len(case.expect.replies) if case.bodiless else 0)
    assert backend.malformed == []
    reached = [asked for asked in backend.requests[before:] if asked.path not in POLLS]
    return Ending(case, path, replies, reached)


async def all_replies(connection: Connection, bodiless: int) -> list[Raw]:
    """All final replies until the connection is closed; the first `bodiless` of them have no body."""
    replies: list[Raw] = []
    while (reply := await connection.next(bodiless=len(replies) < bodiless)) is not None:
        if reply.status != 100:
            replies.append(reply)
    return replies
