"""Whatever bytes come in, the gateway answers or closes in time: never a 500, a hang or a traceback."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.stories.conftest import MODEL
from tests.stories.doors import BODY, chunked
from tests.stories.framing.case import HOST
from tests.stories.framing.corpus import CASES
from tests.stories.raw import connected

from herdgate.front.door import Patience
from herdgate.surface import ENDPOINTS
from herdgate.testing.gateway import RunningGateway, running_gateway, until
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMES = int(os.environ.get("FUZZ", "1"))
"""How much longer than in every test run: see `make fuzz`."""
AT_ONCE = 16
"""Callers of one example. Most wait for the gateway to lose its patience with them, so they may as well do it together.
"""
WITHIN = 5.0
SHORT = Patience(idle=0.05, head=0.05, linger=0.02)
ASKED = [f"{method} {endpoint.path}".encode() for endpoint in ENDPOINTS for method in sorted(endpoint.methods)]

# requests put together from parts, right and wrong ones

_noise = st.binary(max_size=8)


def mostly(*good: bytes, bad: st.SearchStrategy[bytes] = _noise) -> st.SearchStrategy[bytes]:
    """One of these, but now and then something else."""
    return st.integers(0, 15).flatmap(lambda number: bad if number == 7 else st.sampled_from(good))


_words = mostly(b"chunked", b"close", b"keep-alive", b"0", b"5", b"-1", b"100-continue", b"a,b", b"")
_framing = st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Host", b"Upgrade"])
_names = mostly(b"X", b"Accept", b"Connection", b"Expect", b"Authorization", bad=_framing | _noise)
_fields = st.tuples(_names, mostly(b": ", b":", bad=st.sampled_from([b" : ", b""])), _words).map(b"".join)
_ends = mostly(b"\r\n", bad=st.sampled_from([b"\n", b"\r", b"\r\n ", b""]))
_bodies = mostly(BODY, b"{}", b"", b'{"model":"%b"}' % MODEL.encode())
_odd = st.builds(
    lambda *words: b" ".join(words),
    mostly(b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"TRACE", b"CONNECT", b"get"),
    mostly(b"/", b"*", b"//", b"/%2e", b"/api/chat/", b"/v1/models/%2F", b"http://localhost/", b"localhost:80"),
)
_lines = st.builds(
    lambda asked, version: asked + b" " + version,
    mostly(*ASKED, *[b"POST /api/chat", b"GET /api/tags"] * 10) | _odd,
    mostly(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", bad=st.sampled_from([b"HTTP/2.0", b"HTTP/1.1 ", b""])),
)


@st.composite
def put_together(draw: st.DrawFn) -> bytes:
    """A request line, some headers, a body: each of them mostly as it should be."""
    body = draw(_bodies)
    framing = draw(mostly(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"))
    if framing.startswith(b"T"):
        body = draw(mostly(chunked(body), chunked(*(body[at : at + 7] for at in range(0, len(body), 7)))))
    fields = [draw(mostly(HOST[:-2])), *([framing] if body else []), *draw(st.lists(_fields, max_size=2))]
    line: bytes = draw(_lines)
    return line + b"".join(draw(_ends) + field for field in fields) + b"\r\n" + draw(_ends) + body


# and those of the corpus, broken further

_known = st.sampled_from([case.sent for case in CASES.values() if len(case.sent) < 2000])
_pieces = mostly(b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"0", b"\xff", HOST, b"\r\n\r\n")


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A case of the corpus in which a few bytes were put in, left out or replaced."""
    sent = draw(_known)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(sent)))
        sent = sent[:at] + draw(_pieces) + sent[at + draw(st.sampled_from([0, 0, 1, 2, 20])) :]
    return sent


_sent = st.tuples(st.lists(put_together(), min_size=1, max_size=3).map(b"".join), st.just(b"") | broken()).map(b"".join)
_callers = st.tuples(_sent, st.lists(st.integers(0, 400), max_size=3))
"""What a caller sends, and where it pauses."""


class Heard(logging.Handler):
    """What is logged from a warning on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.module != "watchdog":  # which sees hypothesis think, see below
            self.said.append(self.format(record))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[SimulatedOllama]:
    async with SimulatedOllama(models=[MODEL]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(backend: SimulatedOllama) -> AsyncIterator[RunningGateway]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("herdgate.front.door.Patience", lambda: SHORT)
        patch.setattr("herdgate.front.door.LOOK_EVERY", 0.01)
        # Hypothesis thinks in the gateway's loop, which then stands still: that is no fault of the state's.
        patch.setattr("herdgate.state.sqlite.CALL_LIMIT", 60.0)
        async with running_gateway(backend, toml='[server]\nclient_timeout = "50ms"\n') as running:
            yield running


statuses: Counter[int] = Counter()
"""What came of all that was sent; 0 for connections that were closed without a word."""


@settings(
    max_examples=20 * TIMES,
    phases=[Phase.generate],  # making a failure smaller would take minutes
    deadline=None,
    database=None,
    derandomize=TIMES == 1,
    suppress_health_check=list(HealthCheck),
)
@given(callers=st.lists(_callers, min_size=AT_ONCE, max_size=AT_ONCE))
async def test_whatever_bytes_come_in_the_gateway_keeps_its_countenance(
    gateway: RunningGateway, backend: SimulatedOllama, callers: list[tuple[bytes, list[int]]]
) -> None:
    heard = Heard()
    logging.getLogger().addHandler(heard)
    try:
        for said in await asyncio.gather(*(dialogue(gateway, sent, cuts) for sent, cuts in callers)):
            statuses.update(statuses_in(said) if said else [0])
    finally:
        logging.getLogger().removeHandler(heard)
    assert heard.said == []
    assert max(statuses) < 500
    assert backend.malformed == []


async def test_and_goes_on_as_if_nothing_had_been(gateway: RunningGateway, backend: SimulatedOllama) -> None:
    """Runs after the one above, and says what that one saw."""
    await until(lambda: not gateway.gateway.unsent_bytes and not backend.concurrent)
    assert (await gateway.client.get("/api/version")).status_code == 200
    print(f"connections: {20 * TIMES * AT_ONCE}, replies by status: {dict(sorted(statuses.items()))}")  # noqa: T201
    assert statuses[200] > 10 * TIMES
    assert statuses[400] > 10 * TIMES


async def dialogue(gateway: RunningGateway, sent: bytes, cuts: list[int]) -> bytes:
    """Everything the gateway says until it closes the connection, which it must do soon. Sends in pieces, cut there."""
    said = bytearray()
    async with asyncio.timeout(WITHIN), connected(gateway) as connection:
        places = [0, *sorted(cuts), len(sent)]
        try:
            for start, end in pairwise(places):
                connection.send(sent[start:end])
                await connection.writer.drain()
                await asyncio.sleep(0)
            while data := await connection.some():
                said += data
        except ConnectionError:  # it closed with something unread before it
            return b""
    return bytes(said)


def statuses_in(said: bytes) -> list[int]:
    """The statuses of these replies. Fails if there is anything else than whole replies."""
    found = []
    while said:
        head, end, said = said.partition(b"\r\n\r\n")
        assert end, head
        assert head.startswith(b"HTTP/1.1 "), head
        found.append(status := int(head[9:12]))
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        if status in {100, 204, 304} or not said or said.startswith(b"HTTP/1.1 "):  # the latter two: to HEAD
            continue
        if length:
            assert len(said) >= int(length[1])
            said = said[int(length[1]) :]
        elif b"\r\ntransfer-encoding: chunked" in head:
            said = after_chunks(said)
        else:
            said = b""  # to HTTP/1.0: everything up to the end
    return found


def after_chunks(said: bytes) -> bytes:
    while True:
        size, end, said = said.partition(b"\r\n")
        assert end, size
        rest = int(size, 16) + 2
        assert said[rest - 2 : rest] == b"\r\n"
        said = said[rest:]
        if rest == 2:
            return said
