"""What a caller gets from each endpoint in each situation: printed in `docs/surface.md`, every cell tested."""

from __future__ import annotations

from enum import StrEnum

from herdgate.surface import Endpoint, Treatment


class Situation(StrEnum):
    """A situation of a caller and of the backends, with the built-in plugins."""

    NO_KEY = "no key"
    """Keys were made, and the caller brings none."""
    ALLOWED = "allowed"
    """The key may use the model."""
    FORBIDDEN = "forbidden"
    """There is such a model, but the key may not use it."""
    UNKNOWN = "unknown"
    """There is no such model."""
    MALFORMED = "malformed"
    """The body, or the name in the path, cannot be read."""
    DOWN = "backend down"
    """No backend that has the model can be reached, and it is not long ago that they could."""


_ANSWERED = {Situation.ALLOWED: 200, Situation.DOWN: 200}
_BY_MODEL = {Situation.FORBIDDEN: 403, Situation.UNKNOWN: 403, Situation.MALFORMED: 400}
_BY_TREATMENT: dict[Treatment, dict[Situation, int]] = {
    Treatment.OPEN: {**_ANSWERED, Situation.NO_KEY: 200},
    Treatment.LOCAL: _ANSWERED,
    Treatment.UNION: _ANSWERED,
    Treatment.COUNTED: {**_ANSWERED, **_BY_MODEL},
    Treatment.ROUTED: {**_BY_MODEL, Situation.ALLOWED: 200, Situation.DOWN: 502},
    Treatment.REFUSED: dict.fromkeys(Situation, 403),
}


def expected(endpoint: Endpoint, situation: Situation) -> int | None:
    """The status; None where a situation has no meaning for the endpoint.

    A listing is answered however little of it the caller may see, so that "forbidden" is 200 there, without the model.
    """
    statuses = {Situation.NO_KEY: 401} | _BY_TREATMENT[endpoint.treatment]
    if endpoint.treatment is Treatment.REFUSED:
        statuses |= {Situation.NO_KEY: 401}
    if endpoint.treatment is Treatment.UNION:
        statuses |= _BY_MODEL if endpoint.prefix else {Situation.FORBIDDEN: 200}
    return statuses.get(situation)
