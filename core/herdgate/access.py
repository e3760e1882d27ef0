"""Who is calling, what they ask for, and the verdicts about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec
from pydantic import SecretStr

from herdgate.names import ModelName, ModelPattern


class Action(StrEnum):
    """What a caller wants to do with a resource; `authorise` decides about it."""

    USE = "use"
    """Run a model: chat, generate, embed."""
    SEE = "see"
    """Learn of a model: listings, `/api/show`, `/v1/models/{name}`."""
    MANAGE = "manage"
    """Change what a backend holds or has loaded: pull, push, create, copy, delete, unload."""
    ADMINISTER = "administer"
    """Read or change the gateway itself: everything under `/herdgate/`."""
    OBSERVE = "observe"
    """Read what the gateway measures: `/metrics`."""


class Resource(msgspec.Struct, frozen=True):
    """What an action is about: one model, or, with `model` None, the gateway itself.

    `cloud`: using the model sends prompts to a third party, be it that its name says so or that a backend's entry does.
    """

    model: ModelName | None = None
    cloud: bool = False

    def __post_init__(self) -> None:
        if self.model is not None and self.model.source == "cloud":
            msgspec.structs.force_setattr(self, "cloud", True)

    def __str__(self) -> str:
        return self.model.display if self.model else "the gateway"


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller, as an `authenticate` plugin recognised it.

    `models` are the patterns that the built-in `model_access` matches on canonical names; a plugin with rules of its
    own may leave them empty. `cloud` says whether models that run in Ollama's cloud are among them. `anonymous` marks a
    caller without credentials: it can never be an admin, and the gateway checks `Host` and `Origin` of its requests.
    `total_deadline` is how long one of its requests may take, in seconds; the core sees to it.
    `unprotected` is one of these while no key was ever made and only this machine can reach the gateway.
    Raises ValueError or TypeError for what other plugins would stumble over: a text or invalid patterns as `models`, a
    name that is empty, a `requests_per_minute` below 1, a switch that is no bool.
    """

    name: str
    key_id: str | None = None
    models: tuple[str, ...] = ()
    admin: bool = False
    anonymous: bool = False
    requests_per_minute: int | None = None
    cloud: bool = False
    total_deadline: float | None = None
    unprotected: bool = False

    def __post_init__(self) -> None:
        for switch in (self.admin, self.anonymous, self.cloud, self.unprotected):
            if switch.__class__ is not bool:  # "false", from a header or a database, is true for Python
                raise TypeError(f"admin, anonymous, cloud and unprotected are True or False, not {switch!r:.100}")
        if self.anonymous and self.admin:
            raise ValueError("an anonymous caller cannot be an admin")
        if self.unprotected and not self.anonymous:
            raise ValueError("a caller that is known needs no protected mode to be open")
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"the name of a caller is a text that is not empty, not {self.name!r:.100}")
        if self.models.__class__ is not tuple:
            object.__setattr__(self, "models", _as_tuple(self.models))
        if self.models:
            _check_patterns(self.models)
        rate = self.requests_per_minute
        if rate is not None and (not isinstance(rate, int) or rate is True or rate < 1):
            raise ValueError(f"requests_per_minute is a number of at least 1 or None, not {rate!r:.100}")


def _as_tuple(models: Any) -> tuple[str, ...]:
    """The patterns of a list. A text is refused: taken letter by letter, the star in it would open every model."""
    if isinstance(models, list | tuple):
        return tuple(models)
    instead = f": write ({models!r:.100},)" if isinstance(models, str) else ""
    raise TypeError(f"models are a tuple of patterns{instead}, not {models!r:.100}")


def _check_patterns(models: tuple[str, ...]) -> None:
    for pattern in models:
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern of models is a text, not {pattern!r:.100}")
    _read_patterns(models)


@lru_cache(maxsize=1024)
def _read_patterns(models: tuple[str, ...]) -> None:
    """Raise InvalidModelName; callers may be made anew for every request, and their patterns are mostly the same."""
    for pattern in models:
        ModelPattern.parse(pattern)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the request carried to prove who sends it. Only `authenticate` ever sees this object.

    `key` is the value of `Authorization: Bearer …` or of `x-api-key`; None when the request carries neither.
    `authorization` is the whole `Authorization` header, for schemes other than Bearer.
    """

    key: SecretStr | None = None
    authorization: SecretStr | None = None

    @property
    def present(self) -> bool:
        """Whether the request carried any credentials at all."""
        return self.key is not None or self.authorization is not None


@dataclass(frozen=True, slots=True)
class Rejected:
    """`authenticate`: these credentials are wrong. The caller gets the same 401 whatever the reason; logs get the
    reason.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Allow:
    """`authorise`: yes, unless somebody else says Deny."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deny:
    """`authorise`: no, whatever anybody else says."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """`admit`, `wait_for_turn`: not now. The caller reads the reason; `retry_after` (seconds) becomes the reply's
    `Retry-After`.
    """

    reason: str
    status: int = 429
    retry_after: float | None = None

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"{self.status} refuses nothing: the status of a Refusal is 4xx or 5xx")
        if self.retry_after is not None and not 0 <= self.retry_after < float("inf"):
            raise ValueError(f"nobody can wait for {self.retry_after} seconds")


Verdict = Allow | Deny | None


NOBODY = Deny("no plugin allowed it")


def overall(verdicts: list[tuple[str, Verdict]]) -> Allow | Deny:
    """Combine what each plugin said of one resource: any Deny wins, and without an Allow it is a Deny."""
    allowed: Allow | None = None
    for plugin, verdict in verdicts:
        if isinstance(verdict, Deny):
            return Deny(f"{plugin}: {verdict.reason}")
        if verdict is not None and allowed is None:
            allowed = Allow(f"{plugin}: {verdict.reason}")
    return allowed or NOBODY


def spread(answer: Any, count: int) -> list[Verdict]:
    """One verdict per resource from what a plugin returned: a list of them, one for all, or None.

    Raises TypeError when it is something else or of another length.
    """
    if answer is None or isinstance(answer, Allow | Deny):
        return [answer] * count
    several = isinstance(answer, list | tuple) and len(answer) == count
    if several and all(verdict is None or isinstance(verdict, Allow | Deny) for verdict in answer):
        return list(answer)
    raise TypeError(f"expected Allow, Deny, None or a list of {count} of them, not {answer!r:.100}")
