import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from herdgate.access import Action
from herdgate.errors import Reply
from herdgate.faults import Ledger, PluginFault
from herdgate.routes import Call, Route, StreamedReply
from herdgate.routetable import RouteTable
from herdgate.surface import Family, Treatment


async def answer(_: Call) -> Reply:
    return Reply(200)


def route(path: str, *methods: str) -> Route:
    return Route(path, answer, Action.MANAGE, frozenset(methods or ("GET",)))


def table(*routes: Route) -> RouteTable:
    return RouteTable.build([(f"plugin{number}", each) for number, each in enumerate(routes)], Ledger())


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/herdgate/usage", "/herdgate/usage"),
        ("/herdgate/usage/", "/herdgate/"),
        ("/herdgate/keys/a/b", "/herdgate/keys/"),
        ("/herdgate/keys/", "/herdgate/"),
        ("/herdgate/", None),
        ("/herdgate", None),
        ("/HERDGATE/usage", None),
        ("/metrics", None),
    ],
)
def test_the_longest_path_that_fits_answers(path: str, found: str | None) -> None:
    routes = table(route("/herdgate/"), route("/herdgate/usage"), route("/herdgate/keys/"))
    mounted = routes.find(path)
    assert (mounted and mounted.route.path) == found
    assert (routes.endpoint(path) is None) == (found is None)


def test_a_route_has_a_row_like_any_other_path() -> None:
    row = table(route("/v1/files/", "GET", "POST")).endpoint("/v1/files/a")
    assert row is not None
    assert (row.family, row.treatment, row.action) == (Family.OPENAI, Treatment.PLUGIN, Action.MANAGE)
    assert set(row.methods) == {"GET", "POST"}
    assert row.prefix


@pytest.mark.parametrize(
    ("path", "methods", "problem"),
    [
        ("/api/chat", ["POST"], "the path /api/chat is the gateway's own"),
        ("/healthz", ["GET"], "the path /healthz is the gateway's own"),
        ("/v1/models/mine", ["GET"], "the path /v1/models/mine is the gateway's own"),
        ("/v1/models/", ["GET"], "the path /v1/models/ is the gateway's own"),
        ("/api/pull", ["GET", "POST"], "the path /api/pull takes POST and nothing else"),
        ("/herdgate/one", ["GET"], "the path /herdgate/one is already that of plugin0"),
    ],
)
def test_a_path_that_is_taken_is_a_fault_of_the_plugin(path: str, methods: list[str], problem: str) -> None:
    with pytest.raises(PluginFault, match=f"plugin plugin1 failed in routes: {problem}"):
        table(route("/herdgate/one"), route(path, *methods))


@pytest.mark.parametrize("path", ["/api/pull", "/api/blobs/", "/api/experimental/web_search", "/api/", "/v1/files"])
def test_what_is_refused_or_unknown_may_be_taken_over(path: str) -> None:
    mounted = table(route(path, "POST")).find(f"{path}x" if path.endswith("/") else path)
    assert mounted is not None
    assert mounted.plugin == "plugin0"


@pytest.mark.parametrize("path", ["", "metrics", "/", "//a", "/a//b", "/a?b", "/a%20b", "/a b", "/../a", "/a/.b", "/ä"])
def test_a_path_stands_as_in_a_request_line(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        route(path)


def test_a_route_says_how_it_may_be_used() -> None:
    for methods in (frozenset[str](), frozenset({"get"}), frozenset({"OPTIONS"})):
        with pytest.raises(ValueError, match="methods of a route"):
            Route("/a", answer, Action.MANAGE, methods)
    with pytest.raises(ValueError, match="deadline"):
        Route("/a", answer, Action.MANAGE, deadline=0)
    with pytest.raises(ValueError, match="must say which action"):
        Route("/a", answer, None)  # type: ignore[arg-type]


def test_a_streamed_reply_has_headers_that_can_be_sent() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    assert StreamedReply(200, {"Content-Type": "text/plain"}, pieces()).headers == {"content-type": "text/plain"}
    with pytest.raises(ValueError, match="cannot have the header"):
        StreamedReply(200, {"content-length": "3"}, pieces())


class Impostor:
    """Says that it is what it is not."""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": 7}, "is not a path"),
        ({"path": b"/mine"}, "is not a path"),
        ({"handler": None}, "the handler of /mine is a method that takes a Call, not NoneType"),
        ({"handler": Impostor()}, "the handler of /mine is a method that takes a Call, not Impostor"),
        ({"methods": "POST"}, "are a set, such as {\"POST\"}, not 'POST'"),
        ({"methods": None}, "are a set"),
        ({"methods": (7,)}, "the methods of a route are some of"),
        ({"action": "administer"}, "must say which action"),
        ({"deadline": "30"}, "a deadline is a number of seconds above 0"),
        ({"deadline": 0}, "a deadline is a number of seconds above 0"),
    ],
)
def test_a_route_that_cannot_be_meant(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        Route(**{"path": "/mine", "handler": answer, "action": Action.MANAGE, **arguments})


def test_methods_come_in_whatever_holds_several() -> None:
    for several in (("GET", "POST"), {"GET", "POST"}, frozenset({"GET", "POST"})):
        assert Route("/mine", answer, Action.MANAGE, several).methods == {"GET", "POST"}
