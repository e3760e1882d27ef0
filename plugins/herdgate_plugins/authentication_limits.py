"""No address tries more keys per minute than it may."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field

from herdgate import App, Exchange, Refusal, Summary, hookimpl

WINDOW = 60.0
REMEMBERED = 10_000
"""Addresses whose failures are kept. When there are more, the one that failed longest ago is forgotten."""
UNAUTHORIZED = 401
_SITE = 64
"""One customer of an IPv6 network has that many bits of it in common, and all the rest to choose from."""


class AuthenticationLimits:
    """Refuses an address with 429, before its key is looked at, once it was told 401 so often within a minute.

    So the refusal says nothing of the key, and the right one does not help either. What is refused here does not count:
    the address may try again as soon as its oldest failure is a minute old. Counts in each process of the gateway by
    itself. It belongs before the plugins that know callers.
    """

    herdgate_api = 1

    class Settings(BaseModel):
        """`failures_per_minute`: 401 replies that an address may cause within a minute."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        failures_per_minute: int = Field(default=60, ge=1, le=10_000)

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = settings.failures_per_minute
        self._clock = clock
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    @hookimpl
    @contextmanager
    def lifespan(self, app: App) -> Iterator[None]:
        """A reload gives nobody new attempts."""
        self._failed = app.memory.setdefault("authentication_limits", self._failed)
        yield

    @hookimpl
    def authenticate(self, exchange: Exchange) -> Refusal | None:
        """Refuse who has failed too often; say nothing of anybody else."""
        failed = self._failed.get(_network(exchange.client)) if self._failed else None
        if failed is None or len(failed) < self._limit:
            return None
        wait = WINDOW - (self._clock() - failed[-self._limit])
        return Refusal("too many failed attempts, please try again later", retry_after=wait) if wait > 0 else None

    @hookimpl
    def exchange_ended(self, summary: Summary) -> None:
        """Count a failure."""
        if summary.status != UNAUTHORIZED:
            return
        network = _network(summary.exchange.client)
        failed = self._failed.get(network)
        if failed is None or failed.maxlen != self._limit:
            failed = self._failed[network] = deque(failed or (), maxlen=self._limit)
        failed.append(self._clock())
        self._failed.move_to_end(network)
        if len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)


def _network(address: str) -> str:
    """The address itself, or the IPv6 network of which its user has all addresses."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, _SITE), strict=False))
