"""An author with mypy strict learns from it what the loader would refuse, and what only a fault would show."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from herdgate.cli import main
from herdgate.hooks import INFO

SAMPLES = """
from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from herdgate import (
    Action, Allow, Attempt, Candidate, Credentials, Deny, Exchange, Identity, Rejected, Reply, Resource, Summary,
    hookimpl,
)


class Right:
    @hookimpl
    def select_candidates(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return sorted(candidates, key=str)

    @hookimpl
    async def authenticate(self, credentials: Credentials, exchange: Exchange) -> Identity | Rejected | None:
        return None

    @hookimpl
    def authorise(self, resources: Sequence[Resource], identity: object) -> Deny | Awaitable[Allow | None]:
        return Deny("no")

    @hookimpl
    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        yield

    @hookimpl
    def around_attempt(self, attempt: Attempt) -> AbstractAsyncContextManager[None] | None:
        return None

    @hookimpl
    async def exchange_ended(self, summary: Summary) -> None: ...

    @hookimpl
    def mask_denial(self) -> Reply | None:
        return None


class Wrong:
    @hookimpl  # it does not offer candidate, but exchange, candidates
    def select_candidates(self, candidate: Sequence[Candidate]) -> list[Candidate]:
        return []

    @hookimpl  # credentials is Credentials, not str
    def authenticate(self, credentials: str) -> None: ...

    @hookimpl  # must be a plain def, not async
    async def mask_denial(self) -> Reply | None:
        return None

    @hookimpl  # not AsyncIterator[None]
    async def admit(self) -> AsyncIterator[None]:
        yield

    @hookimpl  # must be a plain def, not async
    async def around_attempt(self) -> None: ...

    @hookimpl  # there is no hook of this name; did you mean select_candidates?
    def select_candidate(self) -> None: ...

    @hookimpl  # it must return TryNext | GiveUp | None, not Deny
    def judge_failure(self) -> Deny:
        return Deny("no")

    @hookimpl  # it must return None, not int
    async def exchange_ended(self, summary: Summary) -> int:
        return 7

    @hookimpl  # it must return Allow | Deny | None | Sequence[Allow | Deny | None], not bool
    def authorise(self, identity: Identity) -> Deny | bool:
        return True


class Unfilled:
    @hookimpl  # action would never see more than its default; write it without one
    def authorise(self, identity: Identity, action: Action = Action.SEE) -> Deny | None:
        return None

    @hookimpl  # given would always be empty; name what it needs of exchange, family, reason
    def mask_denial(self, **given: Any) -> Reply | None:
        return None

    @hookimpl  # args would always be empty; name what it needs of exchange, candidates
    def select_candidates(self, *args: Any) -> None: ...

    @hookimpl  # it does not offer more, but exchange, attempt
    def around_attempt(self, more: int = 3) -> None: ...

    @hookimpl  # attempt is taken by keyword only; take it without `*`
    def prepare_upstream(self, *, attempt: Attempt) -> None: ...


def told_nothing(method: Callable[..., Any]) -> Callable[..., Any]:
    return method


class Undecided:
    @hookimpl
    @told_nothing
    def select_candidates(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return []
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of the samples, and of a new project for each hook: one run for all of them."""
    place = tmp_path_factory.mktemp("types")
    (place / "samples.py").write_text(SAMPLES)
    for hook in INFO:
        command = ["plugins", "new", f"my-{hook.replace('_', '-')}", "--hook", hook, "--directory", str(place / hook)]
        assert CliRunner().invoke(main, command).exit_code == 0
    (place / "mypy.ini").write_text("[mypy]\nstrict = true\nplugins = herdgate.mypy_plugin, pydantic.mypy\n")
    modules = sorted(str(path) for path in place.glob("*/herdgate_my_*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "samples.py", *modules],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=58,
        check=False,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if "error:" in line]


def test_each_mistake_is_reported_in_its_line_and_nothing_else(reported: list[str]) -> None:
    expected = {
        number: comment[1]
        for number, line in enumerate(SAMPLES.splitlines(), 1)
        if (comment := re.search(r"@hookimpl  # (.*)", line))
    }
    assert len(expected) == 14
    told = {int(line.split(":")[1]): line for line in reported if line.startswith("samples.py")}
    # mypy names the line of the decorator or of the method, by the version of Python that reads the file.
    found = {number: told.get(number) or told.get(number + 1) or "" for number in expected}
    assert {number for number, text in found.items() if expected[number] not in text} == set(), told
    assert len(told) == len(expected)


def test_new_projects_are_right(reported: list[str]) -> None:
    assert [line for line in reported if not line.startswith("samples.py")] == []


def test_the_types_cost_nothing_when_the_gateway_runs() -> None:
    text = "import sys, herdgate.server; print('mypy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"
