"""`GET /metrics`: what the plugins and the core have measured, in all processes of this gateway.

Each process counts by itself. Where there are several, a scrape reaches any one of them: each leaves its numbers in
the state every few seconds, and the one that is asked leaves its own at once, so that no counter is ever seen to fall.
A process that ends takes its numbers away; those of one that was killed are forgotten by the others.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence

import herdgate
from herdgate.access import Action
from herdgate.errors import Reply
from herdgate.faults import PluginFault
from herdgate.metrics import CONTENT_TYPE, Measured, Metric, render
from herdgate.points import HookPoints
from herdgate.routes import Call, Route
from herdgate.state import State, StateUnavailable

log = logging.getLogger("herdgate.state")

SPACE = "metrics"
POST_EVERY = 5.0
"""Seconds between two looks of the other processes at what one has counted, at most."""
GONE_AFTER = 30.0
"""Seconds after which a process that has posted nothing has ended."""
LONG_GONE_AFTER = 3600.0
"""The same for processes of other gateways: the clocks of their machines may differ."""
FORGET_EVERY = 12
"""Posts between two looks for processes that have ended."""


class MetricsPage:
    """The page of one configuration in one process. `workers` is how many processes the gateway has."""

    def __init__(self, points: HookPoints, state: State, workers: int) -> None:
        self._points = points
        self._state = state
        self.alone = workers == 1
        self._gateway = f"{socket.gethostname()} {os.getppid()}"
        self._worker = str(os.getpid())

    def route(self) -> Route:
        """Where it is served, and to whom."""
        return Route("/metrics", self.answer, Action.OBSERVE)

    async def answer(self, _: Call) -> Reply:
        """The page as it is now."""
        own = self.collected()
        measured: Measured = {"": own} if self.alone else await self._shared(own)
        return Reply(200, {"content-type": CONTENT_TYPE}, render(measured))

    def collected(self) -> list[Metric]:
        """What this process has measured. A plugin that fails is left out, and so is a metric that another one has."""
        ledger = self._points.ledger
        found = {metric.name: metric for metric in self._own()}
        for plugin, metric in self._points.collect_metrics():
            if metric.name in found:
                ledger.record(PluginFault(plugin, "collect_metrics", f"there already is a metric {metric.name}"))
            else:
                found[metric.name] = metric
        return list(found.values())

    def _own(self) -> list[Metric]:
        faults = dict(self._points.ledger.faults)
        version = {(herdgate.__version__,): 1}
        return [
            Metric("herdgate_build_info", "The version that runs.", "gauge", version, ("version",)),
            Metric("herdgate_plugin_faults_total", "Faults of plugins.", "counter", faults, ("plugin", "hook")),
        ]

    # several processes

    async def post(self) -> None:
        """Leave the numbers of this process in the state. Raises StateUnavailable."""
        await self._post(self.collected())

    async def withdraw(self) -> None:
        """Take them away: the process ends."""
        await self._forget(self._key)

    async def posted(self) -> Measured:
        """What the processes of this gateway have left; what other ones left that have ended is forgotten.

        Raises StateUnavailable.
        """
        measured: dict[str, Sequence[Metric]] = {}
        for key, value in sorted((await self._state.items(SPACE)).items()):
            gateway, _, worker = key.rpartition(" ")
            at, metrics = _read(value)
            ours = gateway == self._gateway
            if at < time.time() - (GONE_AFTER if ours else LONG_GONE_AFTER):
                await self._forget(key)
            elif ours:
                measured[worker] = metrics
        return measured

    async def _shared(self, own: Sequence[Metric]) -> Measured:
        try:
            await self._post(own)
            return {**await self.posted(), self._worker: own}
        except StateUnavailable:
            return {self._worker: own}

    @property
    def _key(self) -> str:
        return f"{self._gateway} {self._worker}"

    async def _post(self, own: Sequence[Metric]) -> None:
        rows = [[each.name, each.about, each.kind, list(each.values.items()), each.labels] for each in own]
        value = json.dumps([time.time(), rows]).encode()
        await self._state.put(SPACE, self._key, value)

    async def _forget(self, key: str) -> None:
        try:
            await self._state.delete(SPACE, key)
        except StateUnavailable as error:
            log.debug("the metrics of a process that has ended could not be removed: %s", error)


async def share(page: Callable[[], MetricsPage]) -> None:
    """Leave the numbers of this process in the state, again and again, as the `page` that serves now has them, until
    cancelled; for gateways of several processes.
    """
    try:
        for number in itertools.count():
            try:
                await page().post()
                if number % FORGET_EVERY == 0:
                    await page().posted()
            except StateUnavailable as error:
                log.debug("the metrics of this process could not be posted: %s", error)
            await asyncio.sleep(POST_EVERY)
    finally:
        await page().withdraw()  # every call of the state has a deadline


def _read(value: bytes) -> tuple[float, list[Metric]]:
    """When something was posted, and what; long ago and nothing if it cannot be read."""
    try:
        at, rows = json.loads(value)
        metrics = [
            Metric(name, about, kind, {tuple(key): number for key, number in values}, tuple(labels))
            for name, about, kind, values, labels in rows
        ]
        return float(at), metrics
    except (ValueError, TypeError):
        return 0.0, []
