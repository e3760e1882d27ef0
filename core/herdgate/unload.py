"""Requests that look like inference but evict a model for everybody. Pure."""

from __future__ import annotations

import re

from herdgate.body import BadBody, Body
from herdgate.surface import Endpoint

_GO_DURATION = re.compile(r"([0-9.]+)(ns|us|µs|μs|ms|s|m|h)")
# Anything but "", [] and {}. Seen in the text: to make objects of a conversation takes time and memory.
_SOMETHING = re.compile(rb'"[^"]|[\[{]\s*[^\s\]}]')
_LONGEST_DURATION = 100
"""Characters of a `keep_alive`, its quotes included. Of a longer one nobody could tell soon whether it is zero."""
_NANOSECONDS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 6e10, "h": 3.6e12}


def unloads(body: Body, endpoint: Endpoint) -> bool:
    """Whether this is Ollama's "unload": an empty prompt with a `keep_alive` of nothing.

    Only the field that the endpoint reads can make the prompt a prompt, and only as a string, a list or an object.
    Raises BadBody if `keep_alive` cannot be read, or is longer than a duration can be.
    """
    keep_alive = body.fields.get("keep_alive")
    if keep_alive is None or not endpoint.prompt_field or _SOMETHING.match(body.fields.get(endpoint.prompt_field, b"")):
        return False
    if len(keep_alive) > _LONGEST_DURATION:
        raise BadBody('the field "keep_alive" is too long')
    return _is_zero(body.value("keep_alive"))


def _is_zero(keep_alive: object) -> bool:
    """Whether a backend reads this as no time at all: less than a nanosecond, as seconds or as a Go duration ("0m0s").

    What is no duration is not zero either; the backend refuses it.
    """
    if isinstance(keep_alive, str):
        if keep_alive.lstrip("+-") == "0":
            return True
        parts = _GO_DURATION.findall(keep_alive)
        return bool(parts) and sum(_number(number) * _NANOSECONDS[unit] for number, unit in parts) < 1
    return isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool) and abs(keep_alive) < 1e-9


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
