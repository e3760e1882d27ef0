"""What is measured of one system: each phase makes one load and returns what the load saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load import Load, LoadError, Replies
from bench.processes import Program
from bench.systems import System

INTERVAL = 0.02  # seconds between two chunks of a paced stream
LARGE = 10_000_000  # bytes
TOO_LATE = 10.0  # seconds for what should take 2; a system that needs longer is cut off


@dataclass(frozen=True)
class Extent:
    """How long the phases take; the shorter, the more a figure wanders."""

    seconds: float
    chunks: int
    bodies: int
    trouble_seconds: float


FULL = Extent(seconds=3.0, chunks=150, bodies=15, trouble_seconds=4.0)
QUICK = Extent(seconds=1.0, chunks=100, bodies=5, trouble_seconds=2.0)


@dataclass(frozen=True)
class Subject:
    """A running system with the load for it. `running` is None for the backend itself, asked directly."""

    system: System
    running: Program | None
    beside: Sequence[Program]
    """What stands between it and the backend and is not measured."""
    load: Load
    extent: Extent


Figures = dict[str, float]


def _small(connections: int) -> Callable[[Subject], Figures]:
    def phase(subject: Subject) -> Figures:
        body = subject.load.body("bench-0-0", stream=False)
        warm = subject.load.run(subject.system, body, c=connections, n=2 * connections, t=TOO_LATE)
        seen = subject.load.wrk(subject.system, body, connections, subject.extent.seconds)
        return {
            "requests": seen["requests"] + warm.complete,  # CPU time is measured over both
            "rps": seen["requests"] / seen["seconds"],
            "p50_us": seen["p50_us"],
            "p99_ms": seen["p99_us"] / 1e3,
        }

    return phase


def _streams(replies: Replies) -> Figures:
    if not replies.chunks:
        counts = f"{replies.failed} errors, {replies.broken} broken and {replies.unfinished} unfinished replies"
        raise LoadError(f"no chunk arrived: {counts}")
    return {
        "chunks": replies.chunks,
        "chunks_s": replies.chunks / replies.seconds,
        "ttft_p50_ms": replies.ttft_p50_us / 1e3,
        "ttft_p99_ms": replies.ttft_p99_us / 1e3,
        "lag_p50_ms": replies.lag_p50_us / 1e3,
        "lag_p99_ms": replies.lag_p99_us / 1e3,
        "complete": replies.share,
    }


def _paced(connections: int) -> Callable[[Subject], Figures]:
    """As many streams, started over two thirds of their length: in the last third all are open, and memory is read."""

    def phase(subject: Subject) -> Figures:
        chunks, length = subject.extent.chunks, subject.extent.chunks * INTERVAL
        before = subject.running.memory_mb() if subject.running else 0.0
        body = subject.load.body(f"bench-{chunks}-20", stream=True)
        rate = connections / (length * 2 / 3)
        options = {"c": connections, "n": connections, "r": rate, "x": chunks, "t": length + TOO_LATE}
        wait = subject.load.start(subject.system, body, **options)
        time.sleep(length * 5 / 6)
        open_mb = subject.running.memory_mb() if subject.running else 0.0
        figures = _streams(wait())
        if subject.running:
            figures |= {"memory_mb": open_mb, "kb_per_stream": (open_mb - before) * 1024 / connections}
        return figures

    return phase


def _burst(subject: Subject) -> Figures:
    body = subject.load.body("bench-50-20", stream=True)
    return _streams(subject.load.run(subject.system, body, c=1000, n=1000, x=50, t=TOO_LATE))


def _unpaced(subject: Subject) -> Figures:
    body = subject.load.body("bench-200-0", stream=True)
    return _streams(subject.load.run(subject.system, body, c=64, d=subject.extent.seconds, x=200, t=TOO_LATE))


def _large_body(subject: Subject) -> Figures:
    body = subject.load.body("bench-0-0", stream=False, padding=LARGE)
    replies = subject.load.run(subject.system, body, c=1, n=subject.extent.bodies, t=2 * TOO_LATE)
    if replies.share < 1:
        raise LoadError(f"{replies.complete} of {replies.requests} were answered")
    return {"requests": replies.requests, "p50_ms": replies.total_p50_us / 1e3}


PHASES: dict[str, Callable[[Subject], Figures]] = {
    "c1": _small(1),
    "c32": _small(32),
    "c128": _small(128),
    "unpaced": _unpaced,
    "p200": _paced(200),
    "p1000": _paced(1000),
    "burst": _burst,
    "body": _large_body,
}
