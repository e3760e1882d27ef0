"""The page docs/surface.md, from the table of endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from herdgate.expected import Situation, expected
from herdgate.surface import ENDPOINTS, Endpoint

Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]
"""Writes a table in Markdown, from its titles and its rows."""

INTRO = """\
# The surface

Every path that the gateway answers, with the built-in plugins. One table in the code
([surface.py](../core/herdgate/surface.py)) drives routing, checks, this page and the test that asks for every cell of
it ([test_surface.py](../tests/stories/test_surface.py)). A path that is not here is a 404, another method a 405, both
as JSON; `OPTIONS` is answered for every path.

- **no key**: keys were made, and the caller brings none.
- **allowed**, **forbidden**, **unknown**: the caller has a key, and the model is one that it may use, one that it may
  not use, one that nobody has.
- **malformed**: a body, or a name in a path, that cannot be read.
- **backend down**: no backend with the model can be reached, since less than five minutes.

A 403 is [the generic one](security.md#the-generic-403). "200, without it" is a listing that leaves out what the caller
may not see. Plugins change this table: those that manage models answer what is refused here.
"""

FAMILIES = """\
## Errors

The path alone decides what an error looks like, never the backend: what a backend says is put into the caller's form.

| path | body | in a stream that breaks |
| --- | --- | --- |
| `/v1/messages…` | `{"type":"error","error":{"type":"…","message":"…"},"request_id":"…"}` | event `error`, the same |
| `/v1/responses` | as the next row | event `error` with `message` and `error.message` |
| `/v1/…` | `{"error":{"message":"…","type":"…","param":null,"code":null}}` | `data: {"error":{…}}`, no `[DONE]` |
| everything else | `{"error":"…"}` | a last line `{"error":"…"}` |

## Requests that name a model

"a complete stream" has a line that begins like this near its end; one that ends without it gets an error as last event.
A stream of Ollama's own API may end without `done`.
"""


BELOW = {"model": "NAME", "blobs": "DIGEST"}
"""What stands below a path."""


def page(table: Table) -> str:
    """The page about all paths."""
    titles = ("path", "methods", "what happens", *Situation)
    rows = [
        (_path(each), _methods(each), _treatment(each), *(_cell(each, where) for where in Situation))
        for each in ENDPOINTS
    ]
    reading = [
        (
            _path(each),
            "a form" if each.form else "JSON, also zstd" if each.zstd else "JSON",
            ", else ".join(f"`{name}`" for name in each.model_fields),
            "never" if each.streams is None else "if asked" if not each.streams else "unless told not to",
            ", ".join(f"`{terminal.decode()}`" for terminal in each.terminals),
        )
        for each in ENDPOINTS
        if each.model_fields
    ]
    asked = ("path", "body", "the model is in", "streams", "a complete stream")
    return "\n".join([INTRO, table(titles, rows), FAMILIES, table(asked, reading)])


def _path(endpoint: Endpoint) -> str:
    return f"`{endpoint.path}{BELOW.get(endpoint.name, 'PATH') if endpoint.prefix else ''}`"


def _methods(endpoint: Endpoint) -> str:
    every = len(endpoint.methods) > 2
    return "any" if every else ", ".join(sorted(endpoint.methods))


def _treatment(endpoint: Endpoint) -> str:
    return endpoint.treatment.value


def _cell(endpoint: Endpoint, situation: Situation) -> str:
    status = expected(endpoint, situation)
    if status == 200 and situation is Situation.FORBIDDEN:
        return "200, without it"
    return "" if status is None else str(status)
