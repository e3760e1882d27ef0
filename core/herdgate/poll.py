"""What a backend says of itself when it is polled."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

import httpx

from herdgate.catalogue import ModelList
from herdgate.faults import PluginFault
from herdgate.hooks import POLL_DEADLINE
from herdgate.points import HookPoints
from herdgate.upstream.client import Upstream

_VERSION = re.compile(r"[!-~]{1,64}")


async def ask(points: HookPoints, upstream: Upstream) -> ModelList | str:
    """What a backend hosts, or why that cannot be said. Within the deadline."""
    try:
        entries = await points.list_models(upstream.backend, upstream.client(POLL_DEADLINE))
        if entries is None:
            return "no plugin knows how to list its models"
        return ModelList(upstream.backend.name, tuple(entries), time.monotonic())
    except PluginFault as fault:
        return fault.why
    except TimeoutError:
        return f"no answer within {POLL_DEADLINE:g} s"
    except httpx.HTTPStatusError as error:
        return f"status {error.response.status_code} for {error.request.url.path}"
    except (httpx.HTTPError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


async def version_of(upstream: Upstream) -> str | None:
    """What Ollama says of itself; other kinds of servers say nothing, which is no fault."""
    try:
        async with asyncio.timeout(POLL_DEADLINE):
            client = upstream.client(POLL_DEADLINE)
            reply: Mapping[str, object] = (await client.get("/api/version")).raise_for_status().json()
        version = reply["version"]
        return version if isinstance(version, str) and _VERSION.fullmatch(version) else None
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError, RecursionError):
        return None
