"""How a stream of Ollama's own API ends: what its last line says. Pure."""

from __future__ import annotations

import json


def says_done(tail: bytes) -> bool:
    """Whether the last line is there to its very end and says that it is the last one."""
    line, finished = _last_line(tail)
    return finished and _is_final(line)


def ended_well(tail: bytes, *, whole: bool, delimited: bool) -> bool:
    """Whether a backend has ended a stream, or something has ended it in the middle.

    `tail` is the end of the body, or all of it if `whole`. `delimited`: the body itself has told where it ends. Such a
    one may end without `done` (Ollama stops so after many repeats of one token), but inside no line. In any other the
    death of the backend looks like the end, so `done` is needed. A line that is too long to be looked at is believed.
    """
    line, finished = _last_line(tail)
    if not finished and _read(line) is None:
        return False
    seen = whole or b"\n" in tail.rstrip()
    return delimited or not seen or _is_final(line)


def _last_line(tail: bytes) -> tuple[bytes, bool]:
    """The last line that is not blank, and whether its end has come."""
    said = tail.rstrip()
    return said.rpartition(b"\n")[2], b"\n" in tail[len(said) :]


def _is_final(line: bytes) -> bool:
    """Whether nothing follows this line: `done`, or an error, with which a backend ends its stream as well."""
    said = _read(line)
    return said is not None and (said.get("done") is True or bool(said.get("error")))


def _read(line: bytes) -> dict[str, object] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
