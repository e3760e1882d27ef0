"""The framing corpus as a whole."""

from __future__ import annotations

from tests.stories.framing import bodies, heads, targets
from tests.stories.framing.case import Table

GROUPS: dict[str, Table] = {
    "request line": heads.REQUEST_LINES,
    "header": heads.HEADERS,
    "Host": heads.HOSTS,
    "Content-Length": bodies.LENGTHS,
    "Transfer-Encoding": bodies.CODINGS,
    "chunks": bodies.CHUNK_LINES,
    "target": targets.TARGETS,
    "method": targets.METHODS,
    "connection": targets.CONNECTIONS,
    "unfinished": targets.UNFINISHED,
}
CASES: Table = {f"{group}: {name}": case for group, table in GROUPS.items() for name, case in table.items()}
