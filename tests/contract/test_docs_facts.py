"""What the documentation says of failures, texts, logs and numbers is what the code does."""

from __future__ import annotations

import re

import pytest
from tests.contract.documents import ROOT, document

from herdgate.catalogue import GONE_AFTER
from herdgate.config.schema import ServerSettings
from herdgate.exchange import Outcome
from herdgate.exhausted import conclude
from herdgate.failure import Failure, GiveUp, Kind, Phase, TryNext, default_verdict
from herdgate.front.connection import SLOWEST
from herdgate.front.door import BODIES_AT_ONCE
from herdgate.logwriter import LIMIT
from herdgate.opening import EVENT_LIMIT, HOLD_LIMIT
from herdgate.state import CALL_LIMIT
from herdgate.supervisor import GIVE_UP_AFTER
from herdgate_plugins.api_keys import TRUSTED

MIB = 1024**2
CLIENT_TIMEOUT = ServerSettings.model_fields["client_timeout"].default
OPERATING = document("docs/operating.md")
SOURCE = "\n".join(path.read_text() for root in ("core", "plugins") for path in (ROOT / root).rglob("*.py"))


def rows(title: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    table = OPERATING.text.partition(f"| {title} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


# whether another backend is tried


def status(code: int) -> Failure:
    return Failure(Kind.STATUS, Phase.OPENING, "", code)


def said_of(code: int) -> str:
    """What the page says of a status."""
    table = rows("what a backend did")
    for cells in table:
        if re.search(rf"\b{code}\b", cells[0]):
            return cells[1]
    other = "any other 4xx" if 400 <= code < 500 else "any other status"
    return next(cells[1] for cells in table if cells[0] == other)


@pytest.mark.parametrize("code", [*range(300, 309), *range(400, 600)])
def test_what_is_said_of_a_status_is_decided(code: int) -> None:
    verdict, said = default_verdict(status(code), ()), said_of(code)
    assert isinstance(verdict, GiveUp if said.startswith("no") else TryNext)
    assert said.startswith("one further") == isinstance(default_verdict(status(503), [status(code)]), GiveUp)


UNSPOKEN = {
    "no connection": Failure(Kind.UNREACHABLE, Phase.CONNECT, ""),
    "the connection broke": Failure(Kind.BROKEN, Phase.SENT, ""),
    "it died while": Failure(Kind.DEAD, Phase.SENT, ""),
    "a success with an empty body": Failure(Kind.MALFORMED, Phase.OPENING, ""),
    "a success whose first event is an error": Failure(Kind.ERROR_EVENT, Phase.OPENING, ""),
    "it is full": Failure(Kind.SKIPPED, Phase.CONNECT, ""),
}


def test_what_is_said_of_failures_without_a_status_is_decided() -> None:
    described = [cells for cells in rows("what a backend did") if not re.search(r"\d{3}|any other", cells[0])]
    for cells, (beginning, failure) in zip(described, UNSPOKEN.items(), strict=True):
        assert cells[0].startswith(beginning)
        assert cells[1].startswith("yes")
        assert isinstance(default_verdict(failure, ()), TryNext)


# what the caller gets in the end


BROKEN = Failure(Kind.BROKEN, Phase.SENT, "")
LATE = Failure(Kind.TIMEOUT, Phase.SENT, "")
ERROR = Failure(Kind.ERROR_EVENT, Phase.OPENING, "", message="out of memory")
FULL = Failure(Kind.SKIPPED, Phase.CONNECT, "")

ENDS: dict[str, list[tuple[list[Failure], int]]] = {
    "a backend said something": [
        ([status(code), BROKEN], code) for code in range(400, 500) if code not in {401, 403, 404, 408, 429}
    ]
    + [([status(503), status(404)], 503)]
    + [
        ([Failure(Kind.STATUS, Phase.OPENING, "", code, message="no"), LATE], code)
        for code in range(500, 600)
        if code not in {502, 504}
    ],
    "the last one that said something": [([status(418), ERROR, BROKEN], 500)],
    "all said 404": [([status(404), status(404)], 403)],
    "all said 429": [([status(429), status(429)], 429)],
    "all ran out of time": [([LATE, LATE], 504)],
    "anything else": [([each, status(404)], 502) for each in (BROKEN, *map(status, (401, 403, 408, 502, 504)))],
    "all were skipped": [([FULL, FULL], 503)],
}


def test_what_is_said_of_the_end_is_concluded() -> None:
    for cells, (beginning, cases) in zip(rows("what the attempts came to"), ENDS.items(), strict=True):
        assert cells[0].startswith(beginning)
        for failures, expected in cases:
            conclusion = conclude(failures)
            assert conclusion.status == expected, cells[0]
            assert conclusion.denied == ("generic 403" in cells[1])
            named = re.findall(r"\b\d{3}\b", cells[1])
            assert str(expected) in named or "of the last one" in cells[1]
            assert (conclusion.retry_after is not None) <= ("Retry-After" in cells[1])


# texts and names


def test_the_texts_that_clients_see_are_in_the_code() -> None:
    texts = [text for cells in rows("status") for text in re.findall(r"`([^`]+)`", cells[1])]
    assert len(texts) > 15
    for text in texts:
        assert all(part in SOURCE for part in text.split("…")), text


def test_the_loggers_are_those_of_the_code() -> None:
    used = set(re.findall(r'getLogger\("(herdgate[\w.]*)"\)', SOURCE))
    assert {cells[0].strip("`| ") for cells in rows("logger")} == used


def test_every_outcome_is_explained() -> None:
    sentence = OPERATING.text.partition("Outcomes in the access log:")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == {outcome.value for outcome in Outcome}


# numbers


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("docs/operating.md", {300.0: "After five minutes"}[GONE_AFTER]),
        ("docs/operating.md", f"longer than {EVENT_LIMIT / 1e6:g} MB"),
        ("docs/operating.md", f"up to {HOLD_LIMIT / MIB:g} MiB, so it fails over"),
        ("docs/operating.md", f"bounded by {LIMIT / MIB:g} MiB"),
        ("docs/operating.md", f"served for {TRUSTED:g} seconds"),
        ("docs/operating.md", f"`client_timeout` ({CLIENT_TIMEOUT:g} s)"),
        ("docs/operating.md", f"{SLOWEST / 1024:g} KiB per second"),
        ("docs/operating.md", {8: "exceed eight times `max_body`"}[BODIES_AT_ONCE]),
        ("docs/operating.md", {5: "Five that die in a row"}[GIVE_UP_AFTER]),
        ("docs/writing-plugins.md", f"up to {CALL_LIMIT} seconds per call"),
        ("docs/architecture.md", f"within {CALL_LIMIT} seconds"),
        ("docs/architecture.md", f"honoured for {TRUSTED:g} seconds"),
    ],
)
def test_a_number_is_that_of_the_code(page: str, text: str) -> None:
    assert text in document(page).text
