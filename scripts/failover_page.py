"""docs/failover.md from the table of the failover contract and from the code that decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from herdgate.errors import in_band
from herdgate.exhausted import conclude
from herdgate.failovertable import AFTER_THE_FIRST_BYTE, BEFORE_THE_FIRST_EVENT, ERROR_TEXT, Happening, Replies
from herdgate.failure import Failure, GiveUp, Kind, Phase, default_verdict
from herdgate.relay import BROKE
from herdgate.surface import find

INTRO = """\
# Failover

What a backend may do to a request, phase by phase, and what becomes of the request then. This page is made from the
table in [failovertable.py](../core/herdgate/failovertable.py) and from the functions that decide; every cell of it is
tried over real sockets, for each of the APIs, streamed and not
([test_failover_cells.py](../tests/stories/test_failover_cells.py)). [Operating](operating.md#failover) says the same
from the operator's side.

- **Another backend** is the next candidate. Each attempt starts from the client's own request again. "One" means that
  the next backend which gets as far as answering is the last.
- **If none is left** is what the client gets when all candidates have failed in this way. Of several ways the best
  that can be said counts, see [Operating](operating.md#failover). "Its text" is what the backend said, without
  addresses and paths of the inside.
- **Taken for** are the `kind` and the `phase` of the [`Failure`](hooks.md#names-to-import) that plugins see in
  [`judge_failure`](hooks.md#judge_failure), where they may decide otherwise.
"""

PHASES = {
    Phase.CONNECT: ("Before anything was sent", "The backend knows nothing of the request."),
    Phase.SENT: (
        "The request was sent, no reply has begun",
        "The backend may be working on it. Nothing has reached the client, so asking another one can at worst make two "
        "compute the same.",
    ),
    Phase.OPENING: (
        "The reply has begun, the first event is not complete",
        "Nothing is released before the first event of a stream is there and looks good. A reply that is not streamed "
        "is held as a whole, up to 8 MiB.",
    ),
}

LAST = """\
## After the first byte

The client has a part of the reply, so nothing is tried again, and nothing ends as if it were complete. A stream that
cannot go on ends with an error in the client's format and, where the API has one, without its terminal event. A reply
that is not streamed gets here only if it is longer than what is held; all that can be done is to cut its connection,
which HTTP clients report.
"""

IN_BAND = """\
## Errors inside a stream

| API | the last thing in the stream |
| --- | --- |
"""
STREAMS = {
    "Ollama": "/api/chat",
    "OpenAI, chat and completions": "/v1/chat/completions",
    "OpenAI, responses": "/v1/responses",
    "Anthropic": "/v1/messages",
}

Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def page(table: Table) -> str:
    """The whole page, but for the note at its head."""
    sections = (_section(phase, table) for phase in PHASES)
    return "\n".join([INTRO, *sections, _last(table), IN_BAND + "".join(_in_band())])


def _section(phase: Phase, table: Table) -> str:
    title, about = PHASES[phase]
    rows = [_row(row) for row in BEFORE_THE_FIRST_EVENT if row.failure.phase is phase]
    titles = ("what happens", "to which requests", "taken for", "another backend?", "if none is left")
    return f"## {title}\n\n{about}\n\n{table(titles, rows)}"


def _row(row: Happening) -> tuple[str, ...]:
    taken_for = f"`{row.failure.kind}`, `{row.failure.phase}`"
    concerned = "" if row.replies is Replies.ALL else row.replies.value
    return row.what, concerned, taken_for, _next(row.failure), _if_none_is_left(row.failure)


def _next(failure: Failure) -> str:
    if isinstance(default_verdict(failure, ()), GiveUp):
        return "no"
    elsewhere = Failure(Kind.STATUS, Phase.OPENING, "", 503)
    return "one" if isinstance(default_verdict(elsewhere, [failure]), GiveUp) else "yes"


def _if_none_is_left(failure: Failure) -> str:
    conclusion = conclude([failure])
    if conclusion.denied:
        return "the generic 403"
    text = ", its text" if conclusion.message == ERROR_TEXT else ""
    return f"{conclusion.status}{text}{', `Retry-After`' if conclusion.retry_after is not None else ''}"


def _last(table: Table) -> str:
    columns = (Replies.NDJSON, Replies.SSE, Replies.WHOLE)
    rows = [
        (row.what, *(row.ends[each].value if each in row.ends else "" for each in columns))
        for row in AFTER_THE_FIRST_BYTE
    ]
    return f"{LAST}\n{table(('what happens', *(each.value for each in columns)), rows)}"


def _in_band() -> Iterable[str]:
    for api, path in STREAMS.items():
        endpoint = find(path)
        if endpoint is not None:
            lines = in_band(endpoint, BROKE).decode().strip().splitlines()
            yield f"| {api} | {'<br>'.join(f'`{line}`' for line in lines)} |\n"
