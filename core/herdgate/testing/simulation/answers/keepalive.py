"""The values of ``keep_alive``."""

import math
import re

from herdgate.testing.simulation.answers.ask import Ask, Refused

DEFAULT = 300.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_STEP = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")
_FOREVER = 292 * 365 * 86400.0


def seconds(ask: Ask) -> float:
    """How long the model stays in memory after this request. Raises Refused.

    A number is seconds, a text a Go duration (``1h30m``); negative means for ever, which Ollama shows as 292 years.
    """
    value = ask.fields.get("keep_alive", DEFAULT)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(400, f"Unsupported type: '{type(value).__name__}'")
    number = _duration(value) if isinstance(value, str) else float(value)
    return _FOREVER if number < 0 or math.isinf(number) else min(number, _FOREVER)


def _duration(text: str) -> float:
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if rest == "0":
        return 0.0
    steps = _STEP.findall(rest)
    if not steps or "".join(number + unit for number, unit in steps) != rest:
        kind = "missing unit" if re.fullmatch(r"[0-9.]+", rest) else "unknown unit"
        raise Refused(400, f'time: {kind} in duration "{text}"')
    return sign * sum(float(number) * _UNITS[unit] for number, unit in steps)
