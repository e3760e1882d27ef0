from __future__ import annotations

import os
import re

import pytest

from herdgate.front.door import request_id


def test_every_request_gets_an_id_of_its_own() -> None:
    ids = [request_id(None) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch("[0-9a-f]{24}", each) for each in ids)


@pytest.mark.parametrize(("given", "kept"), [("a.B_c-1", True), ("x" * 64, True), ("x" * 65, False), ("a b", False)])
def test_a_harmless_id_of_the_callers_is_kept(given: str, kept: bool) -> None:
    assert (request_id(given) == given) is kept


def test_a_forked_process_gives_other_ids() -> None:
    request_id(None)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, request_id(None).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert theirs not in [request_id(None) for _ in range(200)]
