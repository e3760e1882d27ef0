import pytest

from herdgate.backend import Backend, Candidate, ModelEntry
from herdgate.hookpoints import Chain, Contexts, First, FirstAsync, Gather, Guard, MaskDenial, Notify
from herdgate.hooks import INFO, Kind
from herdgate.plugins import Plugin
from herdgate.point import Impl, Point
from herdgate.points import HookPoints, narrowed

CALLED_AS = {
    Kind.FIRST: (First, FirstAsync, MaskDenial),
    Kind.CHAIN: (Chain,),
    Kind.GUARD: (Guard,),
    Kind.CONTEXTS: (Contexts,),
    Kind.GATHER: (Gather,),
    Kind.FILTERS: (Gather,),
    Kind.NOTIFY: (Notify,),
}


def plugin(name: str, *hooks: str) -> Plugin:
    impls = {hook: Impl(name, print) for hook in hooks}
    return Plugin(name, object(), "test", "1", "plugins.toml:1", impls)


@pytest.mark.parametrize("hook", INFO)
def test_every_hook_has_a_point_of_its_kind_under_its_name(hook: str) -> None:
    points = HookPoints([plugin("b", hook), plugin("none"), plugin("a", *INFO)])
    assert [each.name for each in points.plugins] == ["b", "none", "a"]
    point: Point = getattr(points, hook)
    assert point.hook == hook
    assert isinstance(point, CALLED_AS[INFO[hook].kind])
    assert [impl.plugin for impl in point.impls] == ["b", "a"]
    assert point.ledger is points.ledger


@pytest.mark.parametrize("hook", INFO)
def test_a_sync_hook_has_a_point_that_never_waits(hook: str) -> None:
    if INFO[hook].kind is Kind.FIRST:
        waits = isinstance(getattr(HookPoints([]), hook), FirstAsync)
        assert waits is not INFO[hook].sync


def candidate(name: str) -> Candidate:
    return Candidate(Backend(name, f"http://{name}"), ModelEntry.from_tags({"name": "llama3"}))


A, B, C = map(candidate, "abc")


@pytest.mark.parametrize("left", [[A, B, C], [C, A, B], [B], [], (C,)])
def test_candidates_may_be_narrowed_and_reordered(left: list[Candidate]) -> None:
    assert narrowed([A, B, C], left) == tuple(left)


@pytest.mark.parametrize("left", [[A, A], [A, B, A], [candidate("d")], [A, candidate("a")], ["a"], [None]])
def test_candidates_may_not_be_added_doubled_or_made_anew(left: list[Candidate]) -> None:
    with pytest.raises(ValueError, match="which it was not given or returned twice"):
        narrowed([A, B], left)
