"""What callers may say about loading a model: how long it stays in memory, and how it is laid out there.

One caller's `keep_alive` holds for everybody who uses the model, and a change of an option such as `num_ctx` has it
loaded anew, which takes all of them minutes.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from herdgate import Action, Attempt, Body, Duration, Exchange, Family, UpstreamRequest, hookimpl

Treatment = Literal["pass", "clamp", "drop"]

LOAD_TIME = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"})
"""The options whose change makes Ollama load a model again (0.33)."""

_GO_DURATION = re.compile(r"[+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", re.ASCII)
_LONGEST_DURATION = 100
"""Characters beyond which nobody looks whether it is one."""
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Override(BaseModel):
    """What is different for one caller."""

    model_config = ConfigDict(extra="forbid")

    keep_alive: Treatment = "clamp"
    keep_alive_max: Duration = 600.0
    options: Treatment = "clamp"
    num_ctx_max: int = Field(default=8192, gt=0)


class LoadPolicy:
    """Applies to Ollama's own API, which alone has these fields. Admins pass, unless `callers` names them."""

    herdgate_api = 1

    class Settings(Override):
        """`keep_alive`: `pass`, `clamp` (no longer than `keep_alive_max`) or `drop` (the backend's default counts).
        `options`, about those that have a model loaded anew: `pass`, `clamp` (`num_ctx` up to `num_ctx_max`, none of
        the others) or `drop`. `callers`: the same settings for single keys, by name; what is left out is as for all.
        """

        callers: dict[str, Override] = {}

    def __init__(self, settings: Settings) -> None:
        self._all: Override = settings
        self._one = {
            name: settings.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})
            for name, own in settings.callers.items()
        }

    @hookimpl
    def prepare_upstream(
        self, exchange: Exchange, attempt: Attempt, request: UpstreamRequest
    ) -> UpstreamRequest | None:
        """Change the two fields where the policy wants it. What else the body says goes on as it came."""
        del attempt
        endpoint, body, identity = exchange.endpoint, exchange.body, exchange.identity
        if endpoint is None or body is None or identity is None or endpoint.family is not Family.OLLAMA:
            return None
        if endpoint.action is not Action.USE or exchange.unloads:
            return None
        policy = self._one.get(identity.name)
        if policy is None and identity.admin:
            return None
        if request.body is not body.raw:  # another plugin was here before
            body = Body.read(request.body)
        changes = changed(body, policy or self._all)
        return request.with_body(body.replaced(changes)) if changes else None


def changed(body: Body, policy: Override) -> dict[str, bytes | None]:
    """The fields that must be other than they came, as JSON; None for those that must not be there."""
    changes: dict[str, bytes | None] = {}
    alive = body.value("keep_alive")
    if alive is not None and policy.keep_alive == "drop":
        changes["keep_alive"] = None
    elif alive is not None and policy.keep_alive == "clamp" and not _within(alive, policy.keep_alive_max):
        changes["keep_alive"] = json.dumps(policy.keep_alive_max).encode()
    options = body.value("options")
    if isinstance(options, dict) and policy.options != "pass":
        kept = {key: value for key, value in options.items() if key.casefold() not in LOAD_TIME}
        if policy.options == "clamp" and "num_ctx" in options:
            kept["num_ctx"] = _at_most(options["num_ctx"], policy.num_ctx_max)
        if kept != options:
            changes["options"] = json.dumps(kept).encode()
    return changes


def _within(alive: object, limit: float) -> bool:
    """Whether a backend reads this as no more than `limit` seconds. What it cannot read, or is for ever, is not."""
    if isinstance(alive, str):
        if alive in {"0", "+0", "-0"}:
            return True
        if len(alive) > _LONGEST_DURATION or not _GO_DURATION.fullmatch(alive):
            return False
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(alive)) <= limit
    return isinstance(alive, int | float) and not isinstance(alive, bool) and 0 <= alive <= limit


def _at_most(value: Any, limit: int) -> Any:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return value if numeric and value <= limit else limit
