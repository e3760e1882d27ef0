"""Models may be used during business hours only. A Herdgate plugin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from herdgate import Action, Deny, Identity, hookimpl
from pydantic import AfterValidator, BaseModel, Field

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # depending on how wrong the name is
        raise ValueError("this time zone is not known here; time zones are written like Europe/Berlin") from None
    return name


class BusinessHours:
    """Denies what runs a model while business is closed. Says nothing while it is open: others decide then."""

    herdgate_api = 1

    class Settings(BaseModel):
        """What the entry in plugins.toml may say."""

        opens: time = Field(description="The first moment of business, local time.")
        closes: time = Field(description="The first moment after it; earlier than `opens`: on the next day.")
        days: tuple[Day, ...] = Field(default=DAYS[:5], description="The days on which business opens.")
        zone: Annotated[str, AfterValidator(_known_zone)] = Field(default="UTC", description="Where local time is.")
        exempt: tuple[str, ...] = Field(default=(), description="Names of callers who may always run models.")

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._zone = ZoneInfo(settings.zone)
        self._clock = clock

    @hookimpl
    def authorise(self, identity: Identity, action: Action) -> Deny | None:
        """One verdict, which counts for all resources asked about."""
        if action is not Action.USE or identity.admin or identity.name in self._settings.exempt:
            return None
        return None if is_open(self._clock().astimezone(self._zone), self._settings) else Deny("outside business hours")


def is_open(moment: datetime, settings: BusinessHours.Settings) -> bool:
    """Whether business is open at this moment of local time."""
    clock = moment.time()
    if settings.opens < settings.closes:
        return settings.opens <= clock < settings.closes and _opens_on(moment, settings)
    if clock >= settings.opens:
        return _opens_on(moment, settings)
    return clock < settings.closes and _opens_on(moment - timedelta(days=1), settings)


def _opens_on(moment: datetime, settings: BusinessHours.Settings) -> bool:
    return DAYS[moment.weekday()] in settings.days
