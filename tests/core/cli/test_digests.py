"""Which models the backends hold in different versions under one name."""

from herdgate.backend import BackendSettings, ModelEntry
from herdgate.cli.digests import differing
from herdgate.cli.discover import Asked


def asked(name: str, **digests: str) -> Asked:
    entries = tuple(ModelEntry.from_tags({"name": model, "digest": digest}) for model, digest in digests.items())
    return Asked(BackendSettings(name=name, base_url="http://gpu"), entries=entries)


def test_only_digests_that_are_known_can_differ() -> None:
    backends = [asked("one", a="x", b="x", c="x"), asked("two", a="y", b="x", c=""), asked("three", a="x")]
    assert differing(backends) == {"a:latest": {"one": "x", "two": "y", "three": "x"}}


def test_of_nobody_nothing_is_said() -> None:
    assert differing([]) == {}
