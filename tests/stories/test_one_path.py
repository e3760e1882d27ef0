"""All denials come out of the same lines of code, and every path and method of the table denies with the same bytes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.stories.conftest import MODEL, with_plugin
from tests.stories.raw import Connection, connected

import herdgate
import herdgate_plugins
from herdgate import Family
from herdgate.errors import denial
from herdgate.pipeline import serve
from herdgate.surface import ENDPOINTS, Endpoint, Treatment
from herdgate.testing.gateway import RunningGateway, running_gateway
from herdgate.testing.simulated import SimulatedOllama

pytestmark = pytest.mark.usefixtures("quick_keys")

UNKNOWN, FORBIDDEN, HIDDEN = "model-u", "model-f", "model-h"
NAMES = (UNKNOWN, FORBIDDEN, HIDDEN)
HIDE = """
from herdgate import hookimpl

class Extra:
    herdgate_api = 1

    @hookimpl
    def shape_catalogue(self, entries):
        return [entry for entry in entries if entry.name.model != "model-h"]
"""
NAMED = [endpoint for endpoint in ENDPOINTS if endpoint.model_fields]
REFUSED = [endpoint for endpoint in ENDPOINTS if endpoint.treatment is Treatment.REFUSED]
OWN = tuple(str(Path(str(package.__file__)).parent) for package in (herdgate, herdgate_plugins))
WRITING = str(Path(OWN[0]) / "front")
"""Sends a reply that has been decided; that every second has a new date shows there."""


class Steps:
    """Every line of Herdgate that runs, in its order, while one request is served."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._began = False

    def __enter__(self) -> Steps:
        sys.settrace(self._called)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code is serve.__code__ and not self._began:
            self._task, self._began = asyncio.current_task(self._loop), True
        if not self._began or asyncio.current_task(self._loop) is not self._task:
            return None
        file = frame.f_code.co_filename
        return self._step if file.startswith(OWN) and not file.startswith(WRITING) else None

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.lines.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        return self._step


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with (
        SimulatedOllama(models=[MODEL, FORBIDDEN, HIDDEN]) as backend,
        running_gateway(backend, toml=with_plugin(tmp_path, HIDE), directory=tmp_path) as running,
    ):
        yield running


def question(endpoint: Endpoint, name: str, **more: object) -> object:
    """A body that asks for this model: JSON, or a form with the name in it."""
    if endpoint.form:
        part = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
        parts = (part.format("model", name), part.format('file"; filename="a.wav', "RIFF"))
        return ("".join(f"--x\r\n{text}" for text in parts) + "--x--\r\n").encode()
    return {"model": name, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi", **more}


async def steps(
    connection: Connection, endpoint: Endpoint, name: str, key: dict[str, str], **more: object
) -> list[str]:
    """What runs while a question about this model is answered."""
    with Steps() as taken:
        await connection.ask("POST", endpoint.path, question(endpoint, name, **more), headers(endpoint, key))
    assert len(taken.lines) > 50
    return taken.lines


def headers(endpoint: Endpoint, key: dict[str, str]) -> dict[str, str]:
    return {**key, "Content-Type": "multipart/form-data; boundary=x"} if endpoint.form else key


@pytest.mark.parametrize("endpoint", NAMED, ids=lambda endpoint: str(endpoint.name))
async def test_whatever_is_denied_takes_the_same_steps(gateway: RunningGateway, endpoint: Endpoint) -> None:
    """Asked for the first time too, and after a listing that looked at all that exist."""
    key = await gateway.make_key(MODEL)
    assert (await gateway.client.get("/api/tags", headers=key)).status_code == 200
    async with connected(gateway) as connection:
        await steps(connection, endpoint, "model-x", key)
        for suffix, more in (("", {}), (":latest", {}), (":cloud", {}), ("", {"keep_alive": 0})):
            taken = [await steps(connection, endpoint, f"{name}{suffix}", key, **more) for name in NAMES]
            assert taken[0] == taken[1] == taken[2]


async def looking_at(connection: Connection, name: str, key: dict[str, str]) -> list[str]:
    with Steps() as taken:
        await connection.ask("GET", f"/v1/models/{name}", headers=key)
    return taken.lines


async def test_one_model_of_many_takes_the_same_steps(gateway: RunningGateway) -> None:
    key = await gateway.make_key(MODEL)
    async with connected(gateway) as connection:
        await looking_at(connection, "model-x", key)
        taken = [await looking_at(connection, name, key) for name in NAMES]
        assert taken[0] == taken[1] == taken[2]
        assert await looking_at(connection, MODEL, key) != taken[0]  # else this would show nothing


def the_403(family: Family, *, bodiless: bool) -> bytes:
    reply = denial(family, request_id="ID")
    length = len(denial(family, request_id="fixed-id").body)
    head = (
        f"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
        f"x-request-id: ID\r\ndate: DATE\r\nconnection: keep-alive\r\n\r\n"
    )
    return head.encode() + (b"" if bodiless else reply.body)


async def test_every_row_of_the_table_denies_with_the_same_bytes_by_every_method(gateway: RunningGateway) -> None:
    """Without rights, with an admin key, and, where a name is asked for, whatever that name is."""
    user = {**await gateway.make_key(MODEL), "X-Request-Id": "fixed-id"}
    admin = {**await gateway.make_key("*", admin=True, name="boss"), "X-Request-Id": "fixed-id"}
    asked = 0
    async with connected(gateway) as connection:
        for endpoint in (*NAMED, *REFUSED):
            path = f"{endpoint.path}x" if endpoint.prefix else endpoint.path
            for method in sorted(endpoint.methods):
                for name in (*NAMES, f"{UNKNOWN}:cloud", f"{FORBIDDEN}:cloud"):
                    keys = [user] if name in (FORBIDDEN, f"{FORBIDDEN}:cloud") else [user, admin]
                    for key in keys:
                        reply = await connection.ask(method, path, question(endpoint, name), headers(endpoint, key))
                        assert reply.undated == the_403(endpoint.family, bodiless=method == "HEAD"), (
                            method,
                            path,
                            name,
                        )
                        asked += 1
    assert asked > 200
