"""`GET /herdgate/openapi.json`: the OpenAPI document of this very gateway, the routes of its plugins included."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import herdgate
from herdgate.access import Action
from herdgate.errors import JSON, Reply, dump
from herdgate.openapi import document
from herdgate.routes import Call, Route
from herdgate.surface import ENDPOINTS, Endpoint

PATH = "/herdgate/openapi.json"


def openapi_route(own: Callable[[], Iterable[Endpoint]]) -> Route:
    """Where it is served, and to whom. `own` gives the rows that are not in the table of `surface`."""

    async def answer(_: Call) -> Reply:
        return Reply(200, {"content-type": JSON}, dump(document(herdgate.__version__, (*ENDPOINTS, *own()))))

    return Route(PATH, answer, Action.ADMINISTER)
