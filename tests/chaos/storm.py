"""Backends that die, hang, misbehave and come back at random, and one that never does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tests.chaos.network import CALM, Link, Weather
from tests.chaos.ways import MODEL

from herdgate.testing import faults
from herdgate.testing.faults import Fault
from herdgate.testing.simulated import SimulatedOllama
from herdgate.testing.simulation.fault import Plan
from herdgate.testing.simulation.parts import Part

FLAKY = 4
STEADY = "steady"
PACE = 0.002
LONGEST = 0.8
"""Seconds that a trouble lasts at most."""


@dataclass(frozen=True)
class OfStreams(Fault):
    """A fault that only a stream can show. The same in a reply of known length would be a whole one, though wrong."""

    fault: Fault

    def _apply(self, plan: Plan) -> list[Part]:
        return self.fault._apply(plan) if plan.reply.streaming else list(plan.parts)


# Not among them: 400, 413, 415, 422, 499 and 500, which end the attempts of a request as the contract says.
_MISBEHAVIOUR: tuple[Callable[[random.Random], Fault], ...] = (
    lambda rng: faults.Status(rng.choice([401, 403, 404, 408, 429, 502, 503, 504])),
    lambda _: faults.EmptyOk(),
    lambda rng: faults.FirstEvent(rng.choice([b"{", b"\xff\x00", b'{"error":"boom"}\n', b"data: {\n\n"])),
    lambda rng: OfStreams(faults.ErrorEvent(rng.randint(0, 4))),
    lambda rng: OfStreams(faults.EndWithoutDone(rng.randint(1, 4), mid_event=rng.random() < 0.5)),
    lambda rng: faults.Cut(
        rng.choice(["nothing", "headers", 0, 1, 2, 5]),
        rng.choice(["close", "reset"]),
        rng.choice(["boundary", "event", "chunk"]),
    ),
    lambda rng: faults.Slice(rng.randint(1, 40), rng.getrandbits(16)),
    lambda rng: faults.Slow(rng.random() * 0.05),
    lambda rng: faults.Delay(rng.random() * 0.5),
    lambda rng: faults.Hang(rng.choice(["nothing", "headers", 1, 3])),
    lambda rng: faults.Garbage(rng.randint(1, 4096), rng.getrandbits(16)),
    lambda _: faults.HugeHeaders(),
    lambda rng: faults.WrongLength(rng.randint(1, 100)),
    lambda _: faults.EndlessLine(),
    lambda _: faults.RawReply(b"HTTP/1.1 100 Continue\r\n\r\n" * 200),
    lambda _: faults.RawReply(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"),
)


def _bad_weather(rng: random.Random) -> Weather:
    kinds = (
        Weather(delay=rng.random() * 0.1, jitter=rng.random() * 0.1),
        Weather(bandwidth=rng.choice([500.0, 5000.0]), slice=200),
        Weather(slice=rng.randint(1, 50)),
        Weather(black_hole=True),
        Weather(refuses=True),
        Weather(cuts=0.2, how="reset", slice=300),
        Weather(cuts=0.2, how="close", slice=300),
    )
    return rng.choice(kinds)


class Backend:
    """A simulated server behind a stretch of network."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.simulated = SimulatedOllama(name, models=[MODEL], pace=PACE)
        self.rng = rng
        self.link: Link
        self.met: Counter[str] = Counter()

    async def storm(self) -> None:
        """One trouble after the other, for ever."""
        while True:
            kind = self.rng.choices(["calm", "weather", "faults", "death", "freeze", "reset"], [3, 4, 4, 1, 1, 1])[0]
            self.met[kind] += 1
            lasts = 0.05 + self.rng.random() * LONGEST
            match kind:
                case "weather":
                    await self.link.change(_bad_weather(self.rng))
                case "faults":
                    chosen = [self.rng.choice(_MISBEHAVIOUR)(self.rng) for _ in range(self.rng.randint(1, 12))]
                    self.simulated.script("*", *chosen)
                case "death":
                    await self.simulated.stop()
                case "freeze":
                    await self.simulated.freeze()
                case "reset":
                    self.link.reset()
            await asyncio.sleep(lasts)
            await self.calm()

    async def calm(self) -> None:
        """All is well again."""
        await self.simulated.start()
        await self.simulated.thaw()
        await self.link.change(CALM)
        if self.rng.random() < 0.5:
            self.simulated.clear_script()

    async def away(self) -> None:
        """Gone, with every connection."""
        await self.link.close()
        await self.simulated.stop()


class Herd:
    """All backends, the steady one last, so that the others are preferred."""

    def __init__(self, rng: random.Random) -> None:
        self.flaky = [Backend(f"flaky-{number}", random.Random(rng.getrandbits(64))) for number in range(FLAKY)]  # noqa: S311
        self.steady = SimulatedOllama(STEADY, models=[MODEL], pace=PACE)

    @property
    def all(self) -> list[SimulatedOllama]:
        return [*(each.simulated for each in self.flaky), self.steady]

    def listed(self) -> list[dict[str, object]]:
        """As `OLLAMA_BACKENDS` wants it. One of the flaky ones takes three requests at a time."""
        patience = {"connect_timeout": 0.5, "first_event_timeout": 2, "idle_timeout": 2}
        entries = [
            {
                "name": each.simulated.name,
                "base_url": each.link.url,
                **patience,
                **({"max_concurrency": 3} if not n else {}),
            }
            for n, each in enumerate(self.flaky)
        ]
        return [*entries, {"name": STEADY, "base_url": self.steady.url}]

    @asynccontextmanager
    async def stormy(self) -> AsyncIterator[None]:
        """Trouble at every backend but one while inside; all are well afterwards."""
        storms = [asyncio.create_task(each.storm()) for each in self.flaky]
        try:
            yield
        finally:
            for storm in storms:
                storm.cancel()
            ended = await asyncio.gather(*storms, return_exceptions=True)
            for each in self.flaky:
                each.simulated.clear_script()
                await each.calm()
                each.simulated.clear_script()
            for error in ended:
                if not isinstance(error, asyncio.CancelledError):
                    raise error  # type: ignore[misc]

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """No backend is there while inside, so that nothing is connected to any."""
        for each in self.flaky:
            await each.away()
        await self.steady.stop()
        yield
        await self.steady.start()
        for each in self.flaky:
            await each.calm()

    def asked_after(self, committed: dict[str, str]) -> list[str]:
        """Requests that some backend got after a caller had begun to see another one's reply."""
        arrivals: dict[str, list[tuple[float, str]]] = {}
        for backend in self.all:
            for request in backend.requests:
                if request.method == "POST" and (say := _said(request.body)):
                    arrivals.setdefault(say, []).append((request.arrived, backend.name))
        return [
            f"{say}: {committed[say]} had begun to answer, but then {max(came)[1]} was asked"
            for say, came in arrivals.items()
            if say in committed and max(came)[1] != committed[say]
        ]

    def forget(self) -> None:
        for backend in self.all:
            backend.requests.clear()


def _said(body: bytes) -> str:
    begin = body.find(b"say-")
    return body[begin : body.find(b'"', begin)].decode() if begin >= 0 else ""


@asynccontextmanager
async def herd(rng: random.Random) -> AsyncIterator[Herd]:
    """Start all backends, in good weather."""
    made = Herd(rng)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(made.steady)
        for each in made.flaky:
            await stack.enter_async_context(each.simulated)
            each.link = Link(each.simulated.port, each.rng)
            await each.link.open()
            stack.push_async_callback(each.link.close)
        yield made
