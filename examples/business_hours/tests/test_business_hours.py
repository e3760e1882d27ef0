from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from herdgate import Action, Deny, Identity
from herdgate.testing.gateway import running_gateway
from herdgate.testing.simulated import SimulatedOllama
from pydantic import ValidationError

from herdgate_business_hours import DAYS, BusinessHours, is_open

OFFICE = BusinessHours.Settings(opens=time(8), closes=time(18), exempt=("batch",))
NIGHT = BusinessHours.Settings(opens=time(22), closes=time(6))

WEDNESDAY, SATURDAY, SUNDAY, MONDAY = (datetime(2026, 7, day) for day in (1, 4, 5, 6))


@pytest.mark.parametrize(
    ("settings", "moment", "expected"),
    [
        (OFFICE, WEDNESDAY.replace(hour=8), True),
        (OFFICE, WEDNESDAY.replace(hour=17, minute=59), True),
        (OFFICE, WEDNESDAY.replace(hour=18), False),
        (OFFICE, WEDNESDAY.replace(hour=7, minute=59), False),
        (OFFICE, SATURDAY.replace(hour=12), False),
        (NIGHT, WEDNESDAY.replace(hour=23), True),
        (NIGHT, WEDNESDAY.replace(hour=5, minute=59), True),
        (NIGHT, WEDNESDAY.replace(hour=6), False),
        (NIGHT, SATURDAY.replace(hour=3), True),  # Friday's night
        (NIGHT, SUNDAY.replace(hour=23), False),
        (NIGHT, MONDAY.replace(hour=3), False),  # Sunday's night
    ],
)
def test_when_business_is_open(settings: BusinessHours.Settings, moment: datetime, expected: bool) -> None:
    assert is_open(moment, settings) is expected


def verdict(settings: BusinessHours.Settings, moment: datetime, caller: Identity, action: Action) -> Deny | None:
    return BusinessHours(settings, clock=lambda: moment).authorise(caller, action)


NOON, MIDNIGHT = (WEDNESDAY.replace(hour=hour, tzinfo=UTC) for hour in (12, 0))
ALICE = Identity("alice", models=("*",))


def test_it_says_nothing_while_business_is_open() -> None:
    assert verdict(OFFICE, NOON, ALICE, Action.USE) is None


def test_it_denies_running_a_model_while_business_is_closed() -> None:
    assert verdict(OFFICE, MIDNIGHT, ALICE, Action.USE) == Deny("outside business hours")


def test_it_says_nothing_of_listings() -> None:
    assert verdict(OFFICE, MIDNIGHT, ALICE, Action.SEE) is None


@pytest.mark.parametrize("caller", [Identity("batch"), Identity("root", admin=True)])
def test_who_is_exempt(caller: Identity) -> None:
    assert verdict(OFFICE, MIDNIGHT, caller, Action.USE) is None


def test_hours_are_local() -> None:
    tokyo = OFFICE.model_copy(update={"zone": "Asia/Tokyo"})  # 9 hours ahead of UTC
    assert verdict(tokyo, NOON, ALICE, Action.USE) is not None
    assert verdict(tokyo, MIDNIGHT, ALICE, Action.USE) is None


@pytest.mark.parametrize("zone", ["Atlantis", "../etc", ""])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="time zone"):
        BusinessHours.Settings(opens=time(8), closes=time(18), zone=zone)


TOML = """
[[plugin]]
use = "configured_backends"
[[plugin]]
use = "ollama_discovery"
[[plugin]]
use = "api_keys"
[[plugin]]
use = "model_access"
[[plugin]]
use = "herdgate_business_hours:BusinessHours"
opens = 00:00:00
closes = 00:00:00
"""


@pytest.mark.parametrize(("days", "status"), [(DAYS, 200), ((), 403)])
async def test_in_a_gateway(days: tuple[str, ...], status: int) -> None:
    chat = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        SimulatedOllama() as backend,
        running_gateway(backend, toml=f"{TOML}days = {list(days)}\n") as gateway,
    ):
        assert (await gateway.client.post("/api/chat", json=chat)).status_code == status
        assert (await gateway.client.get("/api/tags")).json()["models"]
