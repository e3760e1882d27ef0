"""Whom a management request is meant for, and how the progress of several backends becomes one. Through a gateway:
tests/stories/test_management.py.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate import Backend, BackendSettings, Candidate, ModelEntry
from herdgate_plugins.model_management.asking import Failed, together
from herdgate_plugins.model_management.progress import Progress
from herdgate_plugins.model_management.targets import HEADER, NoTarget, belongs, named, only

BACKENDS = [BackendSettings(name=name, base_url=f"http://{name}").view() for name in ("gpu1", "gpu2", "gpu3")]
ENTRY = ModelEntry.from_tags({"name": "llama3"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpu2", ["gpu2"]),
        (" GPU3 , gpu1,", ["gpu1", "gpu3"]),
        ("all", ["gpu1", "gpu2", "gpu3"]),
        ("ALL", ["gpu1", "gpu2", "gpu3"]),
    ],
)
def test_backends_are_named_in_a_header(text: str, found: list[str]) -> None:
    chosen = named({HEADER: text}, BACKENDS)
    assert chosen is not None
    assert [backend.name for backend in chosen] == found


def test_a_request_that_names_none_leaves_the_choice_to_the_gateway() -> None:
    assert named({}, BACKENDS) is None


@pytest.mark.parametrize("text", ["gpu9", "gpu1, gpu9", "all, gpu9", "", ",", "all, gpu1"])
def test_a_name_that_is_none_is_said(text: str) -> None:
    with pytest.raises(NoTarget, match="there are gpu1, gpu2, gpu3"):
        named({HEADER: text}, BACKENDS)


def test_a_model_belongs_where_it_is_or_on_the_first_backend() -> None:
    first, second, third = BACKENDS
    held = [Candidate(second, ENTRY), Candidate(third, ENTRY, gone=True)]
    assert belongs(held, BACKENDS) == [second]
    assert belongs(held[1:], BACKENDS) == [first]
    with pytest.raises(NoTarget, match="there is no backend"):
        belongs((), ())


def test_what_can_be_done_on_one_backend_only_wants_one() -> None:
    assert only(BACKENDS[:1]) is BACKENDS[0]
    with pytest.raises(NoTarget, match="name one backend"):
        only(BACKENDS)


# progress


def layer(completed: int | None, total: int = 100, digest: str = "sha256:ab") -> dict[str, object]:
    said: dict[str, object] = {"status": "pulling ab", "digest": digest, "total": total}
    return said if completed is None else {**said, "completed": completed}


def test_one_backend_is_heard_as_it_speaks() -> None:
    progress = Progress(["a"])
    said: list[dict[str, object]] = [
        {"status": "pulling manifest"},
        layer(None),
        layer(60),
        layer(100),
        {"status": "writing manifest"},
    ]
    assert [progress.step("a", each) for each in said] == [said[0], layer(0), *said[2:]]
    assert progress.step("a", {"status": "success"}) is None
    progress.done("a")
    assert progress.last() == {"status": "success"}


def test_a_layer_is_full_when_the_last_backend_has_it() -> None:
    progress = Progress(["a", "b"])
    assert progress.step("a", {"status": "pulling manifest"}) == {"status": "pulling manifest"}
    assert progress.step("b", {"status": "pulling manifest"}) is None
    assert progress.step("a", layer(100)) == layer(100, total=200)
    assert progress.step("a", {"status": "writing manifest"}) is None
    assert progress.step("b", layer(50)) == layer(150, total=200)
    progress.done("a")
    assert progress.step("b", layer(100)) == layer(200, total=200)
    assert progress.step("b", {"status": "writing manifest"}) == {"status": "writing manifest"}
    progress.done("b")
    assert progress.last() == {"status": "success"}


def test_a_backend_that_gives_up_is_waited_for_no_longer_and_named_at_the_end() -> None:
    progress = Progress(["a", "b"])
    progress.step("a", layer(50))
    progress.step("b", layer(10))
    progress.failed("b", "it cannot be reached")
    assert progress.step("a", layer(60)) == layer(60)
    assert progress.step("a", {"status": "writing manifest"}) == {"status": "writing manifest"}
    progress.done("a")
    assert progress.last() == {"error": "b: it cannot be reached (done on: a)"}


def test_the_error_of_the_only_backend_is_told_in_its_own_words() -> None:
    progress = Progress(["a"])
    progress.failed("a", "pull model manifest: file does not exist")
    assert progress.last() == {"error": "pull model manifest: file does not exist"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]), st.integers(0, 100))))
def test_no_bar_is_ever_more_than_full(steps: list[tuple[str, str, int]]) -> None:
    progress = Progress(["a", "b", "c"])
    for backend, digest, completed in steps:
        line = progress.step(backend, layer(completed, digest=digest))
        assert line is not None
        assert isinstance(line["completed"], int)
        assert isinstance(line["total"], int)
        assert line["completed"] <= line["total"] == 300


# asking


class BrokenFleet:
    """Has an error of its own for whoever asks a backend."""

    def client(self, backend: Backend, timeout: float, *, apart: bool = False) -> httpx.AsyncClient:
        raise RuntimeError(f"no client for {backend.name}")


async def test_an_error_of_ones_own_is_an_end_too(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(10):
        ends = [end async for end in together(BrokenFleet(), BACKENDS[:2], "/api/pull", b"{}")]  # type: ignore[arg-type]
    assert [backend for backend, _ in ends] == BACKENDS[:2]
    assert all(isinstance(failed, Failed) for _, failed in ends)
    assert "no client for gpu1" in caplog.text
