"""What the gateway answers is what its OpenAPI document says, whatever schemathesis makes of that document."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from tests.stories.conftest import MODEL, PATIENT

import herdgate
from herdgate.errors import denial
from herdgate.openapi import document
from herdgate.openapipage import PATH
from herdgate.surface import ENDPOINTS, Family
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The gateway, in another thread, uses it while hypothesis watches.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]

TIMES = int(os.environ.get("FUZZ", "1"))
"""How much longer than in every test run: see `make fuzz`."""
EXAMPLES = 5 * TIMES
SCHEMA = schemathesis.openapi.from_dict(document(herdgate.__version__, ENDPOINTS))
FOUND: Iterable[Any] = SCHEMA.get_all_operations()
OPERATIONS = {operation.label: operation for operation in (result.ok() for result in FOUND)}
# That a valid body is accepted, or an invalid one refused, is for a backend to decide, which reads much more of it.
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
        "allow_header_conformance",
        "ignored_auth",
    ]
)
sent = 0
"""Requests so far."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[RunningGateway]:
    async with SimulatedOllama(models=[MODEL]) as backend, running_gateway(backend, toml=PATIENT) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: RunningGateway) -> dict[str, str]:
    return await gateway.make_key("*")


@pytest.mark.parametrize("label", OPERATIONS)
async def test_every_operation_answers_as_its_description_says(
    gateway: RunningGateway, key: dict[str, str], label: str
) -> None:
    operation = OPERATIONS[label]
    ways = [operation.as_strategy(GenerationMode.POSITIVE), operation.as_strategy(GenerationMode.NEGATIVE)]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=TIMES == 1,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(ways), known=st.booleans())
    def ask(case: Any, known: bool) -> None:
        global sent
        sent += 1
        if known and isinstance(case.body, dict):
            case.body["model"] = MODEL
        with requests.Session() as session:
            response = case.call(base_url=gateway.url, session=session, headers=key, timeout=20)
            case.validate_response(response, checks=CHECKED, headers=key, transport_kwargs={"session": session})

    await asyncio.to_thread(ask)


async def test_the_document_is_served_to_admins_alone_with_all_that_is_mounted(
    gateway: RunningGateway, key: dict[str, str]
) -> None:
    admin = await gateway.make_key("*", admin=True, name="boss")
    served = await gateway.client.get(PATH, headers=admin)
    assert (served.status_code, served.headers["content-type"]) == (200, "application/json")
    paths = served.json()["paths"]
    assert paths.keys() >= {*SCHEMA.raw_schema["paths"], PATH}
    assert served.json()["components"] == document(herdgate.__version__, ())["components"]
    refused = await gateway.client.get(PATH, headers={**key, "x-request-id": "an-id"})
    assert (refused.status_code, refused.content) == (403, denial(Family.OLLAMA, request_id="an-id").body)


async def test_and_that_were_enough_to_mean_something() -> None:
    """Runs after all of the above."""
    print(f"{sent} requests to {len(OPERATIONS)} operations")  # noqa: T201
    assert sent >= 4 * len(OPERATIONS)
