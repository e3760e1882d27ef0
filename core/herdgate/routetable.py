"""All paths that are answered by plugins or by the gateway's own pages. Made once, at the start.

The table of `surface` comes first: what it routes or answers is nobody else's. What it refuses a plugin may take over,
and what it does not know as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from herdgate.faults import Ledger, PluginFault
from herdgate.routes import Route
from herdgate.surface import Endpoint, Treatment, family_of, find


@dataclass(frozen=True, slots=True)
class Mounted:
    """A route and whose it is. `endpoint` is its row, as if it stood in the table of `surface`."""

    plugin: str
    route: Route
    endpoint: Endpoint


class RouteTable:
    """Finds the route of a path. The longest prefix counts."""

    def __init__(self, mounted: Iterable[Mounted] = ()) -> None:
        every = list(mounted)
        self._exact = {each.route.path: each for each in every if not each.endpoint.prefix}
        below = [each for each in every if each.endpoint.prefix]
        self._below = tuple(sorted(below, key=lambda each: len(each.route.path), reverse=True))

    @classmethod
    def build(cls, routes: Iterable[tuple[str, Route]], ledger: Ledger, *, own: Iterable[Mounted] = ()) -> RouteTable:
        """The table of the gateway's `own` pages and of plugins' routes, each with the name of its plugin.

        Raises PluginFault if a route cannot be served.
        """
        mounted = {each.route.path: each for each in own}
        for plugin, route in routes:
            if problem := _problem(route, mounted):
                fault = PluginFault(plugin, "routes", problem)
                ledger.record(fault)
                raise fault
            mounted[route.path] = Mounted(plugin, route, _row(route))
        return cls(mounted.values())

    def find(self, path: str) -> Mounted | None:
        """Who answers a path exactly as it stands in the request line; None if nobody does."""
        found = self._exact.get(path)
        if found is not None:
            return found
        for each in self._below:
            if path.startswith(each.route.path) and len(path) > len(each.route.path):
                return each
        return None

    def endpoint(self, path: str) -> Endpoint | None:
        """The row of a path that the table of `surface` does not have; None if nobody answers it."""
        found = self.find(path)
        return found.endpoint if found else None

    @property
    def mounted(self) -> tuple[Mounted, ...]:
        """All routes, in the order in which a path is looked for."""
        return (*self._exact.values(), *self._below)


def own_page(route: Route, *, public: bool = False) -> Mounted:
    """A page of the gateway itself; a `public` one is for everybody, with or without a key."""
    row = _row(route)
    return Mounted("herdgate", route, replace(row, treatment=Treatment.OPEN) if public else row)


def _problem(route: object, mounted: dict[str, Mounted]) -> str | None:
    """Why a route cannot be served, in words for its author."""
    if not isinstance(route, Route):
        return f"returned {type(route).__name__} among its routes"
    if route.path in mounted:
        return f"the path {route.path} is already that of {mounted[route.path].plugin}"
    row = find(f"{route.path}x" if route.path.endswith("/") else route.path)
    if row is None:
        return None
    if row.treatment is not Treatment.REFUSED:
        return f"the path {route.path} is the gateway's own"
    if not frozenset(route.methods) <= row.methods:
        return f"the path {route.path} takes {', '.join(sorted(row.methods))} and nothing else"
    return None


def _row(route: Route) -> Endpoint:
    path = route.path
    family = family_of(path)
    return Endpoint(
        path, path, frozenset(route.methods), family, Treatment.PLUGIN, route.action, prefix=path.endswith("/")
    )
