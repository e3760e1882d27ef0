from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdgate.backend import Backend, Candidate, ModelEntry
from herdgate.catalogue import GONE_AFTER, Catalogue, ModelList
from herdgate.names import ModelName

NOW = 1_800_000_000.0
NEVER = float("-inf")


def backend(name: str, *, cloud: bool = False) -> Backend:
    return Backend(name, f"http://{name}", cloud=cloud)


def entry(name: str, modified_at: str = "2026-11-23T12:00:00Z", **more: object) -> ModelEntry:
    return ModelEntry.from_tags({"name": name, "model": name, "modified_at": modified_at, "size": 1, **more})


def stub(name: str, modified_at: str = "2026-11-23T12:00:00Z") -> ModelEntry:
    return entry(name, modified_at, remote_host="https://ollama.com:443", remote_model=name)


def catalogue(*parts: tuple[Backend, Sequence[ModelEntry]], age: float = 0.0) -> Catalogue:
    """A catalogue of these backends, in this order, all polled `age` seconds ago."""
    lists = {one.name: ModelList(one.name, tuple(entries), NOW - age) for one, entries in parts}
    return Catalogue.build([one for one, _ in parts], lists, NOW)


def shown(made: Catalogue) -> list[str]:
    return [one.name.display for one in made.union()]


def holders(made: Catalogue, name: str) -> list[str]:
    return [("gone " if one.gone else "") + one.backend.name for one in made.holders(ModelName.parse(name))]


# --- who holds a model ---------------------------------------------------------------------------------------------


def test_the_holders_of_a_model_come_in_configured_order() -> None:
    made = catalogue(
        (backend("b"), [entry("m"), entry("only-b")]), (backend("a"), [entry("m")]), (backend("c"), [entry("x")])
    )
    assert holders(made, "m") == ["b", "a"]
    assert holders(made, "only-b") == ["b"]


def test_a_candidate_has_its_own_backends_entry() -> None:
    first, second = backend("a"), backend("b")
    in_a, in_b = entry("m", digest="1" * 64), entry("M:LATEST", digest="2" * 64)
    made = catalogue((first, [in_a]), (second, [in_b]))
    found = made.holders(ModelName.parse("m"))
    assert found == (Candidate(first, in_a), Candidate(second, in_b))
    assert found[0] != Candidate(first, in_b)
    for name in ("backend", "gone", "another"):
        with pytest.raises(AttributeError):
            setattr(found[0], name, second)


@pytest.mark.parametrize(
    "asked",
    ["m", "M:Latest", "library/m", "registry.ollama.ai/library/m", "m:local", "https://registry.ollama.ai/library/m"],
)
def test_a_model_is_found_under_every_spelling(asked: str) -> None:
    assert holders(catalogue((backend("a"), [entry("Library/M")])), asked) == ["a"]


@pytest.mark.parametrize("asked", ["m:8b", "ns/m", "hf.co/library/m", "n", "m:cloud", "m:latest-cloud"])
def test_another_model_is_not_found(asked: str) -> None:
    assert holders(catalogue((backend("a"), [entry("m")])), asked) == []


def test_a_backend_without_a_list_and_a_list_without_a_backend_count_for_nothing() -> None:
    lists = {"a": ModelList("a", (entry("m"),), NOW), "gone from the configuration": ModelList("x", (entry("n"),), NOW)}
    made = Catalogue.build([backend("a"), backend("not polled yet")], lists, NOW)
    assert shown(made) == ["m:latest"]
    assert holders(made, "m") == ["a"]
    assert holders(made, "n") == []


# --- what is there at all ------------------------------------------------------------------------------------------


def test_a_model_on_several_backends_is_shown_once_with_the_entry_of_the_first() -> None:
    first, second = entry("M", digest="1" * 64), entry("m", "2027-01-01T00:00:00Z", digest="2" * 64)
    assert catalogue((backend("a"), [first]), (backend("b"), [second])).union() == (first,)
    assert catalogue((backend("b"), [second]), (backend("a"), [first])).union() == (second,)


def test_the_union_of_nothing_is_empty() -> None:
    made = Catalogue.build([], {}, NOW)
    assert made.union() == ()
    assert made.holders(ModelName.parse("m")) == ()


def test_the_latest_model_comes_first_whatever_the_time_zone_and_the_precision() -> None:
    times = {
        "newest": "2026-11-23T01:00:00.000000002-11:00",  # 12:00 UTC
        "second": "2026-11-23T13:59:59.99999999+02:00",
        "third": "2026-11-23T11:59:59.5Z",
        "fourth": "2026-11-23T11:59:59Z",
        "fifth": "2026-11-23T12:00:00+05:30",
        "oldest": "1999-12-31T23:59:59.123456789-01:00",
    }
    entries = [entry(name, at) for name, at in times.items()]
    for order in (entries, entries[::-1], entries[3:] + entries[:3]):
        assert [one.name.model for one in catalogue((backend("a"), order)).union()] == list(times)


@pytest.mark.parametrize(
    "unreadable", ["", "yesterday", "2026-11-23", "2026-13-45T00:00:00Z", "0001-01-01T00:00:00Z", "2026-11-23T00:00:00"]
)
def test_a_time_that_cannot_be_read_counts_as_the_oldest(unreadable: str) -> None:
    made = catalogue((backend("a"), [entry("a-unreadable", unreadable), entry("old", "1971-01-01T00:00:00Z")]))
    assert shown(made) == ["old:latest", "a-unreadable:latest"]


def test_a_missing_time_counts_as_the_oldest() -> None:
    missing = ModelEntry.from_tags({"name": "a-missing"})
    assert shown(catalogue((backend("a"), [missing, entry("old", "1971-01-01T00:00:00Z")])))[-1] == "a-missing:latest"


def test_models_of_the_same_time_come_by_name_in_every_build() -> None:
    entries = [entry(name) for name in ("c", "a:8b", "b", "a:70b", "ns/a")]
    for order in (entries, entries[::-1]):
        assert shown(catalogue((backend("a"), order))) == ["a:70b", "a:8b", "b:latest", "c:latest", "ns/a:latest"]


def test_the_union_is_worked_out_once() -> None:
    made = catalogue((backend("a"), [entry("m"), entry("n")]))
    assert made.union() is made.union()


# --- one backend's list --------------------------------------------------------------------------------------------


def test_names_of_one_backend_that_differ_only_in_case_are_one_model_and_the_same_one_in_every_poll() -> None:
    older, newer = entry("Foo", "2026-01-01T00:00:00Z"), entry("foo", "2026-02-01T00:00:00Z")
    twin = entry("FOO", "2026-02-01T00:00:00Z")
    for order in ([older, newer, twin], [twin, newer, older], [newer, older, twin]):
        made = catalogue((backend("a"), order))
        assert made.union() == (twin,)
        assert made.holders(ModelName.parse("foo")) == (Candidate(backend("a"), twin),)


def test_a_listed_name_that_ends_in_local_stands_for_no_model() -> None:
    made = catalogue((backend("old"), [entry("m:local")]))
    assert shown(made) == []
    assert holders(made, "m") == []


# --- stubs ---------------------------------------------------------------------------------------------------------


def test_a_stub_exists_only_on_a_backend_that_allows_cloud() -> None:
    closed = catalogue((backend("a"), [stub("gpt-oss:20b-cloud"), stub("plain"), entry("m")]))
    assert shown(closed) == ["m:latest"]
    assert holders(closed, "gpt-oss:20b-cloud") == holders(closed, "plain") == []

    opened = catalogue((backend("a", cloud=True), [stub("gpt-oss:20b-cloud"), stub("plain"), entry("m")]))
    assert shown(opened) == ["gpt-oss:20b-cloud", "m:latest", "plain:latest"]
    assert holders(opened, "gpt-oss:20b:cloud") == holders(opened, "plain") == ["a"]


@pytest.mark.parametrize("sign", [{"remote_host": "https://ollama.com"}, {"remote_model": "gpt-oss:20b"}])
def test_either_remote_field_makes_a_stub(sign: dict[str, str]) -> None:
    assert shown(catalogue((backend("a"), [entry("m", **sign)]))) == []


def test_empty_remote_fields_make_no_stub() -> None:
    assert shown(catalogue((backend("a"), [entry("m", remote_host="", remote_model="")]))) == ["m:latest"]


def test_a_cloud_name_needs_permission_even_without_the_fields_of_a_stub() -> None:
    assert shown(catalogue((backend("a"), [entry("m:8b-cloud"), entry("n:cloud")]))) == []
    assert shown(catalogue((backend("a", cloud=True), [entry("m:8b-cloud")]))) == ["m:8b-cloud"]


def test_only_the_backends_that_allow_cloud_hold_a_stub() -> None:
    made = catalogue((backend("a"), [stub("m:cloud")]), (backend("b", cloud=True), [stub("m:cloud")]))
    assert holders(made, "m:cloud") == ["b"]


def test_a_stub_never_stands_beside_a_local_model_of_its_name_wherever_that_is() -> None:
    local = entry("m")
    made = catalogue((backend("a", cloud=True), [stub("M")]), (backend("b"), [local]))
    assert holders(made, "m") == ["b"]
    assert made.union() == (local,)
    within_one = catalogue((backend("a", cloud=True), [stub("M"), local]))
    assert within_one.union() == (local,)
    assert [one.model for one in within_one.holders(local.name)] == [local]


def test_a_local_model_whose_machine_is_down_does_not_turn_into_a_stub() -> None:
    lists = {"a": ModelList("a", (entry("m"),), NOW - GONE_AFTER), "b": ModelList("b", (stub("m"),), NOW)}
    made = Catalogue.build([backend("a"), backend("b", cloud=True)], lists, NOW)
    assert holders(made, "m") == ["gone a"]
    assert shown(made) == []


@pytest.mark.parametrize(
    ("held", "asked", "cloud"),
    [
        ([[stub("m")], []], "m", True),
        ([[], [stub("m")]], "m", True),
        ([[stub("m")], [stub("m")]], "m", True),
        ([[stub("m")], []], "m:local", False),
        ([[stub("m")], [entry("m")]], "m", False),
        ([[entry("m")], [stub("m")]], "m", False),
        ([[stub("m"), entry("m")], []], "m", False),
        ([[entry("m")], []], "m", False),
        ([[stub("other")], [entry("another")]], "m", False),
        ([[], []], "m", False),
    ],
)
def test_a_model_sends_prompts_to_a_third_party_if_nothing_but_a_stub_is_held(
    held: list[list[ModelEntry]], asked: str, cloud: bool
) -> None:
    one, two = held
    made = catalogue((backend("a", cloud=True), one), (backend("b", cloud=True), two))
    assert made.look_up(ModelName.parse(asked)).cloud is cloud


def test_a_local_name_finds_the_local_model_and_no_stub() -> None:
    made = catalogue((backend("a", cloud=True), [stub("remote"), entry("m")]))
    assert holders(made, "m:local") == ["a"]
    assert holders(made, "remote") == ["a"]
    assert holders(made, "remote:local") == []


def test_a_cloud_name_never_finds_the_local_model() -> None:
    made = catalogue((backend("a", cloud=True), [entry("m"), entry("m:8b"), stub("n:8b-cloud")]))
    for asked in ("m:cloud", "m:8b-cloud", "m:8b:cloud", "n:cloud"):
        assert holders(made, asked) == []
    assert holders(made, "n:8b") == []
    assert holders(made, "n:8b-cloud") == ["a"]


# --- backends that do not answer -----------------------------------------------------------------------------------


def test_a_backend_that_cannot_be_polled_keeps_its_models_for_five_minutes() -> None:
    assert GONE_AFTER == 300
    made = catalogue((backend("a"), [entry("m")]), age=299.9)
    assert shown(made) == ["m:latest"]
    assert holders(made, "m") == ["a"]


def test_after_five_minutes_its_models_leave_the_listings_but_routing_remembers_them() -> None:
    made = catalogue((backend("a"), [entry("m")]), age=300)
    assert shown(made) == []
    assert holders(made, "m") == ["gone a"]
    assert made.known


def test_when_the_first_backend_is_gone_the_next_one_decides_the_entry() -> None:
    in_b = entry("M", digest="2" * 64)
    lists = {"a": ModelList("a", (entry("m"),), NOW - 1000, error="refused"), "b": ModelList("b", (in_b,), NOW)}
    made = Catalogue.build([backend("a"), backend("b")], lists, NOW)
    assert made.union() == (in_b,)
    assert holders(made, "m") == ["gone a", "b"]


def test_a_failed_poll_changes_nothing_while_the_last_good_one_is_recent() -> None:
    lists = {"a": ModelList("a", (entry("m"),), NOW - 10, error="connection refused")}
    made = Catalogue.build([backend("a")], lists, NOW)
    assert shown(made) == ["m:latest"]
    assert holders(made, "m") == ["a"]


def test_a_clock_that_was_set_back_makes_nobody_gone() -> None:
    assert holders(catalogue((backend("a"), [entry("m")]), age=-5000), "m") == ["a"]


def test_nothing_is_known_before_the_first_good_poll() -> None:
    assert not Catalogue.build([backend("a")], {}, NOW).known
    assert not Catalogue.build([backend("a")], {"a": ModelList("a", (), NEVER, "refused")}, NOW).known
    assert not Catalogue.build([], {"a": ModelList("a", (entry("m"),), NOW)}, NOW).known


def test_an_empty_list_is_knowledge_too() -> None:
    lists = {"a": ModelList("a", (), NEVER, "refused"), "b": ModelList("b", (), NOW)}
    assert Catalogue.build([backend("a"), backend("b")], lists, NOW).known


# --- against the rules, written down naively -----------------------------------------------------------------------


NAMES = ["m", "M", "n:8b", "N:8B", "m:cloud", "n:8b-cloud", "m:local", "ns/m"]
entries = st.builds(
    lambda name, day, remote: (stub if remote else entry)(name, f"2026-11-{day:02d}T00:00:00Z"),
    st.sampled_from(NAMES),
    st.integers(1, 3),
    st.sampled_from([False, False, True]),
)
parts = st.lists(
    st.tuples(st.lists(entries, max_size=4), st.booleans(), st.sampled_from([0.0, 299.0, 300.0, 9000.0])), max_size=4
)


def is_remote(one: ModelEntry) -> bool:
    return one.name.source == "cloud" or "remote_host" in one.raw


@given(parts)
def test_any_catalogue_follows_the_rules(given_parts: list[tuple[list[ModelEntry], bool, float]]) -> None:
    backends = [backend(f"b{i}", cloud=cloud) for i, (_, cloud, _) in enumerate(given_parts)]
    lists = {
        one.name: ModelList(one.name, tuple(listed), NOW - age)
        for one, (listed, _, age) in zip(backends, given_parts, strict=True)
    }
    made = Catalogue.build(backends, lists, NOW)
    expected_union = set()
    for key in {ModelName.parse(name).key for name in NAMES}:
        usable = [
            (one, model)
            for one in backends
            for model in lists[one.name].entries
            if model.name.key == key and model.name.source != "local" and (one.cloud or not is_remote(model))
        ]
        if any(not is_remote(model) for _, model in usable):
            usable = [(one, model) for one, model in usable if not is_remote(model)]
        in_order = list(dict.fromkeys(one.name for one, _ in usable))
        found = made.holders(ModelName.parse(key))
        assert [one.backend.name for one in found] == in_order
        assert all((one.backend, one.model) in usable for one in found)
        assert [one.gone for one in found] == [NOW - lists[name].fetched_at >= GONE_AFTER for name in in_order]
        expected_union |= {found[i].model.name.key for i in range(len(found)) if not found[i].gone}
        present = [one.model for one in found if not one.gone]
        assert [one for one in made.union() if one.name.key == key] == present[:1]
    assert {one.name.key for one in made.union()} == expected_union
    times = [one.modified for one in made.union()]
    assert times == sorted(times, reverse=True)


@given(st.lists(st.tuples(st.integers(0, 10**9 - 1), st.integers(0, 9), st.integers(-14 * 60, 14 * 60)), max_size=6))
def test_models_are_ordered_by_the_moment_however_it_is_written(moments: list[tuple[int, int, int]]) -> None:
    entries = []
    for i, (second, digits, offset) in enumerate(moments):
        zone_sign, zone = "-" if offset < 0 else "+", abs(offset)
        local = datetime.fromtimestamp(second, UTC) + timedelta(minutes=offset)
        fraction = "." + "123456789"[:digits] if digits else ""
        at = f"{local:%Y-%m-%dT%H:%M:%S}{fraction}{zone_sign}{zone // 60:02d}:{zone % 60:02d}"
        entries.append((second, entry(f"m{i}", at)))
    made = catalogue((backend("a"), [one for _, one in entries]))
    seconds = {one.name.key: second for second, one in entries}
    order = [seconds[one.name.key] for one in made.union()]
    assert order == sorted(order, reverse=True)
